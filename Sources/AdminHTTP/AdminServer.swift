import CMicrohttpd
import Foundation
import Telemetry

/// The HTTP server for administration and metrics. It runs libmicrohttpd on a separate thread.
public final class AdminServer: Sendable {
    public struct Settings: Sendable {
        /// Whether the server may listen on addresses that other machines can reach.
        public var allowsRemote = false
        /// Host names that the Host header of a request may contain, in addition to the server's own names.
        public var hosts: [String] = []
        var limits = ConnectionTable.Limits()

        public init() {}
    }

    /// The address that the server listens on. If port 0 was requested, this contains the port that the system chose.
    public let address: ListenAddress
    private let socket: ListeningSocket
    private let daemon: Daemon
    private let dispatcher: Dispatcher

    /// Starts the server.
    ///
    /// - Parameter authenticator: identifies callers. Without an authenticator, only open routes can be used, and all
    ///   other routes return 401.
    /// - Throws: `ServerError`.
    public init(
        _ address: ListenAddress, routes: [Route], authenticator: (any Authenticator)? = nil,
        settings: Settings = Settings(), logger: Logger = .silent
    ) throws {
        socket = try ListeningSocket(address, isRemoteAllowed: settings.allowsRemote)
        self.address = socket.address
        let hosts = HostPolicy(address, isRemote: settings.allowsRemote, machine: Self.machine, more: settings.hosts)
        let dispatcher = Dispatcher(
            router: Router(routes: routes), authenticator: authenticator, hosts: hosts, limits: settings.limits,
            logger: logger)
        guard let dispatcher, let daemon = Daemon(dispatcher, socket.descriptor, settings.limits) else {
            close(socket.descriptor)
            socket.file?.remove()
            dispatcher?.watch.stop()
            throw ServerError(address, "the server did not start")
        }
        self.dispatcher = dispatcher
        self.daemon = daemon
    }

    /// The name of this machine as set locally, without a query over the network.
    private static var machine: String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Stops the server: cancels the handlers, waits for them, and closes all connections. Answers that are being sent
    /// are cut off. This call blocks; do not call it on the cooperative pool.
    ///
    /// - Parameter limit: how long to wait for handlers. Handlers that ignore cancellation continue to run after that,
    ///   and their answers are discarded.
    public func stop(within limit: Duration = .seconds(5)) {
        // Remove the file while the server still listens. As soon as the server stops listening, another process may
        // consider the socket stale and replace it.
        if daemon.isRunning { socket.file?.remove() }
        dispatcher.tasks.stop(within: limit)
        daemon.stop()
        dispatcher.watch.stop()
    }

    deinit { stop(within: .zero) }
}

// @unchecked: libmicrohttpd's functions on a daemon are thread-safe, and `stop` runs once, under the lock.
private final class Daemon: @unchecked Sendable {
    private var raw: OpaquePointer?
    private let lock = NSLock()

    init?(_ dispatcher: Dispatcher, _ descriptor: Int32, _ limits: ConnectionTable.Limits) {
        var callbacks = Callbacks.all(dispatcher)
        // libmicrohttpd allows more connections than `limits`, because connections that are being closed still exist
        // when new ones replace them.
        let most = UInt32(limits.connections + 64)
        let silence = UInt32(max(limits.idle / .seconds(1), 1).rounded(.up)) + 5
        guard
            let raw = reeve_mhd_start(
                MHD_USE_AUTO_INTERNAL_THREAD.rawValue | MHD_ALLOW_SUSPEND_RESUME.rawValue, &callbacks, descriptor, most,
                silence, 32 * 1024)
        else { return nil }
        self.raw = raw
    }

    var isRunning: Bool { lock.withLock { raw != nil } }

    func stop() {
        lock.withLock {
            if let raw { MHD_stop_daemon(raw) }
            raw = nil
        }
    }
}

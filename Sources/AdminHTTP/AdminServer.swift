import CMicrohttpd
import Foundation
import Telemetry

/// The HTTP server for administration and metrics, on libmicrohttpd with a thread of its own.
public final class AdminServer: Sendable {
    public struct Settings: Sendable {
        /// Whether it may listen where other machines reach it.
        public var allowsRemote = false
        /// Names under which it may be asked beside those that are its own.
        public var hosts: [String] = []
        var limits = ConnectionTable.Limits()

        public init() {}
    }

    /// Where it listens; the port is the real one when any was asked for.
    public let address: ListenAddress
    private let socket: ListeningSocket
    private let daemon: Daemon
    private let dispatcher: Dispatcher

    /// Starts to listen and to answer.
    ///
    /// - Throws: `ServerError`.
    public init(
        _ address: ListenAddress, routes: [Route], settings: Settings = Settings(), logger: Logger = .silent
    ) throws {
        socket = try ListeningSocket(address, isRemoteAllowed: settings.allowsRemote)
        self.address = socket.address
        dispatcher = Dispatcher(
            router: Router(routes: routes, isRemote: settings.allowsRemote),
            hosts: HostPolicy(
                address, isRemote: settings.allowsRemote, machine: Self.machine, more: settings.hosts),
            limits: settings.limits, logger: logger)
        guard let daemon = Daemon(dispatcher, socket.descriptor, settings.limits) else {
            close(socket.descriptor)
            socket.file?.remove()
            dispatcher.watch.stop()
            throw ServerError(address, "the server did not start")
        }
        self.daemon = daemon
    }

    /// This machine's name, as it is set here; nobody is asked over the network.
    private static var machine: String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Stops to answer; what is being sent is cut off.
    public func stop() {
        // The name first: once nobody listens, another may take it for left over.
        if daemon.isRunning { socket.file?.remove() }
        daemon.stop()
        dispatcher.watch.stop()
    }

    deinit { stop() }
}

// @unchecked: libmicrohttpd's functions on a daemon are thread-safe, and `stop` runs once, under the lock.
private final class Daemon: @unchecked Sendable {
    private var raw: OpaquePointer?
    private let lock = NSLock()

    init?(_ dispatcher: Dispatcher, _ descriptor: Int32, _ limits: ConnectionTable.Limits) {
        var callbacks = reeve_mhd_callbacks(
            handle: Dispatcher.handle, completed: Dispatcher.completed, notify: Dispatcher.notify,
            context: Unmanaged.passUnretained(dispatcher).toOpaque())
        // More than are wanted: those that are to go are still there when others come in their place.
        let most = UInt32(limits.connections + 64)
        let silence = UInt32(max(limits.idle / .seconds(1), 1).rounded(.up)) + 5
        guard
            let raw = reeve_mhd_start(
                MHD_USE_AUTO_INTERNAL_THREAD.rawValue, &callbacks, descriptor, most, silence, 32 * 1024)
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

/// What libmicrohttpd calls, on its own thread.
private final class Dispatcher: Sendable {
    private let router: Router
    private let hosts: HostPolicy
    private let limits: ConnectionTable.Limits
    private let logger: Logger
    let watch: ConnectionWatch

    init(router: Router, hosts: HostPolicy, limits: ConnectionTable.Limits, logger: Logger) {
        self.router = router
        self.hosts = hosts
        self.limits = limits
        self.logger = logger
        watch = ConnectionWatch(limits)
    }

    private static func from(_ context: UnsafeMutableRawPointer?) -> Dispatcher? {
        context.map { Unmanaged<Dispatcher>.fromOpaque($0).takeUnretainedValue() }
    }

    static let notify: MHD_NotifyConnectionCallback = { context, connection, _, event in
        guard let dispatcher = from(context), let connection else { return }
        let id = UInt(bitPattern: connection)
        // MHD_CONNECTION_NOTIFY_CLOSED, whose name does not come over.
        if event.rawValue == 1 { return dispatcher.watch.closed(id) }
        let peer = PeerAddress(reeve_mhd_peer(connection))?.peer
        dispatcher.watch.opened(id, reeve_mhd_descriptor(connection), from: peer)
    }

    static let handle: MHD_AccessHandlerCallback = { context, connection, url, method, version, _, size, state in
        guard let dispatcher = from(context), let connection, let url, let method, let version, let size, let state
        else { return .NO }
        // The first call comes after the head; the body, if there is one, in further calls.
        guard let seen = state.pointee else {
            state.pointee = UnsafeMutableRawPointer(bitPattern: 1)
            return dispatcher.take(head: connection, String(cString: version))
        }
        if size.pointee > 0 {
            // Nothing here reads a body. How much has come is counted in the pointer that is there for that.
            let count = UInt(bitPattern: seen) + UInt(size.pointee)
            guard count <= UInt(dispatcher.limits.body) else { return .NO }
            state.pointee = UnsafeMutableRawPointer(bitPattern: count)
            size.pointee = 0
            return .YES
        }
        return dispatcher.answer(connection, path: String(cString: url), method: String(cString: method))
    }

    static let completed: MHD_RequestCompletedCallback = { context, connection, state, _ in
        state?.pointee = nil
        guard let dispatcher = from(context), let connection else { return }
        dispatcher.watch.answered(UInt(bitPattern: connection))
    }

    /// Refuses what can be refused before the body has come.
    private func take(head connection: OpaquePointer, _ version: String) -> MHD_Result {
        watch.began(UInt(bitPattern: connection))
        let headers = Self.headers(connection)
        guard
            let refusal = Router.refusal(headers, bodyLimit: limits.body) ?? hosts.refusal(version, headers)
        else { return .YES }
        return send(refusal, on: connection, gzipped: false)
    }

    private func answer(_ connection: OpaquePointer, path: String, method: String) -> MHD_Result {
        let headers = Self.headers(connection)
        let request = HTTPRequest(
            method: method, path: path, query: Self.query(connection),
            headers: Dictionary(
                headers.map { ($0.name.lowercased(), $0.value) }, uniquingKeysWith: { first, _ in first }))
        let response = router.answer(request)
        logger.debug(
            "answered",
            [LogField("method", request.method), LogField("path", request.path), LogField("status", response.status)])
        let accepts = request.headers["accept-encoding"] ?? ""
        return send(response, on: connection, gzipped: accepts.contains("gzip"))
    }

    private func send(_ response: HTTPResponse, on connection: OpaquePointer, gzipped: Bool) -> MHD_Result {
        watch.answers(UInt(bitPattern: connection))
        var body = response.body
        var isCompressed = false
        if gzipped, body.count > 1024, let smaller = gzip(body) {
            body = smaller
            isCompressed = true
        }
        guard let raw = MHD_create_response_from_buffer(body.count, &body, .RESPMEM_MUST_COPY) else { return .NO }
        defer { MHD_destroy_response(raw) }
        MHD_add_response_header(raw, "Content-Type", response.contentType)
        MHD_add_response_header(raw, "Cache-Control", "no-store")
        MHD_add_response_header(raw, "X-Content-Type-Options", "nosniff")
        if isCompressed { MHD_add_response_header(raw, "Content-Encoding", "gzip") }
        for (name, value) in response.headers { MHD_add_response_header(raw, name, value) }
        return MHD_queue_response(connection, UInt32(response.status), raw)
    }

    private static func headers(_ connection: OpaquePointer) -> [(name: String, value: String)] {
        values(connection, .HEADER_KIND)
    }

    private static func query(_ connection: OpaquePointer) -> [String: String] {
        Dictionary(values(connection, .GET_ARGUMENT_KIND), uniquingKeysWith: { first, _ in first })
    }

    private final class Collected { var pairs: [(name: String, value: String)] = [] }

    private static func values(_ connection: OpaquePointer, _ kind: MHD_ValueKind) -> [(name: String, value: String)] {
        let collected = Collected()
        MHD_get_connection_values(
            connection, kind,
            { context, _, key, value in
                guard let context, let key else { return .YES }
                let collected = Unmanaged<Collected>.fromOpaque(context).takeUnretainedValue()
                collected.pairs.append((String(cString: key), value.map { String(cString: $0) } ?? ""))
                return .YES
            }, Unmanaged.passUnretained(collected).toOpaque())
        return collected.pairs
    }
}

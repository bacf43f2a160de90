import CMicrohttpd
import Foundation
import Telemetry

/// The HTTP server for administration and metrics, on libmicrohttpd with a thread of its own.
public final class AdminServer: Sendable {
    /// Where it listens; the port is the real one when any was asked for.
    public let address: ListenAddress
    private let daemon: Daemon
    private let dispatcher: Dispatcher

    /// Starts to listen and to answer.
    ///
    /// - Throws: `ServerError`.
    public init(_ address: ListenAddress, routes: [Route], logger: Logger = .silent) throws {
        let descriptor = try address.listen()
        dispatcher = Dispatcher(router: Router(routes: routes), logger: logger)
        let context = Unmanaged.passUnretained(dispatcher).toOpaque()
        let flags = MHD_USE_AUTO_INTERNAL_THREAD.rawValue
        guard
            let raw = reeve_mhd_start(
                flags, Dispatcher.handle, context, Dispatcher.completed, descriptor, 256, 30, 32 * 1024)
        else {
            close(descriptor)
            throw ServerError(address, "the server did not start")
        }
        daemon = Daemon(raw)
        if case .tcp(let host, _) = address, let port = ListenAddress.port(of: descriptor) {
            self.address = .tcp(host: host, port: port)
        } else {
            self.address = address
        }
    }

    /// Stops to answer; what is being sent is cut off.
    public func stop() {
        daemon.stop()
        if case .unix(let path) = address { unlink(path) }
    }
}

// @unchecked: libmicrohttpd's functions on a daemon are thread-safe, and `stop` runs once, under the lock.
private final class Daemon: @unchecked Sendable {
    private var raw: OpaquePointer?
    private let lock = NSLock()

    init(_ raw: OpaquePointer) { self.raw = raw }

    deinit { stop() }

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
    private let logger: Logger

    init(router: Router, logger: Logger) {
        self.router = router
        self.logger = logger
    }

    static let handle: MHD_AccessHandlerCallback = { context, connection, url, method, _, _, size, state in
        guard let context, let connection, let url, let method, let state else { return .NO }
        let dispatcher = Unmanaged<Dispatcher>.fromOpaque(context).takeUnretainedValue()
        // The first call comes after the head; the body, if there is one, in further calls.
        if state.pointee == nil {
            state.pointee = UnsafeMutableRawPointer(bitPattern: 1)
            guard let refusal = Router.refusal(Dispatcher.headers(connection)) else { return .YES }
            return dispatcher.send(refusal, on: connection, gzipped: false)
        }
        if let size, size.pointee > 0 {
            size.pointee = 0  // nothing here reads a body
            return .YES
        }
        let headers = Dispatcher.headers(connection)
        let request = HTTPRequest(
            method: String(cString: method), path: String(cString: url), query: Dispatcher.query(connection),
            headers: Dictionary(
                headers.map { ($0.name.lowercased(), $0.value) }, uniquingKeysWith: { first, _ in first }))
        let response = dispatcher.router.answer(request)
        dispatcher.logger.debug(
            "answered",
            [LogField("method", request.method), LogField("path", request.path), LogField("status", response.status)])
        let accepts = request.headers["accept-encoding"] ?? ""
        return dispatcher.send(response, on: connection, gzipped: accepts.contains("gzip"))
    }

    static let completed: MHD_RequestCompletedCallback = { _, _, state, _ in state?.pointee = nil }

    private func send(_ response: HTTPResponse, on connection: OpaquePointer, gzipped: Bool) -> MHD_Result {
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

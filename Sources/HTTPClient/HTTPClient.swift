import CCurl
import Foundation
import Synchronization

/// Sends requests over HTTP and HTTPS, with limits. Calls block, and are made on threads of their own.
///
///     let client = HTTPClient()
///     let response = try client.send(HTTPRequest("GET", "https://storage.example/backups?list-type=2"))
///
/// Redirects are not followed and no proxy is asked that the environment does not name. Connections are kept and used
/// again. libcurl does the protocol: Foundation's session grows to the size of what it downloads.
public final class HTTPClient: Sendable {
    public struct Limits: Sendable {
        /// For name, connection and TLS.
        public var connect: Duration = .seconds(10)
        /// How long nothing may arrive or leave.
        public var stall: Duration = .seconds(30)
        /// For the whole exchange.
        public var total: Duration = .seconds(600)
        /// The largest body that is taken, in bytes.
        public var body = 64 << 20

        public init() {}
    }

    private let limits: Limits
    /// Handles at rest, each with the connection that it keeps.
    private let idle = Mutex<[Handle]>([])

    /// One of libcurl's handles: used by one thread at a time.
    private struct Handle: @unchecked Sendable {
        // libcurl lets a handle go from thread to thread as long as no two use it at once.
        let raw: UnsafeMutableRawPointer
    }

    /// libcurl wants to be set up once, before any thread uses it.
    private static let isReady: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK

    public init(limits: Limits = Limits()) { self.limits = limits }

    deinit {
        for handle in idle.withLock({ $0 }) { curl_easy_cleanup(handle.raw) }
    }

    /// Sends one request and reads the whole answer.
    ///
    /// - Parameter isStopped: asked about once a second; when it says so, the exchange is broken off.
    /// - Throws: `HTTPError`. An answer with an error's status is an answer.
    public func send(
        _ request: HTTPRequest, isStopped: @escaping @Sendable () -> Bool = { false }
    ) throws -> HTTPResponse {
        guard Self.isReady, let handle = idle.withLock({ $0.popLast() }) ?? curl_easy_init().map(Handle.init) else {
            throw HTTPError.broken(url: request.url, reason: "libcurl cannot be initialized")
        }
        defer {
            // It must not keep pointers to what is gone.
            curl_easy_reset(handle.raw)
            idle.withLock { $0.append(handle) }
        }
        return try Exchange(handle: handle.raw, request: request, limits: limits, isStopped: isStopped).run()
    }
}

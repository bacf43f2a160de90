import CCurl
import Foundation
import Synchronization

/// Sends requests over HTTP and HTTPS, with limits. Calls block, and should be made on a separate thread.
///
///     let client = HTTPClient()
///     let response = try client.send(HTTPRequest("GET", "https://storage.example/backups?list-type=2"))
///
/// Redirects are not followed. A proxy is used only if the environment names one. Connections are kept and reused.
/// libcurl implements the protocol, because Foundation's session uses as much memory as it downloads.
public final class HTTPClient: Sendable {
    public struct Limits: Sendable {
        /// The time limit for name resolution, the connection and the TLS handshake.
        public var connect: Duration = .seconds(10)
        /// The longest time without any data in either direction.
        public var stall: Duration = .seconds(30)
        /// The time limit for the whole exchange.
        public var total: Duration = .seconds(600)
        /// The maximum size of a response body, in bytes.
        public var body = 64 << 20

        public init() {}
    }

    private let limits: Limits
    /// Unused handles, each with the connection that it keeps open.
    private let idle = Mutex<[Handle]>([])

    /// A handle of libcurl. One thread at a time uses it.
    private struct Handle: @unchecked Sendable {
        // libcurl allows a handle to be used by several threads, but not at the same time.
        let raw: UnsafeMutableRawPointer
    }

    /// Initialises libcurl, which must be done once, before any thread uses it.
    private static let isReady: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK

    public init(limits: Limits = Limits()) { self.limits = limits }

    deinit {
        for handle in idle.withLock({ $0 }) { curl_easy_cleanup(handle.raw) }
    }

    /// Sends one request and reads the whole response.
    ///
    /// - Parameter isStopped: called about once a second. If it returns true, the exchange is aborted.
    /// - Throws: `HTTPError`. A response with an error status is returned as a response.
    public func send(
        _ request: HTTPRequest, isStopped: @escaping @Sendable () -> Bool = { false }
    ) throws -> HTTPResponse {
        guard Self.isReady, let handle = idle.withLock({ $0.popLast() }) ?? curl_easy_init().map(Handle.init) else {
            throw HTTPError.broken(url: request.url, reason: "libcurl cannot be initialized")
        }
        defer {
            // The handle must not keep pointers to freed memory.
            curl_easy_reset(handle.raw)
            idle.withLock { $0.append(handle) }
        }
        return try Exchange(handle: handle.raw, request: request, limits: limits, isStopped: isStopped).run()
    }
}

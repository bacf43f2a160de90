import CCurl
import Foundation

/// Sends one request and receives its response, on the calling thread.
final class Exchange {
    private let handle: UnsafeMutableRawPointer
    private let request: HTTPRequest
    private let limits: HTTPClient.Limits
    private let isStopped: @Sendable () -> Bool
    private var headers: [String: String] = [:]
    private var body: [UInt8] = []
    private var isTooLarge = false

    init(
        handle: UnsafeMutableRawPointer, request: HTTPRequest, limits: HTTPClient.Limits,
        isStopped: @escaping @Sendable () -> Bool
    ) {
        self.handle = handle
        self.request = request
        self.limits = limits
        self.isStopped = isStopped
    }

    func run() throws -> HTTPResponse {
        let context = Unmanaged.passUnretained(self).toOpaque()
        var reason = [CChar](repeating: 0, count: Int(CURL_ERROR_SIZE))
        var list: UnsafeMutablePointer<curl_slist>?
        defer { curl_slist_free_all(list) }
        // A name without a value makes libcurl omit a header that it adds by default. 'Expect: 100-continue' costs a
        // second if the server does not support it.
        for line in ["Expect:", "Content-Type:"] + request.headers.map({ "\($0.name): \($0.value)" }) {
            guard !line.utf8.contains(where: { $0 < 32 }) else {
                throw HTTPError.invalid(url: request.url, reason: "a header contains a control character")
            }
            list = curl_slist_append(list, line)
        }
        let (code, status) = try request.body.withUnsafeBytes { bytes in
            try reason.withUnsafeMutableBytes { reason in
                try prepare(bytes, reason, list)
                reeve_curl_on_body(handle, Self.takeBody, context)
                reeve_curl_on_header(handle, Self.takeHeader, context)
                reeve_curl_on_progress(handle, Self.watch, context)
                let code = curl_easy_perform(handle)
                var status = 0
                reeve_curl_status(handle, &status)
                return (code, status)
            }
        }
        if isTooLarge { throw HTTPError.tooLarge(url: request.url, limit: limits.body) }
        if code == CURLE_ABORTED_BY_CALLBACK { throw HTTPError.stopped(url: request.url) }
        guard code == CURLE_OK else {
            let said = String(decoding: reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let text = said.isEmpty ? String(cString: curl_easy_strerror(code)) : said
            throw code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL
                ? HTTPError.invalid(url: request.url, reason: text) : HTTPError.broken(url: request.url, reason: text)
        }
        return HTTPResponse(status: status, headers: headers, body: body)
    }

    private func prepare(
        _ bytes: UnsafeRawBufferPointer, _ reason: UnsafeMutableRawBufferPointer,
        _ list: UnsafeMutablePointer<curl_slist>?
    ) throws {
        guard reeve_curl_set_text(handle, CURLOPT_URL, request.url) == CURLE_OK else {
            throw HTTPError.invalid(url: request.url, reason: "it is not a URL")
        }
        reeve_curl_set_text(handle, CURLOPT_PROTOCOLS_STR, "http,https")
        // libcurl must not use signals, because signals affect the whole process.
        reeve_curl_set_long(handle, CURLOPT_NOSIGNAL, 1)
        reeve_curl_set_long(handle, CURLOPT_PATH_AS_IS, 1)
        reeve_curl_set_pointer(handle, CURLOPT_ERRORBUFFER, reason.baseAddress)
        reeve_curl_set_long(handle, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(limits.connect))
        reeve_curl_set_long(handle, CURLOPT_TIMEOUT_MS, milliseconds(limits.total))
        reeve_curl_set_long(handle, CURLOPT_LOW_SPEED_LIMIT, 1)
        reeve_curl_set_long(handle, CURLOPT_LOW_SPEED_TIME, max(1, Int(limits.stall.components.seconds)))
        reeve_curl_set_headers(handle, list)
        switch request.method {
        case "HEAD": reeve_curl_set_long(handle, CURLOPT_NOBODY, 1)
        case "GET": reeve_curl_set_long(handle, CURLOPT_HTTPGET, 1)
        default:
            // Every other request is set up as a POST whose method name is replaced. libcurl then has the body in
            // memory, and can send it again if the server has closed a reused connection.
            reeve_curl_set_long(handle, CURLOPT_POST, 1)
            reeve_curl_set_size(handle, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(bytes.count))
            let start = bytes.baseAddress.map(UnsafeMutableRawPointer.init(mutating:)) ?? reason.baseAddress
            reeve_curl_set_pointer(handle, CURLOPT_POSTFIELDS, start)
            reeve_curl_set_text(handle, CURLOPT_CUSTOMREQUEST, request.method)
        }
    }

    private func milliseconds(_ duration: Duration) -> Int {
        Int(duration.components.seconds) * 1000 + Int(duration.components.attoseconds / 1_000_000_000_000_000)
    }

    private static let takeBody:
        @convention(c) (UnsafeMutablePointer<CChar>?, Int, Int, UnsafeMutableRawPointer?) -> Int = {
            data, size, count, context in
            guard let data, let context else { return 0 }
            let exchange = Unmanaged<Exchange>.fromOpaque(context).takeUnretainedValue()
            let bytes = UnsafeRawBufferPointer(start: data, count: size * count)
            guard exchange.body.count + bytes.count <= exchange.limits.body else {
                exchange.isTooLarge = true
                return 0
            }
            exchange.body.append(contentsOf: bytes)
            return bytes.count
        }

    /// Aborts the exchange if `isStopped` returns true. libcurl calls this about once a second, even if no data arrive.
    private static let watch:
        @convention(c) (UnsafeMutableRawPointer?, curl_off_t, curl_off_t, curl_off_t, curl_off_t) -> Int32 = {
            context, _, _, _, _ in
            guard let context else { return 0 }
            return Unmanaged<Exchange>.fromOpaque(context).takeUnretainedValue().isStopped() ? 1 : 0
        }

    private static let takeHeader:
        @convention(c) (UnsafeMutablePointer<CChar>?, Int, Int, UnsafeMutableRawPointer?) -> Int = {
            data, size, count, context in
            guard let data, let context else { return 0 }
            let exchange = Unmanaged<Exchange>.fromOpaque(context).takeUnretainedValue()
            let line = String(decoding: UnsafeRawBufferPointer(start: data, count: size * count), as: UTF8.self)
            if line.hasPrefix("HTTP/") {
                exchange.headers = [:]
            } else if let colon = line.firstIndex(of: ":") {
                let value = line[line.index(after: colon)...].trimmingCharacters(in: .whitespacesAndNewlines)
                exchange.headers[line[..<colon].lowercased()] = value
            }
            return size * count
        }
}

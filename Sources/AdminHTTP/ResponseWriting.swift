import CMicrohttpd
import Foundation

extension RequestHead {
    fileprivate var acceptsGzip: Bool { headers["accept-encoding"]?.contains("gzip") ?? false }
}

extension AdminResponse {
    static func tooLarge(_ limit: Int) -> AdminResponse {
        .problem(
            413, "Content Too Large",
            detail: limit == 0 ? "this path accepts no body" : "the body is larger than \(limit) bytes")
    }

    static func unavailable(_ detail: String) -> AdminResponse {
        .problem(503, "Service Unavailable", detail: detail, headers: [("Retry-After", "1")])
    }

    /// Returns the answer with a compressed body if the client accepts gzip and the body is larger than 1024 bytes.
    func compressed(for head: RequestHead) -> AdminResponse {
        guard head.acceptsGzip, body.count > 1024, let smaller = gzip(body) else { return self }
        var response = self
        response.body = smaller
        response.headers.append(("Content-Encoding", "gzip"))
        return response
    }

    /// All headers except those that describe the connection or the length.
    private var allHeaders: [(name: String, value: String)] {
        [("Content-Type", contentType), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")] + headers
    }

    /// Queues the answer in libmicrohttpd.
    func queue(on connection: OpaquePointer) -> MHD_Result {
        var body = body
        guard let raw = MHD_create_response_from_buffer(body.count, &body, .RESPMEM_MUST_COPY) else { return .NO }
        defer { MHD_destroy_response(raw) }
        for (name, value) in allHeaders { MHD_add_response_header(raw, name, value) }
        return MHD_queue_response(connection, UInt32(clamping: status), raw)
    }

    /// Writes the answer directly to a socket that is closed afterwards. Bytes that do not fit into the socket's buffer
    /// are lost.
    func write(to descriptor: Int32) {
        let reason = MHD_get_reason_phrase_for(UInt32(clamping: status)).map { String(cString: $0) } ?? ""
        var head = "HTTP/1.1 \(status) \(reason)\r\nConnection: close\r\nContent-Length: \(body.count)\r\n"
        for (name, value) in allHeaders { head += "\(name): \(value)\r\n" }
        let bytes = Array("\(head)\r\n".utf8) + body
        _ = Foundation.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
    }
}

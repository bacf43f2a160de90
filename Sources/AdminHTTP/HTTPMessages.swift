/// A request, after its head was checked.
public struct HTTPRequest: Sendable {
    public let method: String
    /// The path of the URL, decoded, without the query.
    public let path: String
    /// The query's keys; a key without a value has an empty one.
    public let query: [String: String]
    /// By lower-case name.
    public let headers: [String: String]
}

/// What is answered.
public struct HTTPResponse: Sendable {
    public var status: Int
    public var contentType: String
    public var body: [UInt8]
    public var headers: [(String, String)] = []

    public init(status: Int = 200, contentType: String, body: String) {
        self.status = status
        self.contentType = contentType
        self.body = Array(body.utf8)
    }

    /// An error as RFC 9457 has it.
    public static func problem(_ status: Int, _ title: String, detail: String? = nil) -> HTTPResponse {
        func quoted(_ text: String) -> String {
            "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n") + "\""
        }
        var body = "{\"type\":\"about:blank\",\"title\":\(quoted(title)),\"status\":\(status)"
        if let detail { body += ",\"detail\":\(quoted(detail))" }
        return HTTPResponse(status: status, contentType: "application/problem+json", body: body + "}\n")
    }
}

/// What answers one path.
public struct Route: Sendable {
    public let method: String
    public let path: String
    /// Called on the server's thread, so it must not wait for anything.
    public let handle: @Sendable (HTTPRequest) -> HTTPResponse

    public init(_ method: String, _ path: String, handle: @escaping @Sendable (HTTPRequest) -> HTTPResponse) {
        self.method = method
        self.path = path
        self.handle = handle
    }
}

/// Finds who answers a request. Pure.
struct Router: Sendable {
    let routes: [Route]

    func answer(_ request: HTTPRequest) -> HTTPResponse {
        let here = routes.filter { $0.path == request.path }
        if here.isEmpty { return .problem(404, "Not Found", detail: "there is nothing at \(request.path)") }
        // HEAD is GET without the body, which libmicrohttpd leaves out.
        let method = request.method == "HEAD" ? "GET" : request.method
        guard let route = here.first(where: { $0.method == method }) else {
            var response = HTTPResponse.problem(405, "Method Not Allowed")
            response.headers.append(("Allow", here.map(\.method).joined(separator: ", ")))
            return response
        }
        return route.handle(request)
    }

    /// What a head that could be read in two ways is answered, against request smuggling (RFC 9112, section 6.3).
    ///
    /// - Parameter headers: all of them, in order.
    static func refusal(_ headers: [(name: String, value: String)]) -> HTTPResponse? {
        func values(_ name: String) -> [String] { headers.filter { $0.name.lowercased() == name }.map(\.value) }
        if values("host").count > 1 { return .problem(400, "Bad Request", detail: "more than one Host") }
        if values("content-length").count > 1 {
            return .problem(400, "Bad Request", detail: "more than one Content-Length")
        }
        let codings = values("transfer-encoding")
        if !codings.isEmpty, !values("content-length").isEmpty {
            return .problem(400, "Bad Request", detail: "Content-Length with Transfer-Encoding")
        }
        if codings.count > 1 || codings.contains(where: { $0.lowercased() != "chunked" }) {
            return .problem(501, "Not Implemented", detail: "a transfer coding other than chunked")
        }
        return nil
    }
}

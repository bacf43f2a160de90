import Telemetry

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
        var body = "{\"type\":\"about:blank\",\"title\":\(jsonString(title)),\"status\":\(status)"
        if let detail { body += ",\"detail\":\(jsonString(detail))" }
        return HTTPResponse(status: status, contentType: "application/problem+json", body: body + "}\n")
    }
}

/// What answers one path.
public struct Route: Sendable {
    /// Whom a route answers that has not said who it is.
    public enum Access: Sendable {
        /// Whoever can connect, from other machines too where they can.
        case anyone
        /// Only those who are on this machine.
        case local
    }

    public let method: String
    public let path: String
    public let access: Access
    /// Called on the server's thread, so it must not wait for anything.
    public let handle: @Sendable (HTTPRequest) -> HTTPResponse

    /// - Parameter access: `local`, unless it is said that the route is for anyone.
    public init(
        _ method: String, _ path: String, access: Access = .local,
        handle: @escaping @Sendable (HTTPRequest) -> HTTPResponse
    ) {
        self.method = method
        self.path = path
        self.access = access
        self.handle = handle
    }
}

/// Finds who answers a request. Pure.
struct Router: Sendable {
    let routes: [Route]
    /// Whether the server may be reached from other machines. Where the request comes from does not count then: it may
    /// have come through a proxy on this one.
    let isRemote: Bool

    func answer(_ request: HTTPRequest) -> HTTPResponse {
        let here = routes.filter { $0.path == request.path && ($0.access == .anyone || !isRemote) }
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
    /// - Parameters:
    ///   - headers: all of them, in order.
    ///   - bodyLimit: the most bytes of a body that are read.
    static func refusal(_ headers: [(name: String, value: String)], bodyLimit: Int) -> HTTPResponse? {
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
        if let length = values("content-length").first, Int(length) ?? .max > bodyLimit {
            return .problem(413, "Content Too Large", detail: "a body of more than \(bodyLimit) bytes")
        }
        return nil
    }
}

import Telemetry

/// The method, path, query and headers of a request whose head is valid.
public struct RequestHead: Sendable {
    public let method: String
    /// The path as the client sent it: percent-encoded, without the query.
    public let path: String
    /// The parameters of the query, decoded. A parameter without a value is empty. If a parameter is repeated, its
    /// first value counts.
    public let query: [String: String]
    /// The headers by lower-case name. If a header is repeated, its first value counts.
    public let headers: [String: String]

    public init(method: String, path: String, query: [String: String] = [:], headers: [String: String] = [:]) {
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
    }

    /// The token of `Authorization: Bearer …` (RFC 6750, section 2.1); nil if the header is missing or has another
    /// form.
    public var bearerToken: String? {
        let words = headers["authorization"]?.split(separator: " ", omittingEmptySubsequences: true) ?? []
        guard words.count == 2, words[0].lowercased() == "bearer" else { return nil }
        return String(words[1])
    }
}

/// A complete request, as a route's handler receives it.
public struct AdminRequest: Sendable {
    public let head: RequestHead
    /// The parameters of the path by name, decoded.
    public let parameters: [String: String]
    public let body: [UInt8]
    /// The authenticated caller; nil on an open route.
    public let caller: Caller?

    public init(head: RequestHead, parameters: [String: String] = [:], body: [UInt8] = [], caller: Caller? = nil) {
        self.head = head
        self.parameters = parameters
        self.body = body
        self.caller = caller
    }
}

/// The answer to a request.
public struct AdminResponse: Sendable {
    public var status: Int
    public var contentType: String
    public var body: [UInt8]
    public var headers: [(name: String, value: String)] = []

    public init(status: Int = 200, contentType: String, body: String) {
        self.status = status
        self.contentType = contentType
        self.body = Array(body.utf8)
    }

    /// Returns an error in the form of RFC 9457, problem+json.
    public static func problem(
        _ status: Int, _ title: String, detail: String? = nil, headers: [(name: String, value: String)] = []
    ) -> AdminResponse {
        var body = "{\"type\":\"about:blank\",\"title\":\(jsonString(title)),\"status\":\(status)"
        if let detail { body += ",\"detail\":\(jsonString(detail))" }
        var response = AdminResponse(status: status, contentType: "application/problem+json", body: body + "}\n")
        response.headers = headers
        return response
    }
}

/// Thrown to refuse a request with `response`.
struct Refusal: Error {
    let response: AdminResponse

    static func badRequest(_ detail: String) -> Refusal {
        Refusal(response: .problem(400, "Bad Request", detail: detail))
    }
}

/// One request, with its body in memory. Large data must be sent in several requests.
public struct HTTPRequest: Sendable {
    public var method: String
    /// The absolute URL, percent-encoded.
    public var url: String
    public var headers: [(name: String, value: String)]
    public var body: [UInt8]

    public init(
        _ method: String, _ url: String, headers: [(name: String, value: String)] = [], body: [UInt8] = []
    ) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
    }
}

/// The response to a request, with any status.
public struct HTTPResponse: Sendable {
    public let status: Int
    /// The values of the headers, by lower-case name. If a name occurs several times, the last value is kept.
    public let headers: [String: String]
    public let body: [UInt8]

    public init(status: Int, headers: [String: String] = [:], body: [UInt8] = []) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    public subscript(name: String) -> String? { headers[name.lowercased()] }
}

/// Why no complete response was received.
public enum HTTPError: Error, CustomStringConvertible {
    /// The exchange was interrupted or took too long. The request may be sent again.
    case broken(url: String, reason: String)
    /// The caller stopped the exchange.
    case stopped(url: String)
    /// The response body is larger than the limit.
    case tooLarge(url: String, limit: Int)
    /// The request is not valid.
    case invalid(url: String, reason: String)

    public var description: String {
        switch self {
        case .broken(let url, let reason): "\(Self.redacted(url)): \(reason)"
        case .stopped(let url): "\(Self.redacted(url)): the request was cancelled"
        case .tooLarge(let url, let limit): "\(Self.redacted(url)): the response is larger than \(limit) bytes"
        case .invalid(let url, let reason): "\(Self.redacted(url)): \(reason)"
        }
    }

    /// Returns a URL without user, password, query and fragment, which may contain secrets.
    public static func redacted(_ url: String) -> String {
        var text = String(url.prefix { $0 != "?" && $0 != "#" })
        if let scheme = text.range(of: "://"),
            let at = text[scheme.upperBound...].prefix(while: { $0 != "/" }).lastIndex(of: "@")
        {
            text.removeSubrange(scheme.upperBound...at)
        }
        return text
    }
}

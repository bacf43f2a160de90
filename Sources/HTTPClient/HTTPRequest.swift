/// One request, with its body in memory: whoever sends much sends it in pieces.
public struct HTTPRequest: Sendable {
    public var method: String
    /// Absolute, percent-encoded.
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

/// What came back, whatever its status says.
public struct HTTPResponse: Sendable {
    public let status: Int
    /// By their names in lower case; of several with one name the last.
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
    /// The exchange broke off, or took too long; it may be tried again.
    case broken(url: String, reason: String)
    /// It was not wanted any more.
    case stopped(url: String)
    /// The body is larger than was allowed.
    case tooLarge(url: String, limit: Int)
    /// The request cannot be sent as it is.
    case invalid(url: String, reason: String)

    public var description: String {
        switch self {
        case .broken(let url, let reason): "\(Self.redacted(url)): \(reason)"
        case .stopped(let url): "\(Self.redacted(url)): the request was cancelled"
        case .tooLarge(let url, let limit): "\(Self.redacted(url)): the response is larger than \(limit) bytes"
        case .invalid(let url, let reason): "\(Self.redacted(url)): \(reason)"
        }
    }

    /// A URL without user, password and query, which may hold secrets.
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

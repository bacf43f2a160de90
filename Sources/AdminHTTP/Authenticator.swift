/// A permission, for instance `runs:read`.
public struct Scope: Sendable, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
    public let description: String

    public init(_ name: String) { description = name }

    public init(stringLiteral name: String) { description = name }
}

/// Whoever makes a request, as the authenticator identified them.
public struct Caller: Sendable, Equatable {
    /// The name for the log and the audit.
    public let name: String
    /// Everything the caller may do. The authenticator adds the scopes that a broader one implies.
    public let scopes: Set<Scope>

    public init(name: String, scopes: Set<Scope>) {
        self.name = name
        self.scopes = scopes
    }
}

/// The result of authenticating a request.
public enum Authentication: Sendable {
    case caller(Caller)
    /// The request carries no credentials.
    case missing
    /// The credentials are unknown, expired or revoked.
    case invalid
}

/// Identifies who makes a request.
public protocol Authenticator: Sendable {
    /// Called before the body is read, in a task that is cancelled when the client disconnects.
    ///
    /// - Throws: if the credentials cannot be checked. The answer is 503; only the log has the error.
    func authenticate(_ head: RequestHead) async throws -> Authentication
}

extension AdminResponse {
    private static let scheme = "Bearer realm=\"reeve\""

    /// 401 with a challenge (RFC 6750, section 3).
    static func unauthorized(isInvalid: Bool = false) -> AdminResponse {
        .problem(
            401, "Unauthorized",
            detail: isInvalid ? "the token is not valid" : "a bearer token is required",
            headers: [("WWW-Authenticate", isInvalid ? scheme + ", error=\"invalid_token\"" : scheme)])
    }

    /// 403 for a caller that lacks a scope.
    static func forbidden(_ scope: Scope) -> AdminResponse {
        .problem(
            403, "Forbidden", detail: "the token does not have the scope '\(scope)'",
            headers: [("WWW-Authenticate", "\(scheme), error=\"insufficient_scope\", scope=\"\(scope)\"")])
    }
}

/// A permission, for instance `runs:read`.
public struct Scope: Sendable, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
    public let description: String

    public init(_ name: String) { description = name }

    public init(stringLiteral name: String) { description = name }
}

/// The sender of a request, as identified by the authenticator.
public struct Caller: Sendable, Equatable {
    /// The name for the log and the audit chain.
    public let name: String
    /// All permissions of the caller. The authenticator includes the scopes that a broader scope implies.
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

/// Identifies the caller of a request.
public protocol Authenticator: Sendable {
    /// Identifies the caller by the head of a request. The server calls this before it reads the body, in a task that
    /// is cancelled when the client disconnects.
    ///
    /// - Throws: an error if the credentials cannot be checked. The answer is then 503, and the error is only logged.
    func authenticate(_ head: RequestHead) async throws -> Authentication
}

extension AdminResponse {
    private static let scheme = "Bearer realm=\"reeve\""

    /// Returns a 401 answer with a challenge (RFC 6750, section 3).
    static func unauthorized(isInvalid: Bool = false) -> AdminResponse {
        .problem(
            401, "Unauthorized",
            detail: isInvalid ? "the token is not valid" : "a bearer token is required",
            headers: [("WWW-Authenticate", isInvalid ? scheme + ", error=\"invalid_token\"" : scheme)])
    }

    /// Returns a 403 answer for a caller that lacks a scope.
    static func forbidden(_ scope: Scope) -> AdminResponse {
        .problem(
            403, "Forbidden", detail: "the token does not have the scope '\(scope)'",
            headers: [("WWW-Authenticate", "\(scheme), error=\"insufficient_scope\", scope=\"\(scope)\"")])
    }
}

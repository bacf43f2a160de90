/// A method on the paths that match a pattern, with its access rule, its limits and its handler.
///
///     Route("POST", "/v1/databases/{database}/runs", access: .authenticated("runs:operate"), bodyLimit: 4096) {
///         try await start($0.parameters["database"], $0.body)
///     }
public struct Route: Sendable {
    /// The callers that may use a route.
    public enum Access: Sendable, Equatable {
        /// Any client that can connect; this includes other machines if the server listens on addresses that they can
        /// reach.
        case open
        /// Authenticated callers with the scope.
        case authenticated(Scope)
    }

    enum Handler: Sendable {
        case task(@Sendable (AdminRequest) async throws -> AdminResponse)
        case immediate(@Sendable (AdminRequest) -> AdminResponse)
    }

    public let method: String
    public let path: PathPattern
    public let access: Access
    /// The size limit of the body in bytes. A larger body is answered with 413 and not read to its end.
    public let bodyLimit: Int
    /// The time limit of the handler. When it expires, the answer is 503 and the handler's task is cancelled.
    public let deadline: Duration
    let handler: Handler

    /// A route whose handler runs in a separate task while the connection is suspended. The task is cancelled at the
    /// deadline, when the server stops, and when the client disconnects; a client that only closes its sending
    /// direction also counts as disconnected. If the handler throws, the answer is 500, and the error is only logged.
    ///
    /// - Parameters:
    ///   - method: the HTTP method. A route for `GET` also answers HEAD requests, unless there is a route for HEAD.
    ///   - bodyLimit: in bytes; 0 allows no body.
    public init(
        _ method: String, _ path: PathPattern, access: Access, bodyLimit: Int = 0, deadline: Duration = .seconds(30),
        handle: @escaping @Sendable (AdminRequest) async throws -> AdminResponse
    ) {
        self.method = method
        self.path = path
        self.access = access
        self.bodyLimit = bodyLimit
        self.deadline = deadline
        handler = .task(handle)
    }

    /// A route without a body whose handler runs on the server's own thread. It works even if the cooperative pool is
    /// exhausted.
    ///
    /// - Parameter answer: returns the answer; it must not block.
    public static func immediate(
        _ method: String, _ path: PathPattern, access: Access,
        answer: @escaping @Sendable (AdminRequest) -> AdminResponse
    ) -> Route {
        Route(method, path, access: access, handler: .immediate(answer))
    }

    private init(_ method: String, _ path: PathPattern, access: Access, handler: Handler) {
        self.method = method
        self.path = path
        self.access = access
        bodyLimit = 0
        deadline = .zero
        self.handler = handler
    }
}

/// Finds the route for a request. Pure: no I/O.
struct Router: Sendable {
    /// The result of finding the route for a method and a path.
    enum Match: Sendable {
        case route(Route, parameters: [String: String])
        /// - isPublic: whether every client may receive this answer. If false, only authenticated callers receive it,
        ///   so that other clients cannot find out which paths exist.
        case refusal(AdminResponse, isPublic: Bool)

        /// Whether the caller must be authenticated before the result is used.
        var needsCaller: Bool {
            switch self {
            case .route(let route, _): route.access != .open
            case .refusal(_, let isPublic): !isPublic
            }
        }
    }

    /// The routes; more specific ones are first.
    private let routes: [Route]
    private let hasClosedRoutes: Bool

    /// Traps if two routes have the same method and match the same paths.
    init(routes: [Route]) {
        var seen: Set<String> = []
        for route in routes {
            precondition(
                seen.insert("\(route.method) \(route.path.shape)").inserted,
                "two routes for \(route.method) \(route.path)")
        }
        self.routes = routes.sorted { $0.path.precedes($1.path) }
        hasClosedRoutes = routes.contains { $0.access != .open }
    }

    /// Finds the route for a method and a path. A server that has only open routes returns 404 for any other path. A
    /// server that also has authenticated routes returns 401 to unauthenticated callers for every path that is not
    /// open, whether the path exists or not.
    func match(_ method: String, _ path: [String]) -> Match {
        let here = routes.compactMap { route in route.path.parameters(of: path).map { (route, $0) } }
        if here.isEmpty {
            return .refusal(.problem(404, "Not Found", detail: "no such path"), isPublic: !hasClosedRoutes)
        }
        // libmicrohttpd omits the body of an answer to HEAD.
        let found =
            here.first { $0.0.method == method }
            ?? (method == "HEAD" ? here.first { $0.0.method == "GET" } : nil)
        if let (route, parameters) = found { return .route(route, parameters: parameters) }
        var allowed = Set(here.map(\.0.method))
        if allowed.contains("GET") { allowed.insert("HEAD") }
        return .refusal(
            .problem(405, "Method Not Allowed", headers: [("Allow", allowed.sorted().joined(separator: ", "))]),
            isPublic: here.allSatisfy { $0.0.access == .open })
    }
}

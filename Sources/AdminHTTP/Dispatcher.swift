import CMicrohttpd
import Foundation
import Telemetry

/// Processes requests on libmicrohttpd's thread.
///
/// The steps are: check the head, find the route, authenticate the caller unless the route is open, receive the body,
/// call the handler, send the answer. Authentication and handlers run in tasks. Each step may refuse the request; the
/// later steps are then skipped.
final class Dispatcher: Sendable {
    private let router: Router
    private let authenticator: (any Authenticator)?
    private let hosts: HostPolicy
    private let limits: ConnectionTable.Limits
    private let logger: Logger
    let watch: ConnectionWatch
    let tasks: HandlerTasks

    /// - Returns: nil if the process has no file descriptor left.
    init?(
        router: Router, authenticator: (any Authenticator)?, hosts: HostPolicy, limits: ConnectionTable.Limits,
        logger: Logger
    ) {
        let tasks = HandlerTasks(limit: limits.tasks)
        let watch = ConnectionWatch(limits) { exchange in
            logger.warning("a request exceeded its time limit", [LogField("path", exchange.head?.path ?? "")])
            tasks.abandon(exchange, .answer(.unavailable("the request exceeded its time limit")))
        } onDisconnect: { exchange in
            tasks.abandon(exchange, .disconnected)
        }
        guard let watch else { return nil }
        self.router = router
        self.authenticator = authenticator
        self.hosts = hosts
        self.limits = limits
        self.logger = logger
        self.watch = watch
        self.tasks = tasks
    }

    // MARK: Head

    /// Processes the head of a request: checks it, finds the route, and authenticates the caller if necessary.
    ///
    /// - Parameters:
    ///   - fields: the headers, in order.
    ///   - end: the address of the byte after the head.
    func receive(
        head exchange: Exchange, method: String, version: UnsafePointer<CChar>, fields: [HeaderField], end: UInt
    ) -> MHD_Result {
        watch.began(exchange.id)
        let headers = fields.map { (name: $0.name, value: $0.value) }
        guard
            RequestFraming.isWhole(
                targetEnd: exchange.targetEnd, version: version,
                fields: fields.map { ($0.nameAddress, $0.valueAddress) }, end: end)
        else {
            return send(
                .problem(400, "Bad Request", detail: "the head contains a NUL byte or a folded header line"),
                for: exchange)
        }
        if let refusal = RequestFraming.refusal(headers) ?? hosts.refusal(String(cString: version), headers) {
            return send(refusal, for: exchange)
        }
        do throws(Refusal) {
            let target = try RequestTarget(exchange.target)
            exchange.head = RequestHead(
                method: method, path: target.path, query: target.query,
                headers: Dictionary(
                    headers.map { ($0.name.lowercased(), $0.value) }, uniquingKeysWith: { first, _ in first }))
            let match = router.match(method, target.segments)
            return match.needsCaller ? authenticate(exchange, match) : admit(exchange, match, caller: nil)
        } catch {
            return send(error.response, for: exchange)
        }
    }

    private func authenticate(_ exchange: Exchange, _ match: Router.Match) -> MHD_Result {
        guard let authenticator, let head = exchange.head else { return send(.unauthorized(), for: exchange) }
        exchange.match = match
        return suspend(exchange, limit: limits.authentication) { [logger] in
            do {
                switch try await authenticator.authenticate(head) {
                case .caller(let caller): return .authenticated(caller)
                case .missing: return .answer(.unauthorized())
                case .invalid: return .answer(.unauthorized(isInvalid: true))
                }
            } catch {
                if !Task.isCancelled { logger.error("a caller could not be authenticated", [LogField("error", error)]) }
                return .answer(.unavailable("the caller could not be authenticated"))
            }
        }
    }

    /// Sends the answer if the request is refused. Otherwise continues with the body.
    ///
    /// - Parameter caller: nil if the route does not require authentication.
    private func admit(_ exchange: Exchange, _ match: Router.Match, caller: Caller?) -> MHD_Result {
        switch match {
        case .refusal(let response, _): return send(response, for: exchange)
        case .route(let route, let parameters):
            if case .authenticated(let scope) = route.access {
                guard let caller else { return send(.unauthorized(), for: exchange) }
                guard caller.scopes.contains(scope) else { return send(.forbidden(scope), for: exchange) }
            }
            if let length = exchange.head?.headers["content-length"], Int(length) ?? .max > route.bodyLimit {
                return send(.tooLarge(route.bodyLimit), for: exchange)
            }
            exchange.stage = .body(Exchange.Admission(route: route, parameters: parameters, caller: caller))
            return .YES
        }
    }

    // MARK: Body and handler

    func receive(
        body bytes: UnsafeRawBufferPointer, of exchange: Exchange, _ admission: Exchange.Admission
    ) -> MHD_Result {
        let limit = admission.route.bodyLimit
        guard bytes.count <= limit - exchange.body.count else {
            // libmicrohttpd accepts no answer before the end of the body. No byte of this answer has been sent yet, so
            // it can be written to the socket directly. libmicrohttpd then closes the connection.
            watch.answers(exchange.id)
            exchange.stage = .answered
            AdminResponse.tooLarge(limit).write(to: reeve_mhd_descriptor(exchange.connection))
            return .NO
        }
        exchange.body += bytes
        return .YES
    }

    /// Calls the handler. The request must be complete.
    func callHandler(_ exchange: Exchange, _ admission: Exchange.Admission) -> MHD_Result {
        guard let head = exchange.head else { return .NO }
        let request = AdminRequest(
            head: head, parameters: admission.parameters, body: exchange.body, caller: admission.caller)
        exchange.body = []
        switch admission.route.handler {
        case .immediate(let answer): return send(answer(request).compressed(for: head), for: exchange)
        case .task(let handle):
            return suspend(exchange, limit: admission.route.deadline) { [logger] in
                do {
                    return .answer(try await handle(request).compressed(for: head))
                } catch is CancellationError {
                    return .answer(.unavailable("the request was cancelled"))
                } catch {
                    logger.error(
                        "a handler failed",
                        [LogField("method", head.method), LogField("path", head.path), LogField("error", error)])
                    return .answer(.problem(500, "Internal Server Error", detail: "the server's log has the details"))
                }
            }
        }
    }

    /// Suspends the connection until a task has an outcome. The connection is then resumed: libmicrohttpd calls
    /// `Callbacks.handle` again, which calls `resume`.
    private func suspend(
        _ exchange: Exchange, limit: Duration, _ work: @escaping @Sendable () async -> Exchange.Outcome
    ) -> MHD_Result {
        exchange.stage = .suspended
        switch tasks.start(exchange, work) {
        case nil:
            watch.suspended(exchange, for: limit)
            return .YES
        case .busy: return send(.unavailable("too many requests are in progress"), for: exchange)
        case .stopping: return send(.unavailable("the server is stopping"), for: exchange)
        }
    }

    /// Processes the outcome after the connection was resumed.
    func resume(_ exchange: Exchange) -> MHD_Result {
        switch tasks.takeOutcome(exchange) {
        case .answer(let response): return send(response, for: exchange)
        case .authenticated(let caller):
            guard let match = exchange.match else { return .NO }
            exchange.match = nil
            watch.awaitsBody(exchange.id)
            return admit(exchange, match, caller: caller)
        case .disconnected, nil: return .NO
        }
    }

    // MARK: Answer

    private func send(_ response: AdminResponse, for exchange: Exchange) -> MHD_Result {
        exchange.stage = .answered
        watch.answers(exchange.id)
        if let head = exchange.head {
            logger.debug(
                "answered",
                [LogField("method", head.method), LogField("path", head.path), LogField("status", response.status)])
        }
        return response.queue(on: exchange.connection)
    }
}

/// A header, and the addresses of its name and value in libmicrohttpd's memory.
struct HeaderField {
    let name: String
    let value: String
    let nameAddress: UInt
    let valueAddress: UInt
}

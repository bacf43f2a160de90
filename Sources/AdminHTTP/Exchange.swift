import CMicrohttpd

/// A request and the state of its processing.
// @unchecked: used only on libmicrohttpd's thread, with one exception. While the connection is suspended, `connection`,
// `outcome` and `task` are protected by the lock of `HandlerTasks`.
final class Exchange: @unchecked Sendable {
    enum Stage {
        case head
        /// The connection is suspended until a task has an outcome.
        case suspended
        /// The body is being received; the handler is called when it is complete.
        case body(Admission)
        case answered
    }

    /// The route of a request, and the inputs that the handler receives in addition to head and body.
    struct Admission {
        let route: Route
        let parameters: [String: String]
        let caller: Caller?
    }

    /// The result of a task.
    enum Outcome {
        case answer(AdminResponse)
        /// The caller is authenticated, and the processing of the request continues.
        case authenticated(Caller)
        /// The client has disconnected.
        case disconnected
    }

    let connection: OpaquePointer
    /// The target as the client sent it. A target above `RequestTarget.Limits.bytes` is cut to one byte more than this
    /// limit, so that it is still recognized as too long.
    let target: [UInt8]
    /// The address of the byte after the target in libmicrohttpd's memory.
    let targetEnd: UInt
    var stage = Stage.head
    /// nil until the head has been checked.
    var head: RequestHead?
    /// The routing result, while the caller is being authenticated.
    var match: Router.Match?
    var body: [UInt8] = []
    var outcome: Outcome?
    var task: Task<Void, Never>?

    init(_ connection: OpaquePointer, target: [UInt8], targetEnd: UInt) {
        self.connection = connection
        self.target = target
        self.targetEnd = targetEnd
    }

    var id: UInt { UInt(bitPattern: connection) }
}

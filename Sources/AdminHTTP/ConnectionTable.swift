/// The connections of a server and their deadlines. Pure: no I/O; the caller passes the time.
struct ConnectionTable {
    struct Limits: Sendable {
        /// The maximum number of connections. If it is exceeded, the connection that is needed least is closed (see
        /// `least`).
        var connections = 256
        /// The maximum number of connections of one peer (see `PeerAddress.peer`). If it is exceeded, the connection of
        /// this peer that is needed least is closed.
        var perPeer = 128
        /// How long a request may take to arrive, head and body. For the first request of a connection, the time starts
        /// when the connection is opened. For later requests, it starts when the head has arrived. After authentication
        /// it starts again, for the body.
        var request: Duration = .seconds(10)
        /// How long the peer may take to read an answer.
        var answer: Duration = .seconds(30)
        /// How long a connection may be idle after an answer, until the head of the next request has arrived.
        var idle: Duration = .seconds(60)
        /// How long authentication may take.
        var authentication: Duration = .seconds(10)
        /// The maximum number of tasks that run at a time. Cancelled tasks count until they end.
        var tasks = 256

        init() {}
    }

    private enum Phase {
        /// The connection waits for its first request, or receives a request.
        case asking
        /// A task works on the request.
        case suspended
        case answering
        /// The answer has been sent. The client may or may not send another request.
        case idle
    }

    private struct Entry {
        let descriptor: Int32
        let peer: PeerAddress?
        var phase = Phase.asking
        var since: ContinuousClock.Instant
        /// nil if the deadline of a suspended connection has passed and was reported in `Overdue.expired`.
        var deadline: ContinuousClock.Instant?
        var isClosing = false
    }

    /// The connections whose deadline has passed.
    struct Overdue: Equatable {
        /// The descriptors to close.
        var closing: [Int32] = []
        /// The ids of suspended connections whose task took too long. Each connection is reported once.
        var expired: [UInt] = []
    }

    private let limits: Limits
    private var entries: [UInt: Entry] = [:]

    init(_ limits: Limits) { self.limits = limits }

    var isEmpty: Bool { entries.isEmpty }

    /// Records a new connection.
    ///
    /// - Returns: the descriptors of the connections to close, so that the limits are not exceeded.
    mutating func opened(
        _ id: UInt, _ descriptor: Int32, from peer: PeerAddress?, at now: ContinuousClock.Instant
    ) -> [Int32] {
        entries[id] = Entry(descriptor: descriptor, peer: peer, since: now, deadline: now + limits.request)
        var closing: [Int32] = []
        let open = entries.filter { !$0.value.isClosing }
        let siblings = open.filter { $0.value.peer == peer }
        if siblings.count > limits.perPeer {
            closing += close(least(siblings, besides: id, at: now))
        } else if open.count > limits.connections {
            closing += close(least(open, besides: id, at: now))
        }
        return closing
    }

    /// Removes a closed connection. The system may give its descriptor to another connection immediately.
    mutating func closed(_ id: UInt) { entries[id] = nil }

    mutating func began(_ id: UInt, at now: ContinuousClock.Instant) {
        // The time limit of the first request runs from the opening of the connection, so only an idle connection gets
        // a new deadline here.
        if entries[id]?.phase == .idle { move(id, to: .asking, now, limits.request) }
    }

    mutating func suspended(_ id: UInt, for limit: Duration, at now: ContinuousClock.Instant) {
        move(id, to: .suspended, now, limit)
    }

    /// Called when the caller was authenticated, before the body is received.
    mutating func awaitsBody(_ id: UInt, at now: ContinuousClock.Instant) { move(id, to: .asking, now, limits.request) }

    mutating func answers(_ id: UInt, at now: ContinuousClock.Instant) { move(id, to: .answering, now, limits.answer) }

    mutating func answered(_ id: UInt, at now: ContinuousClock.Instant) { move(id, to: .idle, now, limits.idle) }

    private mutating func move(_ id: UInt, to phase: Phase, _ now: ContinuousClock.Instant, _ limit: Duration) {
        entries[id]?.phase = phase
        entries[id]?.since = now
        entries[id]?.deadline = now + limit
    }

    mutating func overdue(at now: ContinuousClock.Instant) -> Overdue {
        var overdue = Overdue()
        for (id, entry) in entries where !entry.isClosing {
            guard let deadline = entry.deadline, deadline <= now else { continue }
            if entry.phase == .suspended {
                entries[id]?.deadline = nil
                overdue.expired.append(id)
            } else {
                overdue.closing += close(id)
            }
        }
        return overdue
    }

    /// The earliest deadline of all connections that are not closing.
    var nextDeadline: ContinuousClock.Instant? { entries.values.filter { !$0.isClosing }.compactMap(\.deadline).min() }

    /// Returns the descriptor of a connection if it is suspended.
    func suspendedDescriptor(_ id: UInt) -> Int32? {
        entries[id].flatMap { $0.phase == .suspended ? $0.descriptor : nil }
    }

    /// Returns the connection that is needed least. Slow connections come first: those that have been sending a
    /// request, or reading an answer, for longer than a well-behaved client needs (1 s). Idle connections come second,
    /// and all other connections last. Among several connections of the same class, the connection whose current phase
    /// began first is returned. A suspended connection never counts as slow, because it waits for the server.
    private func least(
        _ entries: [UInt: Entry], besides id: UInt, at now: ContinuousClock.Instant
    ) -> UInt? {
        func rank(_ entry: Entry) -> Int {
            if entry.phase == .idle { return 1 }
            return entry.phase != .suspended && now - entry.since >= .seconds(1) ? 0 : 2
        }
        return entries.filter { $0.key != id }
            .min { (rank($0.value), $0.value.since) < (rank($1.value), $1.value.since) }?.key
    }

    private mutating func close(_ id: UInt?) -> [Int32] {
        guard let id, let descriptor = entries[id]?.descriptor else { return [] }
        entries[id]?.isClosing = true
        return [descriptor]
    }
}

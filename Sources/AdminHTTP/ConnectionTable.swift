/// The connections of a server, and which of them have had their time. Pure: instants come from the caller.
struct ConnectionTable {
    struct Limits: Sendable {
        /// How many there may be; one more, and the one that does least is closed.
        var connections = 256
        /// The same for those of one peer.
        var perPeer = 128
        /// How long a request may take to come, head and body, from its connection or from what is known of its beginning.
        var request: Duration = .seconds(10)
        /// How long the peer may take to read an answer.
        var answer: Duration = .seconds(30)
        /// How long a connection may wait for its next request.
        var idle: Duration = .seconds(60)
        /// How long authentication may take.
        var authentication: Duration = .seconds(10)
        /// How many tasks may run at a time, including those that ignore cancellation.
        var tasks = 256

        init() {}
    }

    private enum Phase {
        /// A request is awaited, or is coming.
        case asking
        /// A task works on the request.
        case suspended
        case answering
        /// After an answer; the next request may never come.
        case idle
    }

    private struct Entry {
        let descriptor: Int32
        let peer: PeerAddress?
        var phase = Phase.asking
        var since: ContinuousClock.Instant
        /// nil after an expired suspension was reported.
        var deadline: ContinuousClock.Instant?
        var isClosing = false
    }

    /// The connections whose time is over.
    struct Overdue: Equatable {
        /// Descriptors to close.
        var closing: [Int32] = []
        /// Suspended connections whose task took too long; each is reported once.
        var expired: [UInt] = []
    }

    private let limits: Limits
    private var entries: [UInt: Entry] = [:]

    init(_ limits: Limits) { self.limits = limits }

    var isEmpty: Bool { entries.isEmpty }

    /// - Returns: the descriptors to be closed, so that there is room.
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

    /// The connection is closed, and its descriptor may soon belong to another connection.
    mutating func closed(_ id: UInt) { entries[id] = nil }

    mutating func began(_ id: UInt, at now: ContinuousClock.Instant) {
        // What has come of the first request counts from its connection.
        if entries[id]?.phase == .idle { move(id, to: .asking, now, limits.request) }
    }

    mutating func suspended(_ id: UInt, for limit: Duration, at now: ContinuousClock.Instant) {
        move(id, to: .suspended, now, limit)
    }

    /// The caller is authenticated, and the body may come.
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

    /// When the next one's time is over.
    var nextDeadline: ContinuousClock.Instant? { entries.values.filter { !$0.isClosing }.compactMap(\.deadline).min() }

    /// The descriptor of a connection if it is suspended.
    func suspendedDescriptor(_ id: UInt) -> Int32? {
        entries[id].flatMap { $0.phase == .suspended ? $0.descriptor : nil }
    }

    /// The one that is missed least: one that has been asking, or reading its answer, for longer than an honest one
    /// needs; then one that is idle; then the oldest. The time that a request is suspended does not count against it.
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

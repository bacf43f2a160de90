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
        /// How many bytes of a request's body are read.
        var body = 64 * 1024

        init() {}
    }

    private enum Phase {
        /// A request is awaited, or is coming.
        case asking
        case answering
        /// After an answer; the next request may never come.
        case idle
    }

    private struct Entry {
        let descriptor: Int32
        let peer: PeerAddress?
        var phase = Phase.asking
        var since: ContinuousClock.Instant
        var isClosing = false
    }

    private let limits: Limits
    private var entries: [UInt: Entry] = [:]

    init(_ limits: Limits) { self.limits = limits }

    var isEmpty: Bool { entries.isEmpty }

    /// - Returns: the descriptors to be closed, so that there is room.
    mutating func opened(
        _ id: UInt, _ descriptor: Int32, from peer: PeerAddress?, at now: ContinuousClock.Instant
    ) -> [Int32] {
        entries[id] = Entry(descriptor: descriptor, peer: peer, since: now)
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

    /// The connection is closed, and its descriptor about to be another's.
    mutating func closed(_ id: UInt) { entries[id] = nil }

    mutating func began(_ id: UInt, at now: ContinuousClock.Instant) {
        // What has come of the first request counts from its connection.
        if entries[id]?.phase == .idle { move(id, to: .asking, now) }
    }

    mutating func answers(_ id: UInt, at now: ContinuousClock.Instant) { move(id, to: .answering, now) }

    mutating func answered(_ id: UInt, at now: ContinuousClock.Instant) { move(id, to: .idle, now) }

    private mutating func move(_ id: UInt, to phase: Phase, _ now: ContinuousClock.Instant) {
        entries[id]?.phase = phase
        entries[id]?.since = now
    }

    /// - Returns: the descriptors whose time is over.
    mutating func overdue(at now: ContinuousClock.Instant) -> [Int32] {
        entries.filter { !$0.value.isClosing && deadline($0.value) <= now }.keys.flatMap { close($0) }
    }

    /// When the next one's time is over.
    var nextDeadline: ContinuousClock.Instant? {
        entries.values.filter { !$0.isClosing }.map(deadline).min()
    }

    private func deadline(_ entry: Entry) -> ContinuousClock.Instant {
        switch entry.phase {
        case .asking: entry.since + limits.request
        case .answering: entry.since + limits.answer
        case .idle: entry.since + limits.idle
        }
    }

    /// The one that is missed least: one that has been asking, or reading its answer, for longer than an honest one
    /// needs; then one that is idle; then the oldest.
    private func least(
        _ entries: [UInt: Entry], besides id: UInt, at now: ContinuousClock.Instant
    ) -> UInt? {
        func rank(_ entry: Entry) -> Int {
            if entry.phase == .idle { return 1 }
            return now - entry.since >= .seconds(1) ? 0 : 2
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

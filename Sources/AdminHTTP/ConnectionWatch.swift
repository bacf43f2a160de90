import CSystem
import Foundation

/// Enforces the time limits and the connection limits, and detects when the client of a suspended connection
/// disconnects. It runs on a separate thread.
///
/// libmicrohttpd limits only the time without any data, which a slow client can extend by sending single bytes. When
/// libmicrohttpd has reached its connection limit, it refuses new clients and does not close old connections. It does
/// not watch suspended connections. This class shuts a connection down, and libmicrohttpd then closes it. Before
/// libmicrohttpd closes a descriptor it calls `closed`, which acquires the lock. A descriptor that is shut down under
/// the lock therefore still belongs to the connection.
// @unchecked: `table`, `suspended` and `isStopped` are accessed only while `lock` is held.
final class ConnectionWatch: @unchecked Sendable {
    private let lock = NSLock()
    private var table: ConnectionTable
    /// The exchanges of suspended connections.
    private var suspended: [UInt: Exchange] = [:]
    private var isStopped = false
    /// An eventfd that wakes the thread after a change. The thread closes the eventfd when it ends.
    private let wakeup: Int32
    private let onExpiry: @Sendable (Exchange) -> Void
    private let onDisconnect: @Sendable (Exchange) -> Void

    /// - Parameters:
    ///   - onExpiry: called when the task of a suspended connection took too long.
    ///   - onDisconnect: called when the client of a suspended connection has disconnected.
    /// - Returns: nil if the process has no file descriptor left.
    init?(
        _ limits: ConnectionTable.Limits, onExpiry: @escaping @Sendable (Exchange) -> Void,
        onDisconnect: @escaping @Sendable (Exchange) -> Void
    ) {
        wakeup = csystem_eventfd()
        guard wakeup >= 0 else { return nil }
        table = ConnectionTable(limits)
        self.onExpiry = onExpiry
        self.onDisconnect = onDisconnect
        let thread = Thread { [self] in watch() }
        thread.name = "http watch"
        thread.start()
    }

    func stop() { change { isStopped = true } }

    func opened(_ id: UInt, _ descriptor: Int32, from peer: PeerAddress?) {
        change {
            for one in table.opened(id, descriptor, from: peer, at: .now) { shutdown(one, Int32(SHUT_RDWR)) }
        }
    }

    func closed(_ id: UInt) {
        change {
            table.closed(id)
            suspended[id] = nil
        }
    }

    func began(_ id: UInt) { change { table.began(id, at: .now) } }

    /// Watches a connection that is suspended while a task works on its request.
    ///
    /// - Parameter limit: how long the task may take.
    func suspended(_ exchange: Exchange, for limit: Duration) {
        change {
            table.suspended(exchange.id, for: limit, at: .now)
            suspended[exchange.id] = exchange
        }
    }

    func awaitsBody(_ id: UInt) {
        change {
            table.awaitsBody(id, at: .now)
            suspended[id] = nil
        }
    }

    func answers(_ id: UInt) {
        change {
            table.answers(id, at: .now)
            suspended[id] = nil
        }
    }

    func answered(_ id: UInt) {
        change {
            table.answered(id, at: .now)
            suspended[id] = nil
        }
    }

    private func change(_ body: () -> Void) {
        lock.withLock {
            // After `stop`, the thread may have closed the eventfd.
            if isStopped { return }
            body()
            csystem_eventfd_signal(wakeup)
        }
    }

    // MARK: Watching

    private struct Round {
        let expired: [Exchange]
        let suspended: [(exchange: Exchange, descriptor: Int32)]
        let deadline: ContinuousClock.Instant?
    }

    private func watch() {
        while let round = begin() {
            for exchange in round.expired { onExpiry(exchange) }
            for exchange in hungUp(round) where forget(exchange) { onDisconnect(exchange) }
        }
        lock.withLock { _ = close(wakeup) }
    }

    /// Returns the work of one round; nil after `stop`.
    private func begin() -> Round? {
        lock.withLock {
            if isStopped { return nil }
            csystem_eventfd_drain(wakeup)
            let overdue = table.overdue(at: .now)
            for one in overdue.closing { shutdown(one, Int32(SHUT_RDWR)) }
            let watched = suspended.compactMap { id, exchange in
                table.suspendedDescriptor(id).map { (exchange: exchange, descriptor: $0) }
            }
            return Round(
                expired: overdue.expired.compactMap { suspended[$0] }, suspended: watched, deadline: table.nextDeadline)
        }
    }

    /// Waits for a change, a disconnect or the next deadline.
    ///
    /// - Returns: the exchanges whose descriptor reports a disconnect. Such an exchange may have ended in the meantime,
    ///   and its descriptor may already belong to another connection, so the caller checks that the exchange is still
    ///   suspended.
    private func hungUp(_ round: Round) -> [Exchange] {
        var polled = [pollfd(fd: wakeup, events: Int16(POLLIN), revents: 0)]
        polled += round.suspended.map { pollfd(fd: $0.descriptor, events: csystem_poll_hangup(), revents: 0) }
        var milliseconds: Int32 = -1
        if let deadline = round.deadline {
            let left = ContinuousClock.now.duration(to: deadline) / .milliseconds(1)
            milliseconds = Int32(min(max(left.rounded(.up), 0), 3_600_000))
        }
        guard poll(&polled, nfds_t(polled.count), milliseconds) > 0 else { return [] }
        return zip(polled.dropFirst(), round.suspended).compactMap { $0.revents != 0 ? $1.exchange : nil }
    }

    /// Stops watching a suspended connection.
    ///
    /// - Returns: whether the exchange was still suspended.
    private func forget(_ exchange: Exchange) -> Bool {
        lock.withLock {
            guard suspended[exchange.id] === exchange else { return false }
            suspended[exchange.id] = nil
            return true
        }
    }
}

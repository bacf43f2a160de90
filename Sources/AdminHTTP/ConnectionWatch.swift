import Foundation

/// Closes connections whose time is over, or in whose place others are to come, from a thread of its own.
///
/// libmicrohttpd has a deadline for silence only, which a byte now and then puts off, and at its limits refuses those
/// who come instead of those who stay. Here a connection is shut down, which makes libmicrohttpd close it. It tells
/// before it closes a descriptor, and waits for the lock then: what is shut down under the lock is still the
/// connection's.
// @unchecked: `table` and `isStopped` are touched only while `condition` is locked.
final class ConnectionWatch: @unchecked Sendable {
    private let condition = NSCondition()
    private var table: ConnectionTable
    private var isStopped = false

    init(_ limits: ConnectionTable.Limits) {
        table = ConnectionTable(limits)
        let thread = Thread { [self] in watch() }
        thread.name = "http watch"
        thread.start()
    }

    func stop() {
        condition.withLock {
            isStopped = true
            condition.signal()
        }
    }

    func opened(_ id: UInt, _ descriptor: Int32, from peer: PeerAddress?) {
        condition.withLock {
            for one in table.opened(id, descriptor, from: peer, at: .now) { shutdown(one, Int32(SHUT_RDWR)) }
            condition.signal()
        }
    }

    func closed(_ id: UInt) { condition.withLock { table.closed(id) } }

    func began(_ id: UInt) { change { $0.began(id, at: .now) } }

    func answers(_ id: UInt) { change { $0.answers(id, at: .now) } }

    func answered(_ id: UInt) { change { $0.answered(id, at: .now) } }

    private func change(_ body: (inout ConnectionTable) -> Void) {
        condition.withLock {
            body(&table)
            condition.signal()
        }
    }

    private func watch() {
        condition.withLock {
            while !isStopped {
                for one in table.overdue(at: .now) { shutdown(one, Int32(SHUT_RDWR)) }
                if let next = table.nextDeadline {
                    let seconds = ContinuousClock.now.duration(to: next) / .seconds(1)
                    _ = condition.wait(until: Date(timeIntervalSinceNow: max(seconds, 0.005)))
                } else {
                    condition.wait()
                }
            }
        }
    }
}

import CLibpq
import Foundation
import SQL

/// A message that was sent with `NOTIFY`.
public struct Notification: Sendable, Equatable {
    public let channel: String
    public let payload: String
    public let serverProcess: Int32
}

extension Connection {
    /// Listens on a channel until the connection is closed.
    ///
    /// - Throws: `PostgresError` of kind `configuration` behind a pooler, because notifications are lost there.
    public func listen(to channel: String) throws {
        guard !isPooled else {
            throw PostgresError(
                .configuration, "LISTEN requires a direct connection",
                hint: "set direct_url to the server's own address")
        }
        try execute("LISTEN \(quoteIdentifier(channel))")
    }

    /// Returns the notifications that have arrived. If there are none, waits up to `limit` for the next ones. Returns
    /// an empty array if none arrive.
    ///
    /// - Throws: `PostgresError` of kind `connectionLost`; `CancellationError`.
    public func notifications(within limit: Duration) throws -> [Notification] {
        guard let handle else { throw PostgresError(.connectionLost, "the connection is closed") }
        let end = ContinuousClock.now + limit
        while true {
            try Task.checkCancellation()
            if PQconsumeInput(handle.raw) == 0 {
                close()
                throw PostgresError(.connectionLost, handle.lastError)
            }
            var arrived: [Notification] = []
            while let notify = PQnotifies(handle.raw) {
                arrived.append(
                    Notification(
                        channel: String(cString: notify.pointee.relname),
                        payload: String(cString: notify.pointee.extra),
                        serverProcess: notify.pointee.be_pid))
                PQfreemem(notify)
            }
            if !arrived.isEmpty { return arrived }
            if try handle.wait(for: POLLIN, until: end, wake: wake) == .late { return [] }
        }
    }
}

import CLibpq
import Foundation

/// What a `NOTIFY` sent.
public struct Notification: Sendable, Equatable {
    public let channel: String
    public let payload: String
    public let serverProcess: Int32
}

extension Connection {
    /// Listens on a channel, until the connection is closed.
    ///
    /// - Throws: `PostgresError` of kind `misuse` behind a pooler, where notifications are lost.
    public func listen(to channel: String) throws {
        guard !isPooled else {
            throw PostgresError(
                .misuse, "LISTEN needs a direct connection", hint: "give the server's own address as direct_url")
        }
        try execute("LISTEN \(quoteIdentifier(channel))")
    }

    /// The notifications that have arrived, or else the next that arrive within `limit`; empty when none did.
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

/// A name as SQL writes it between quotes (PostgreSQL manual, section 4.1.1).
public func quoteIdentifier(_ name: String) -> String {
    "\"\(name.replacing("\"", with: "\"\""))\""
}

/// A text as an SQL literal that reads the same with either setting of `standard_conforming_strings`.
public func quoteLiteral(_ text: String) -> String {
    // Most have neither, and replacing costs much more than looking.
    if !text.utf8.contains(where: { $0 == UInt8(ascii: "'") || $0 == UInt8(ascii: "\\") }) { return "'\(text)'" }
    let doubled = text.replacing("'", with: "''")
    return doubled.contains("\\") ? "E'\(doubled.replacing("\\", with: "\\\\"))'" : "'\(doubled)'"
}

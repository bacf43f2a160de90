import Postgres
import SQL

/// The session in which a replay runs in its scratch database. No other session can connect there, so that the workers
/// of subscriptions cannot either.
struct ReplaySession: Sendable {
    private let scratch: ConnectionSettings
    private let server: ConnectionSettings
    private(set) var connection: Connection
    /// Whether the next migration requires a new session.
    var isSpent = false

    /// Opens a session, passes it to `body`, and closes it.
    ///
    /// - Parameters:
    ///   - scratch: the settings that `ScratchDatabase.with` has passed to its body.
    ///   - server: those of the database beside it.
    /// - Throws: `PostgresError`; the error of `body`.
    static func with<T: Sendable>(
        in scratch: ConnectionSettings, beside server: ConnectionSettings,
        _ body: (inout ReplaySession) async throws -> T
    ) async throws -> T {
        let connection = try await Connection.open(scratch.named("reeve validate"))
        var session = ReplaySession(scratch: scratch, server: server, connection: connection)
        do {
            try await ScratchDatabase.admit(false, to: scratch, beside: server)
            let result = try await body(&session)
            await session.end()
            return result
        } catch {
            await session.end()
            throw error
        }
    }

    /// Drops the subscriptions before anything else can connect, and closes the connection.
    private func end() async {
        // In a separate task, because the current task may be cancelled.
        await Task { [connection] in try? await connection.with { try ScratchDatabase.dropSubscriptions(on: $0) } }
            .value
        await connection.close()
    }

    /// Ends the session and begins a new one. Enabled subscriptions are disabled in the meantime, because their workers
    /// could connect.
    ///
    /// - Throws: `PostgresError`.
    mutating func renew() async throws {
        let enabled = try await connection.with { connection -> [String] in
            let names: [String] = try connection.query(
                """
                SELECT quote_ident(s.subname) FROM pg_subscription s
                WHERE s.subenabled AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                """
            ).map { try $0.get(0) }
            try Self.alter(names, "DISABLE", on: connection)
            return names
        }
        isSpent = false
        await connection.close()
        try await ScratchDatabase.admit(true, to: scratch, beside: server)
        connection = try await Connection.open(scratch.named("reeve validate"))
        try await ScratchDatabase.admit(false, to: scratch, beside: server)
        try await connection.with { try Self.alter(enabled, "ENABLE", on: $0) }
    }

    private static func alter(
        _ subscriptions: [String], _ change: String, on connection: isolated Connection
    ) throws {
        if subscriptions.isEmpty { return }
        let triggers = try ScratchDatabase.disableEventTriggers(on: connection)
        for name in subscriptions { try connection.execute("ALTER SUBSCRIPTION \(name) \(change)") }
        for statement in triggers { try connection.execute(statement) }
    }
}

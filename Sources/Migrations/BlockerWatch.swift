import Foundation
import Postgres
import Synchronization

/// Finds the sessions that block a slow migration, from a second connection.
///
/// One watch is used for a whole run of migrations. The watch connects only if a migration takes longer than the
/// `patience` given to `begin`.
final class BlockerWatch: Sendable {
    private let database: Database
    private let state = Mutex(State())

    private struct State {
        var patience: Duration?
        var began = ContinuousClock.now
        var seen: [Blocker] = []
    }

    init(database: Database) {
        self.database = database
    }

    /// Begins to watch a migration, and discards the blockers of the previous one.
    ///
    /// - Parameter patience: how long the migration may take before its blockers are queried.
    func begin(patience: Duration) {
        state.withLock { $0 = State(patience: patience, began: .now) }
    }

    /// The blockers of the current migration that were found last.
    var seen: [Blocker] { state.withLock { $0.seen } }

    /// Watches the migrations that `body` runs on a connection.
    func during<T: Sendable>(_ connection: Connection, _ body: () async throws -> T) async throws -> T {
        let process = await connection.serverProcess
        let looking = Task { [self] in try await findBlockers(of: process) }
        defer { looking.cancel() }
        return try await body()
    }

    private func findBlockers(of process: Int) async throws {
        try await waitUntilLate()
        try await database.withDirectConnection(named: "reeve migrate watch") { connection in
            while true {
                let blockers = try await connection.with { try self.blockers(of: process, on: $0) }
                if !blockers.isEmpty { self.state.withLock { $0.seen = blockers } }
                try await Task.sleep(for: .milliseconds(100))
                try await self.waitUntilLate()
            }
        }
    }

    /// Returns when the current migration has taken longer than the `patience` given to `begin`.
    private func waitUntilLate() async throws {
        while true {
            let left = state.withLock { state in
                state.patience.map { $0 - (ContinuousClock.now - state.began) } ?? .milliseconds(100)
            }
            if left <= .zero { return }
            try await Task.sleep(for: left)
        }
    }

    private func blockers(of process: Int, on connection: isolated Connection) throws -> [Blocker] {
        let rows = try connection.query(
            """
            SELECT pid, coalesce(usename::text, 'an unknown user') AS usename, coalesce(state, 'unknown') AS state,
                   coalesce(query, '') AS query
            FROM pg_catalog.pg_stat_activity WHERE pid = ANY (pg_catalog.pg_blocking_pids($1::integer))
            """, [process])
        return try rows.map {
            Blocker(
                process: try $0.get("pid"), user: try $0.get("usename"), state: try $0.get("state"),
                query: try $0.get("query"))
        }
    }
}

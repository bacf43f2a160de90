import Foundation
import Postgres
import Synchronization

/// Looks, from a second connection, at who holds up a migration that takes long.
final class BlockerWatch: Sendable {
    private let database: Database
    /// How long a migration may take before it is looked at.
    private let patience: Duration
    private let last = Mutex<[Blocker]>([])

    init(database: Database, patience: Duration) {
        self.database = database
        self.patience = patience
    }

    /// The blockers that were seen last.
    var seen: [Blocker] { last.withLock { $0 } }

    func during(_ connection: Connection, _ body: () async throws -> Void) async throws {
        let process = await connection.serverProcess
        let looking = Task { [self] in try await look(at: process) }
        defer { looking.cancel() }
        try await body()
    }

    private func look(at process: Int) async throws {
        try await Task.sleep(for: patience)
        try await database.withDirectConnection(named: "reeve migrate watch") { connection in
            while true {
                let blockers = try await connection.with { try self.blockers(of: process, on: $0) }
                if !blockers.isEmpty { self.last.withLock { $0 = blockers } }
                try await Task.sleep(for: max(self.patience / 4, .milliseconds(50)))
            }
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

import Foundation
import Postgres
import TestSupport
import Testing

@testable import Backups

/// Backups of many tables from a server whose lock table is small.
@Suite(.heavy, .timeLimit(.minutes(4)))
struct LockTableTests {
    private static let tables = 400

    /// Lends a server with room for few locks, and the tables in it.
    private func crowded(_ body: @Sendable (ConnectionSettings) async throws -> Void) async throws {
        let folder = "/tmp/reeve-locks-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        var options = EmbeddedCluster.Options(stateFolder: folder)
        options.settings = [
            "max_locks_per_transaction": "30", "max_connections": "25", "max_prepared_transactions": "0",
            "fsync": "off", "shared_buffers": "16MB",
        ]
        let cluster = try await EmbeddedCluster.acquire(options)
        do {
            let settings = cluster.settings(database: "postgres")
            try await Connection.opened(settings) { connection in
                try await connection.with { connection in
                    for start in stride(from: 0, to: Self.tables, by: 100) {
                        let tables = (start..<start + 100).map { "CREATE TABLE public.t\($0) AS SELECT \($0) AS a" }
                        try connection.execute(tables.joined(separator: ";"))
                    }
                }
            }
            try await body(settings)
        } catch {
            await cluster.destroy()
            throw error
        }
        await cluster.destroy()
    }

    /// How many sessions have locked all tables at the same time, until the task is cancelled.
    private func mostLocking(_ settings: ConnectionSettings) async throws -> Int {
        try await Connection.opened(settings) { connection in
            var most = 0
            while !Task.isCancelled {
                // The query is broken off when the task is cancelled.
                let now: Int? = try? await connection.value(
                    """
                    SELECT count(*) FROM (SELECT FROM pg_locks WHERE locktype = 'relation' AND granted
                        GROUP BY pid HAVING count(*) >= \(Self.tables)) AS s
                    """)
                most = max(most, now ?? 0)
            }
            return most
        }
    }

    @Test func `sessions take turns where they cannot all lock everything`() async throws {
        let vault = try await Vault()
        try await crowded { settings in
            let maker = vault.maker(settings) { $0.jobs = 4 }
            let making = Task { try await maker.make().manifest }
            let most = Task { try await mostLocking(settings) }
            let manifest = try await making.value
            most.cancel()
            #expect(manifest.tables.count == Self.tables)
            // The session with the snapshot, and one dump.
            #expect((1...2).contains(try await most.value))
            let proof = try await vault.prove(manifest)
            #expect(proof.isProved, "\(proof.differences)")
        }
    }
}

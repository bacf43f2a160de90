import Foundation
import Postgres
import Processes
import Telemetry
import TestSupport
import Testing

@testable import Backups

/// Backups of many tables from a server whose lock table is small.
@Suite(.heavy, .timeLimit(.minutes(10)))
struct LockTableTests {
    private static let tables = 400

    /// Lends a server with room for few locks, and the tables in it.
    private func crowded(
        locks: Int = 30, _ body: @Sendable (ConnectionSettings) async throws -> Void
    ) async throws {
        let limits = [
            "max_locks_per_transaction": "\(locks)", "max_connections": "25", "max_prepared_transactions": "0",
        ]
        try await OwnServer.with(settings: limits) { settings in
            try await Connection.opened(settings) { connection in
                try await connection.with { connection in
                    for start in stride(from: 0, to: Self.tables, by: 100) {
                        let tables = (start..<start + 100).map { "CREATE TABLE public.t\($0) AS SELECT \($0) AS a" }
                        try connection.execute(tables.joined(separator: ";"))
                    }
                }
            }
            try await body(settings)
        }
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

    private final class Lines: LogSink {
        private let lines = Gathered<String>()
        var all: [String] { lines.all }
        func write(_ line: LogLine) { lines.add([line.message]) }
    }

    /// pg_dump alone has room for its locks there.
    @Test func `tables that cannot be locked beside pg_dump are backed up, and compared afterwards`() async throws {
        let vault = try await Vault()
        try await crowded(locks: 13) { settings in
            let (said, cut) = (Lines(), SharedQueue([()]))
            let logger = Logger(level: .info, sink: said)
            var making = BackupMaker.Settings()
            making.recipients = [vault.recipient]
            // Between the snapshot and the end of the first attempt, a table loses its rows.
            making.begun = { _ in
                guard cut.next() != nil else { return }
                let ended = DispatchSemaphore(value: 0)
                Task {
                    try? await Connection.opened(settings) { connection in
                        try await connection.with { _ = try $0.execute("TRUNCATE public.t7") }
                    }
                    ended.signal()
                }
                ended.wait()
            }
            let maker = BackupMaker(
                database: Database(settings), name: "main", repositories: [vault.repository], settings: making,
                logger: logger)
            let manifest = try await maker.make().manifest
            #expect(said.all.contains { $0.contains("public.t7 was altered, dropped or truncated") }, "\(said.all)")
            #expect(manifest.tables.count == Self.tables)
            #expect(manifest.tables.first { $0.name == "t7" }?.rows == 0)
            #expect(try await vault.repository.ids(of: "main") == [manifest.id])
            let proof = try await vault.prove(manifest)
            #expect(proof.isProved, "\(proof.differences)")
        }
    }

    @Test(.database) func `a snapshot without locks notices what was changed since, and nothing else`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE TABLE t AS SELECT 1 AS a", "CREATE TABLE u AS SELECT 1 AS a", "CREATE SEQUENCE s")
        for (change, isSeen) in [
            ("INSERT INTO t VALUES (2); UPDATE u SET a = 3; DELETE FROM u", false), ("ANALYZE t", false),
            ("SELECT nextval('s')", false), ("CREATE TABLE v (a integer)", false), ("TRUNCATE t", true),
            ("ALTER TABLE t ADD COLUMN b integer", true), ("ALTER TABLE u RENAME TO w", true),
            ("BEGIN; DROP TABLE t; CREATE TABLE t AS SELECT 1 AS a; COMMIT", true),
            ("ALTER SEQUENCE s RESTART", true), ("ALTER TABLE t ADD CHECK (a > 0)", true),
        ] {
            try await Connection.opened(database.settings) { connection in
                let begun = try await SnapshotTransaction.begin(on: connection, wait: .seconds(5))
                let unlocked = SnapshotTransaction(
                    connection: connection, id: begun.id, wal: begun.wal, relations: begun.relations,
                    hasLargeObjects: false, lockCapacity: 0, holdsLocks: false)
                try await begun.end()
                try await database.execute(change)
                do {
                    try await database.with { try unlocked.checkUnchanged(on: $0) }
                    #expect(!isSeen, "\(change)")
                } catch is SnapshotTransaction.Changed {
                    #expect(isSeen, "\(change)")
                }
            }
        }
    }
}

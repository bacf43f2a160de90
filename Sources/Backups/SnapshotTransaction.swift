import Catalog
import Postgres

/// A transaction with an exported snapshot, and with locks on everything that is dumped under it.
///
/// The relations are listed and then locked in ACCESS SHARE mode, in a transaction that has no snapshot yet. Only then the
/// snapshot is taken and exported; relisted under it, the relations must be the same. So no TRUNCATE and no ALTER TABLE
/// can come between the snapshot and the dump. pg_dump alone allows that, since it takes its snapshot first.
struct SnapshotTransaction: Sendable {
    let connection: Connection
    /// The snapshot's name, as `pg_export_snapshot` returns it.
    let id: String
    let wal: String?
    let relations: [DatabaseContent.Relation]
    let hasLargeObjects: Bool

    private static let attempts = 10

    /// - Parameter wait: how long for a table that is locked.
    /// - Throws: `BackupError.changing`, `.held`; `PostgresError`.
    static func begin(on connection: Connection, wait: Duration) async throws -> SnapshotTransaction {
        for _ in 0..<attempts {
            do {
                if let snapshot = try await attempt(on: connection, wait) { return snapshot }
            } catch let error as PostgresError where error.sqlState == "55P03" {
                throw BackupError.held(holders: (try? await connection.with { try LockHolders.read(on: $0) }) ?? [])
            }
        }
        throw BackupError.changing(attempts: attempts)
    }

    private static func attempt(on connection: Connection, _ wait: Duration) async throws -> SnapshotTransaction? {
        let limit = "SET LOCAL lock_timeout = \(Int(wait / .milliseconds(1)))"
        return try await connection.with { connection in
            try connection.execute("BEGIN READ ONLY")
            do {
                // Looking at how large tables are waits for their locks too.
                try connection.execute(limit)
                let before = try DatabaseContent.relations(on: connection)
                try connection.execute("COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                try connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0; \(limit)")
                try ContentFingerprint.pinSettings(on: connection)
                for lock in locks(before) { try connection.execute(lock) }
                let row = try connection.query(
                    """
                    SELECT pg_export_snapshot(), CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn()::text END,
                        EXISTS (SELECT FROM pg_largeobject_metadata)
                    """
                ).first
                let after = try DatabaseContent.relations(on: connection)
                let same =
                    before.map { [$0.path, $0.kind, $0.definition] } == after.map { [$0.path, $0.kind, $0.definition] }
                guard let row, same else {
                    try connection.execute("ROLLBACK")
                    return nil
                }
                return SnapshotTransaction(
                    connection: connection, id: try row.get(0), wal: try row.get(1), relations: after,
                    hasLargeObjects: try row.get(2))
            } catch let error as PostgresError where error.sqlState == "42P01" {
                // One of them went before it was locked.
                try connection.execute("ROLLBACK")
                return nil
            } catch {
                _ = try? connection.execute("ROLLBACK")
                throw error
            }
        }
    }

    /// The statements that lock tables against whatever changes them otherwise than row by row.
    static func locks(_ relations: [DatabaseContent.Relation]) -> [String] {
        let tables = relations.filter { $0.kind != "S" }.map(\.path)
        return stride(from: 0, to: tables.count, by: 500).map { start in
            "LOCK TABLE \(tables[start..<min(start + 500, tables.count)].joined(separator: ", ")) IN ACCESS SHARE MODE"
        }
    }

    /// Ends the transaction, and with it the snapshot and the locks.
    func end() async throws {
        try await connection.with { _ = try $0.execute("ROLLBACK") }
    }
}

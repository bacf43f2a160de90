import Catalog
import Postgres
import SQL

/// A transaction with an exported snapshot, and with locks on everything that is dumped in that snapshot.
///
/// The relations are listed and then locked in ACCESS SHARE mode, in a transaction that has no snapshot yet. The
/// snapshot is taken and exported only after that. The relations are listed again in the snapshot, and both lists must
/// be equal. So no TRUNCATE and no ALTER TABLE can happen between the snapshot and the dump. With pg_dump alone they
/// can, because pg_dump takes its snapshot before it locks the tables.
///
/// If the server's lock table is too small for these locks and those of one pg_dump, nothing is locked. Instead, the
/// relations are compared after the dump with those of the snapshot (`checkUnchanged`).
struct SnapshotTransaction: Sendable {
    let connection: Connection
    /// The snapshot's name, as `pg_export_snapshot` returns it.
    let id: String
    let wal: String?
    /// The relations, in the order of their names. How a table is read may be changed before it is read.
    var relations: [DatabaseContent.Relation]
    let hasLargeObjects: Bool
    /// The schemas that are records of unfinished restores, and are not dumped.
    var records: [String] = []
    /// The minimum number of locks that the server's lock table can hold: twice `max_locks_per_transaction` for each
    /// session and each prepared transaction (`InitLocks` in PostgreSQL's lock.c).
    let lockCapacity: Int
    /// Whether this transaction holds locks on all relations.
    let holdsLocks: Bool

    /// Thrown if a relation was changed or dropped although it was not locked. The backup is to be made again.
    struct Changed: Error {}

    private static let attempts = 10

    /// - Parameter wait: how long to wait for a locked table.
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
                // Set the lock timeout first: reading the size of a table waits if another session has locked the
                // table.
                try connection.execute(limit)
                let before = try DatabaseContent.relations(on: connection)
                let pinsSchemas = try canPinSchemas(on: connection)
                let capacity = try lockCapacity(on: connection)
                // pg_dump needs as many locks again.
                let locks = 2 * before.count <= capacity
                try connection.execute(
                    "COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ \(pinsSchemas ? "READ WRITE" : "READ ONLY")")
                // Until the tables are locked, only SET and LOCK are allowed: a SELECT, even one without a table, would
                // take the snapshot.
                try connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0; \(limit)")
                try ContentFingerprint.pinSettings(on: connection)
                if locks { for lock in Self.locks(before) { try connection.execute(lock) } }
                // The transaction has a snapshot from here on.
                if pinsSchemas { try connection.execute("\(SchemaLock.names); SET TRANSACTION READ ONLY") }
                let areSame = try !locks || lockSequences(before, on: connection)
                let row = try connection.query(
                    """
                    SELECT pg_export_snapshot(), CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn()::text END,
                        EXISTS (SELECT FROM pg_largeobject_metadata)
                    """
                ).first
                let after = try DatabaseContent.relations(on: connection)
                guard let row, areSame, before.map(identity) == after.map(identity),
                    try !locks || areLocked(after, on: connection)
                else {
                    try connection.execute("ROLLBACK")
                    return nil
                }
                let records: [String] = try connection.query(
                    "SELECT nspname::text FROM pg_namespace WHERE \(UserSchemas.isRestore("nspname")) ORDER BY 1"
                ).map { try $0.get(0) }
                return SnapshotTransaction(
                    connection: connection, id: try row.get(0), wal: try row.get(1), relations: after,
                    hasLargeObjects: try row.get(2), records: records, lockCapacity: capacity, holdsLocks: locks)
            } catch let error as PostgresError where ["42P01", "40001"].contains(error.sqlState) {
                // A relation was dropped before it was locked, or its schema was renamed.
                try connection.execute("ROLLBACK")
                return nil
            } catch {
                _ = try? connection.execute("ROLLBACK")
                throw error
            }
        }
    }

    /// Returns the statements that lock tables against DROP, TRUNCATE, and those forms of ALTER TABLE that need an
    /// exclusive lock.
    static func locks(_ relations: [DatabaseContent.Relation]) -> [String] {
        let tables = relations.filter { $0.kind != "S" }.map(\.path)
        return stride(from: 0, to: tables.count, by: 500).map { start in
            "LOCK TABLE \(tables[start..<min(start + 500, tables.count)].joined(separator: ", ")) IN ACCESS SHARE MODE"
        }
    }

    private static func identity(_ relation: DatabaseContent.Relation) -> [String] {
        [String(relation.id), relation.path, relation.kind, relation.definition, relation.version]
    }

    private static func lockCapacity(on connection: isolated Connection) throws -> Int {
        try connection.query(
            """
            SELECT 2 * current_setting('max_locks_per_transaction')::int8 * (
                current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8)
            """
        ).first?.get(0) ?? 0
    }

    /// Checks, after everything was dumped, that no relation of the snapshot was changed, truncated or dropped since.
    /// Does nothing if the relations are locked.
    ///
    /// - Parameter connection: another connection than that of the snapshot, which sees what was committed since.
    /// - Throws: `Changed`; `PostgresError`.
    func checkUnchanged(on connection: isolated Connection) throws {
        if holdsLocks { return }
        let now = Set(try DatabaseContent.relations(on: connection).map(Self.identity))
        guard relations.map(Self.identity).allSatisfy(now.contains) else { throw Changed() }
    }

    /// Whether the role may lock rows of the catalog. The role must be a superuser, and the server must not be a
    /// standby.
    private static func canPinSchemas(on connection: isolated Connection) throws -> Bool {
        try connection.query(
            "SELECT rolsuper AND NOT pg_is_in_recovery() FROM pg_roles WHERE rolname = current_user"
        ).first?.get(0) ?? false
    }

    /// Locks sequences so that they can be used, but not altered or dropped. LOCK TABLE refuses sequences, so they are
    /// read by OID. Reading a sequence acquires the lock that `nextval` needs, and holds it until the end of the
    /// transaction.
    ///
    /// - Returns: whether the sequences still have their names.
    static func lockSequences(
        _ relations: [DatabaseContent.Relation], on connection: isolated Connection
    ) throws -> Bool {
        let sequences = relations.filter { $0.kind == "S" }
        for start in stride(from: 0, to: sequences.count, by: 500) {
            let some = sequences[start..<min(start + 500, sequences.count)]
            do {
                let values = some.map { "(\($0.id)::oid)" }.joined(separator: ", ")
                try connection.execute("SELECT pg_sequence_last_value(s.id) FROM (VALUES \(values)) s (id)")
            } catch let error as PostgresError where ["XX000", "42809"].contains(error.sqlState) {
                // The sequence is gone ("could not open relation with OID"), or its OID belongs to a table by now.
                return false
            }
            // `to_regclass` looks up names in the catalog caches, which the locks have brought up to date, and not in
            // the snapshot.
            let names = some.map { "(\($0.id)::oid, to_regclass(\(quoteLiteral($0.path))))" }.joined(separator: ", ")
            let changed = try connection.query(
                "SELECT s.id FROM (VALUES \(names)) s (id, found) WHERE s.found IS DISTINCT FROM s.id")
            if !changed.isEmpty { return false }
        }
        return true
    }

    /// Whether this session holds locks on the relations with the listed OIDs. Tables are locked by name, and a name
    /// may refer to another table by now.
    private static func areLocked(
        _ relations: [DatabaseContent.Relation], on connection: isolated Connection
    ) throws -> Bool {
        let held = try connection.query(
            """
            SELECT DISTINCT l.relation FROM pg_locks l JOIN pg_database d ON d.oid = l.database
            WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND d.datname = current_database()
            """)
        let ids = Set(try held.map { try $0.get(0, as: Int.self) })
        return relations.allSatisfy { ids.contains($0.id) }
    }

    /// Ends the transaction, and with it the snapshot and the locks.
    func end() async throws {
        try await connection.with { _ = try $0.execute("ROLLBACK") }
    }
}

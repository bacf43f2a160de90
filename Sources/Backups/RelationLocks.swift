import Catalog
import Postgres
import SQL
import Telemetry

/// The locks of a backup on the tables and sequences that it reads.
enum RelationLocks {
    /// A relation that is to be locked.
    struct Name: Sendable, Hashable {
        /// The OID of the relation.
        let id: Int
        /// The qualified and quoted name.
        let path: String
        let isSequence: Bool
    }

    /// Returns the relations that a backup reads (`DatabaseContent.relations`), without waiting for locks.
    static func names(on connection: isolated Connection) throws -> [Name] {
        try connection.query(
            """
            SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'S'
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE \(DatabaseContent.isBackedUp) ORDER BY 2, 3
            """
        ).map { row in
            Name(
                id: try row.get(0),
                path: ObjectIdentity(.table, schema: try row.get(1), try row.get(2)).description,
                isSequence: try row.get(3))
        }
    }

    /// Returns the statement that locks tables against DROP, TRUNCATE, and those forms of ALTER TABLE that need an
    /// exclusive lock.
    static func statement(_ paths: some Collection<String>) -> String {
        "LOCK TABLE \(paths.joined(separator: ", ")) IN ACCESS SHARE MODE"
    }

    /// Returns the statements that lock the tables among the relations.
    static func statements(_ relations: [DatabaseContent.Relation]) -> [String] {
        chunks(relations.filter { $0.kind != "S" }.map(\.path)).map { statement($0) }
    }

    private static func chunks<T>(_ all: [T]) -> [ArraySlice<T>] {
        stride(from: 0, to: all.count, by: 500).map { all[$0..<min($0 + 500, all.count)] }
    }

    /// Locks tables in a transaction that has no snapshot yet, and takes none. Tables that do not exist any more are
    /// left out.
    ///
    /// - Parameter limit: how long to wait for a lock; nil: as set, and then an error is thrown.
    /// - Returns: false if a lock was not available within the limit.
    @discardableResult
    static func lock(_ names: [Name], within limit: Duration? = nil, on connection: isolated Connection) throws -> Bool
    {
        let wait = limit.map { "SET LOCAL lock_timeout = \($0.milliseconds); " } ?? ""
        func lock(_ some: ArraySlice<String>) throws {
            do {
                try connection.execute("SAVEPOINT locking; \(wait)\(statement(some)); RELEASE locking")
            } catch let error as PostgresError where ["42P01", "3F000", "42809"].contains(error.sqlState) {
                try connection.execute("ROLLBACK TO locking; RELEASE locking")
                if some.count == 1 { return }
                let middle = some.startIndex + some.count / 2
                try lock(some[..<middle])
                try lock(some[middle...])
            }
        }
        do {
            for some in chunks(names.filter { !$0.isSequence }.map(\.path)) { try lock(some) }
            return true
        } catch let error as PostgresError where error.sqlState == "55P03" && limit != nil {
            try connection.execute("ROLLBACK TO locking; RELEASE locking")
            return false
        }
    }

    /// Locks sequences so that they can be used, but not altered or dropped. LOCK TABLE refuses sequences, so they are
    /// read by OID. Reading a sequence acquires the lock that `nextval` needs, and holds it until the end of the
    /// transaction.
    ///
    /// - Returns: whether the sequences still have their names.
    static func lockSequences(
        _ relations: [DatabaseContent.Relation], on connection: isolated Connection
    ) throws -> Bool {
        for some in chunks(relations.filter { $0.kind == "S" }) {
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

    /// Returns the OIDs of the relations of this database on which the session holds locks.
    static func held(on connection: isolated Connection) throws -> Set<Int> {
        Set(
            try connection.query(
                """
                SELECT DISTINCT l.relation FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND d.datname = current_database()
                """
            ).map { try $0.get(0) })
    }

    /// Returns the minimum number of locks that the server's lock table can hold: twice `max_locks_per_transaction` for
    /// each session and each prepared transaction (`InitLocks` in PostgreSQL's lock.c).
    static func capacity(on connection: isolated Connection) throws -> Int {
        try connection.query(
            """
            SELECT 2 * current_setting('max_locks_per_transaction')::int8 * (
                current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8)
            """
        ).first?.get(0) ?? 0
    }
}

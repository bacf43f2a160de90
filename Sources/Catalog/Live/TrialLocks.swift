import Postgres

/// The locks of a superuser's trial, which keep other sessions from changing objects after they were checked.
///
/// A superuser tries tables of other roles with the existing functions confined (`Confinement`), and leaves out tables
/// with risky expressions (`RiskyTables`). A trigger or constraint that another session adds later would be neither
/// confined nor checked. Therefore the tables are locked first, together with the other tables into which rows may be
/// inserted. DML of other sessions continues, but CREATE TRIGGER, CREATE RULE, CREATE INDEX, CREATE STATISTICS and
/// ALTER TABLE wait. The catalog rows of schemas and types of other roles are locked too, because a role that renames
/// such an object could create another object with the old name.
///
/// All locks are held until the transaction ends.
struct TrialLocks {
    /// The tables that could not be locked, and the tables that share rows with them, each with the reason.
    private(set) var missing: [ObjectIdentity: String] = [:]

    private struct Table {
        let oid: Int
        let identity: ObjectIdentity
        let kind: String
    }

    init() {}

    /// Locks the tables of a scope, in the open transaction. Tables that another session has locked are left out.
    ///
    /// - Parameters:
    ///   - reader: reads the schemas that are tried.
    ///   - isTried: returns whether a table is tried.
    /// - Throws: `PostgresError` if a schema or a type is being changed, or if the connection is lost.
    init(of reader: CatalogReader, _ isTried: (ObjectIdentity) -> Bool, on connection: isolated Connection) throws {
        // The schemas are locked first, because tables are locked by name.
        try Self.lockRows(SchemaLock.definitions, on: connection)
        let wanted = try Self.tables(of: reader, on: connection).filter { isTried($0.identity) }.map(\.oid)
        var refusals: [Int: String] = [:]
        let concerned = try Self.closure(of: wanted, on: connection).filter { ["r", "p"].contains($0.kind) }
        for start in stride(from: 0, to: concerned.count, by: Self.batch) {
            let tables = concerned[start..<min(start + Self.batch, concerned.count)]
            if case .success = try Self.lock(tables, on: connection) { continue }
            // The lock on at least one of these tables timed out. Each table is now locked without waiting, to find
            // those that cannot be locked.
            for table in tables {
                if case .failure(let error) = try Self.lock([table], "NOWAIT", on: connection) {
                    refusals[table.oid] = error.message
                }
            }
        }
        try Self.lockRows(Self.types, on: connection)
        try findMissing(wanted, refusals, on: connection)
    }

    private static let batch = 200

    /// Locks tables. The lock mode conflicts with itself and with all statements that change a table's definition, but
    /// not with DML.
    private static func lock(
        _ tables: some Collection<Table>, _ wait: String = "", on connection: isolated Connection
    ) throws -> Result<Void, PostgresError> {
        try connection.kept {
            let names = tables.map(\.identity.path).joined(separator: ", ")
            try connection.execute("LOCK TABLE \(names) IN SHARE UPDATE EXCLUSIVE MODE \(wait)")
        }
    }

    private static func lockRows(_ sql: String, on connection: isolated Connection) throws {
        do {
            try connection.savepoint { _ = try connection.execute(sql) }
        } catch var error as PostgresError where error.sqlState == "55P03" {
            error.hint = "another transaction is changing a schema or a type; try again when it has ended"
            throw error
        }
    }

    /// Records in `missing` the wanted tables that this session has not locked. There can be such tables although no
    /// lock was refused: another table has received the name since the names were read, or a partition has been added.
    private mutating func findMissing(
        _ wanted: [Int], _ refusals: [Int: String], on connection: isolated Connection
    ) throws {
        let held = Set(
            try connection.query(
                """
                SELECT l.relation::bigint FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation' AND l.granted
                    AND l.pid = pg_catalog.pg_backend_pid() AND l.mode = 'ShareUpdateExclusiveLock'
                    AND l.database = (
                        SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
                """
            ).map { try $0.get(0, as: Int.self) })
        for table in try Self.closure(of: wanted, on: connection) where !held.contains(table.oid) {
            let reason = refusals[table.oid] ?? "another transaction is changing it"
            // A row that is inserted into a table may be stored in one of its descendants.
            for relative in try Self.relatives(of: table.oid, on: connection) {
                let subject = relative.oid == table.oid ? "it" : table.identity.path
                missing[relative.identity] = "\(subject) cannot be locked: \(reason)"
            }
        }
    }

    // MARK: Queries

    /// Statements that lock the catalog rows of types whose owners are not superusers. The row of a composite type in
    /// `pg_class` is locked, because adding an attribute changes that row. The row type of a table is protected by the
    /// lock on the table.
    private static let types = """
        SELECT FROM pg_catalog.pg_type t WHERE t.typtype <> 'c' AND t.typelem = 0 AND t.typowner IN (
            SELECT o.oid FROM pg_catalog.pg_roles o WHERE NOT o.rolsuper) FOR UPDATE;
        SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_type t ON t.oid = c.reltype
            WHERE c.relkind = 'c' AND c.relowner IN (
                SELECT o.oid FROM pg_catalog.pg_roles o WHERE NOT o.rolsuper) FOR UPDATE
        """

    private static func tables(of reader: CatalogReader, on connection: isolated Connection) throws -> [Table] {
        let schemas = try reader.wantedSchemas(on: connection).map(\.text)
        return try found(
            """
            SELECT t.oid FROM pg_catalog.pg_class t JOIN pg_catalog.pg_namespace m ON m.oid = t.relnamespace
            WHERE m.nspname = ANY ($1::pg_catalog.text[]) AND t.relkind IN ('r', 'p')
            """, [schemas], on: connection)
    }

    /// Returns the given tables, and all tables that foreign keys and inheritance connect with them, in both
    /// directions. A trial of the given tables may insert rows into these tables or read rows from them.
    private static func closure(of tables: [Int], on connection: isolated Connection) throws -> [Table] {
        try found(
            """
            WITH RECURSIVE links AS MATERIALIZED (
                SELECT k.conrelid AS a, k.confrelid AS b FROM pg_catalog.pg_constraint k WHERE k.contype = 'f'
                UNION SELECT k.confrelid, k.conrelid FROM pg_catalog.pg_constraint k WHERE k.contype = 'f'
                UNION \(inheritance)),
            found AS (
                SELECT g.oid FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS g (oid)
                UNION SELECT l.b FROM found f JOIN links l ON l.a = f.oid)
            SELECT f.oid FROM found f
            """, [tables], on: connection)
    }

    /// Returns a table and all tables that it shares rows with.
    private static func relatives(of table: Int, on connection: isolated Connection) throws -> [Table] {
        try found(
            """
            WITH RECURSIVE links AS MATERIALIZED (\(inheritance)),
            found AS (
                SELECT $1::pg_catalog.oid AS oid UNION SELECT l.b FROM found f JOIN links l ON l.a = f.oid)
            SELECT f.oid FROM found f
            """, [table], on: connection)
    }

    private static let inheritance = """
        SELECT i.inhrelid AS a, i.inhparent AS b FROM pg_catalog.pg_inherits i
        UNION SELECT i.inhparent, i.inhrelid FROM pg_catalog.pg_inherits i
        """

    /// Returns the tables whose OIDs the query `oids` selects, sorted by name. Temporary tables are left out, because
    /// only the session that created them can use them.
    private static func found(
        _ oids: String, _ parameters: [(any PostgresEncodable)?], on connection: isolated Connection
    ) throws -> [Table] {
        try connection.query(
            """
            SELECT c.oid::pg_catalog.int8, c.relkind::pg_catalog.text, n.nspname::pg_catalog.text,
                c.relname::pg_catalog.text
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relpersistence <> 't' AND c.oid IN (\(oids)) ORDER BY 3, 4
            """, parameters
        ).map { row in
            Table(
                oid: try row.get(0), identity: ObjectIdentity(.table, schema: try row.get(2), try row.get(3)),
                kind: try row.get(1))
        }
    }
}

import Postgres

/// Finds the invalid indexes that an interrupted REINDEX CONCURRENTLY leaves behind: `_ccnew` are new ones, `_ccold`
/// are the replaced ones (PostgreSQL manual, REINDEX, "Rebuilding Indexes Concurrently"). Queries do not use them, and
/// they slow down every write.
struct ReindexLeftovers: Sendable {
    private let scope: ReindexScope

    init(_ scope: ReindexScope) { self.scope = scope }

    /// - Parameters:
    ///   - object: the OID of the index, table or schema; nil for a database.
    ///   - keeper: a session with Reeve's own settings.
    /// - Returns: those of the tables that are rebuilt, of their partitions and of the TOAST tables of these. `name` is
    ///   for use in SQL.
    func find(of object: Int?, on keeper: Connection) async throws -> [(oid: Int, name: String)] {
        try await keeper.with { [tables] keeper in
            try keeper.query(
                """
                WITH RECURSIVE rebuilt (oid) AS (
                    \(tables)
                    UNION
                    SELECT i.inhrelid FROM rebuilt r JOIN pg_inherits i ON i.inhparent = r.oid
                        JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition
                )
                SELECT x.indexrelid::int8 AS oid, format('%I.%I', n.nspname, c.relname) AS name
                FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE NOT (x.indisvalid AND x.indisready) AND c.relname ~ '_cc(new|old)[0-9]*$' AND x.indrelid IN (
                    SELECT oid FROM rebuilt
                    UNION ALL
                    SELECT t.reltoastrelid FROM rebuilt r JOIN pg_class t ON t.oid = r.oid
                ) ORDER BY 1
                """, [object]
            ).map { (try $0.get("oid"), try $0.get("name")) }
        }
    }

    /// SQL for the OIDs of the tables whose indexes are rebuilt.
    private var tables: String {
        switch scope {
        case .index: "SELECT indrelid FROM pg_index WHERE indexrelid = $1::int8::oid"
        case .table: "SELECT $1::int8::oid"
        case .schema: "SELECT oid FROM pg_class WHERE relnamespace = $1::int8::oid AND relkind IN ('r', 'm', 'p')"
        case .database: "SELECT oid FROM pg_class WHERE relkind IN ('r', 'm', 'p') AND $1::int8 IS NULL"
        }
    }
}

import Kernel
import Postgres
import Reporting
import SQL
import Telemetry

/// The task that runs ANALYZE on tables that have changed much since the last ANALYZE, in the schemas of the configured
/// systems and of the ledger.
enum AnalyzeTask {
    /// The state of a table, from pg_stat_all_tables and pg_class.
    struct TableStatistics: Sendable, Equatable {
        let schema: String
        let name: String
        /// The number of rows as the planner estimates it; negative if the table was never analyzed.
        let rows: Double
        /// The number of rows that were changed since the last ANALYZE.
        let changes: Int
        let wasAnalyzed: Bool
    }

    /// Whether the statistics are stale. If they were never gathered, they are stale if the table has rows or changes.
    /// Otherwise, they are stale if more than 50 rows plus a tenth of the table have changed: this is autovacuum's
    /// default threshold (PostgreSQL manual, section 25.1.6).
    static func isStale(_ table: TableStatistics) -> Bool {
        if !table.wasAnalyzed { return table.changes > 0 || table.rows > 0 }
        return Double(table.changes) > 50 + 0.1 * max(table.rows, 0)
    }

    static let spec = TaskSpec(
        "analyze", "ANALYZE tables whose statistics are stale", schedule: "*/10 * * * *", timeout: .seconds(3600),
        retries: 1, work: run)

    @Sendable
    private static func run(_ call: TaskCall) async throws -> String {
        let open = call.open
        let schemas = open.systems.map(\.schema) + ["reeve"]
        let tables = try await open.database.pool.with { try statistics(in: schemas, on: $0) }
        let stale = tables.filter(isStale)
        var done = 0
        var held = 0
        for table in stale {
            try Task.checkCancellation()
            do {
                try await open.database.pool.with { try analyze(table, on: $0) }
                done += 1
            } catch let error as PostgresError where ["55P03", "42P01", "42501"].contains(error.sqlState) {
                // The table is locked, was dropped in the meantime, or belongs to another role. The next run checks it
                // again.
                call.logger.warning(
                    "a table could not be analysed",
                    [LogField("table", "\(table.schema).\(table.name)"), LogField("error", error.message)])
                held += 1
            }
        }
        return "analysed \(done) of \(counted(tables.count, "table"))"
            + (held > 0 ? "; \(held) could not be analysed" : "")
    }

    private static func analyze(_ table: TableStatistics, on connection: isolated Connection) throws {
        var options = TransactionOptions()
        options.lockTimeout = .seconds(1)
        try connection.transaction(options) {
            try connection.execute("ANALYZE \(quoteIdentifier(table.schema)).\(quoteIdentifier(table.name))")
        }
    }

    /// The condition that the role may analyze the table. ANALYZE skips other tables with a warning, so they would stay
    /// stale for ever. They are the business of the role that owns them, and of autovacuum.
    private static func mayAnalyze(_ version: Int) -> String {
        let isOwner = "pg_catalog.pg_has_role(c.relowner, 'USAGE')"
        if version >= 170_000 { return "(\(isOwner) OR pg_catalog.has_table_privilege(c.oid, 'MAINTAIN'))" }
        return """
            (\(isOwner) OR pg_catalog.pg_has_role((
                SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()), 'USAGE'))
            """
    }

    private static func statistics(
        in schemas: [String], on connection: isolated Connection
    ) throws -> [TableStatistics] {
        let rows = try connection.query(
            """
            SELECT n.nspname::text AS schema, c.relname::text AS name, c.reltuples::float8 AS rows,
                   coalesce(s.n_mod_since_analyze, 0) AS changes,
                   coalesce(s.last_analyze, s.last_autoanalyze) IS NOT NULL OR EXISTS (
                       SELECT 1 FROM pg_catalog.pg_stats st
                       WHERE st.schemaname = n.nspname AND st.tablename = c.relname) AS analyzed
            FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_catalog.pg_stat_all_tables s ON s.relid = c.oid
            WHERE c.relkind IN ('r', 'm') AND n.nspname = ANY ($1::text[]) AND \(mayAnalyze(connection.serverVersion))
            ORDER BY 1, 2
            """, [schemas])
        return try rows.map {
            TableStatistics(
                schema: try $0.get("schema"), name: try $0.get("name"), rows: try $0.get("rows"),
                changes: try $0.get("changes"), wasAnalyzed: try $0.get("analyzed"))
        }
    }
}

import Catalog
import Postgres
import Reporting
import SQL

/// A query that checks the data of a system. It returns no row if all is well.
public struct SystemCheck: Sendable {
    public let name: String
    /// The schema in which names without a schema are resolved.
    public let schema: String
    public let sql: String

    public init(_ name: String, schema: String = "public", sql: String) {
        self.name = name
        self.schema = schema
        self.sql = sql
    }

    /// Runs the query under the system's search path, in a transaction that changes nothing.
    ///
    /// A view runs functions with the rights of the role that reads the view. So if the session's role is a superuser,
    /// the query runs as a role that may read everything and do nothing else. That role exists only in this
    /// transaction. The query runs in a SECURITY DEFINER function, in which code cannot switch back to the superuser.
    ///
    /// - Returns: the number of rows.
    /// - Throws: `PostgresError`; `SQLScriptError` if the SQL is not exactly one statement.
    func rows(on connection: isolated Connection) throws -> Int {
        let counting = "SELECT pg_catalog.count(*) FROM (\n\(try statement())\n) AS found"
        var count = 0
        do {
            try connection.transaction {
                let isConfined = try Confinement.isSuperuser(on: connection)
                try Confinement.during(on: connection) {
                    if isConfined { try makeReader(of: counting, on: connection) }
                    count = try connection.underPath(of: schema) {
                        let sql = isConfined ? "SELECT pg_temp.reeve_check()" : counting
                        try connection.execute("SET LOCAL transaction_read_only = on")
                        return try connection.query(sql).first?.get(0) ?? 0
                    }
                    throw Undo()
                }
            }
        } catch is Undo {}
        return count
    }

    /// Returns the query without a semicolon at its end.
    private func statement() throws -> String {
        let bytes = Array(sql.utf8)
        let statements = try SQLLexer.split(bytes, file: name)
        guard let one = statements.first, statements.count == 1 else {
            throw SQLScriptError(
                "the check \(name) has \(counted(statements.count, "statement")), but must have exactly one",
                hint: "split it into several files with one query each")
        }
        return String(decoding: bytes[one.range], as: UTF8.self)
    }

    private func makeReader(of counting: String, on connection: isolated Connection) throws {
        let role = "reeve_reader_\(String(UInt64.random(in: .min ... .max), radix: 36))"
        try connection.execute("CREATE ROLE \(role) NOLOGIN BYPASSRLS")
        if connection.serverVersion >= 140000 {
            try connection.execute("GRANT pg_read_all_data TO \(role)")
        } else {
            for row in try connection.query(
                """
                SELECT pg_catalog.quote_ident(nspname) FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_(toast|temp)'
                """)
            {
                let schema: String = try row.get(0)
                try connection.execute(
                    """
                    GRANT USAGE ON SCHEMA \(schema) TO \(role);
                    GRANT SELECT ON ALL TABLES IN SCHEMA \(schema) TO \(role);
                    GRANT SELECT ON ALL SEQUENCES IN SCHEMA \(schema) TO \(role)
                    """)
            }
        }
        try connection.execute(
            """
            CREATE FUNCTION pg_temp.reeve_check() RETURNS pg_catalog.int8 LANGUAGE plpgsql SECURITY DEFINER AS \(quoteDollar(
                """
                DECLARE
                    counted pg_catalog.int8;
                BEGIN
                    EXECUTE \(quoteLiteral(counting)) INTO counted;
                    RETURN counted;
                END
                """));
            ALTER FUNCTION pg_temp.reeve_check() OWNER TO \(role)
            """)
    }

    /// Thrown to roll back a transaction that must not change anything.
    private struct Undo: Error {}
}

import Postgres

/// Evaluates defaults, checks and predicates in separate queries. If a superuser tries tables of other roles, the
/// queries run with the privileges of the owners of the tables.
///
/// The catalog contains an expression as text. When the server parses that text again, a name may resolve to a
/// function, operator or cast that another session has created since the catalog was read. `Confinement` does not cover
/// such an object.
struct OwnersEvaluation {
    /// For each table, the function that runs a statement with the privileges of the table's owner. Tables that
    /// superusers own have no such function.
    private var functions: [ObjectIdentity: String] = [:]

    init() {}

    /// Creates the functions in the open transaction, which must be rolled back.
    init(of tables: [ObjectIdentity], on connection: isolated Connection) throws {
        // No other role can call or replace functions in a private schema, or resolve their names.
        let schema = "reeve_trial_\(String(UInt64.random(in: .min ... .max), radix: 36))"
        var owners: [ObjectIdentity: String] = [:]
        for row in try connection.query(Self.owners, [tables.compactMap(\.schema)]) {
            owners[ObjectIdentity(.table, schema: try row.get(0), try row.get(1))] = try row.get(2)
        }
        if owners.isEmpty { return }
        try connection.execute(PrivateSchema.creation(schema))
        for owner in Set(owners.values) {
            try connection.execute(
                """
                CREATE FUNCTION \(schema).as_\(owner)(statement text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
                    DECLARE result text; BEGIN EXECUTE statement INTO result; RETURN result; END $$;
                REVOKE ALL ON FUNCTION \(schema).as_\(owner)(text) FROM PUBLIC;
                UPDATE pg_catalog.pg_proc SET proowner = \(owner)
                    WHERE oid = '\(schema).as_\(owner)(text)'::pg_catalog.regprocedure
                """)
        }
        functions = owners.mapValues { "\(schema).as_\($0)" }
    }

    private static let owners = """
        SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, o.oid::pg_catalog.text
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
        WHERE c.relkind IN ('r', 'p') AND NOT o.rolsuper AND n.nspname = ANY ($1::pg_catalog.text[])
        """

    /// Runs a query with the search path of a table's system.
    ///
    /// - Parameter query: a query that returns one column of type text and has no parameters.
    /// - Returns: the value in the first row; nil if it is NULL or if there is no row.
    func text(_ query: String, of table: ObjectIdentity, on connection: isolated Connection) throws -> String? {
        try connection.underPath(of: table.schema ?? "pg_catalog") {
            let rows =
                if let function = functions[table] {
                    try connection.query("SELECT \(function)($1)", [query])
                } else {
                    try connection.query(query)
                }
            return try rows.first?.get(0, as: String?.self) ?? nil
        }
    }
}

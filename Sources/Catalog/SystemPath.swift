import Postgres

/// The search path for a system's own SQL: its schema, then those that hold extensions, and temporary objects last, where
/// they shadow nothing. It holds for that SQL alone; otherwise sessions keep `ConnectionSettings.searchPath`. JIT, and what
/// changes the meaning of SQL (`ConnectionSettings.pinsOfMeaning`), is as it is set for the database.
///
/// A schema that others own, in which they may create objects, or have some, is left out, whatever extension lies there: a
/// function that fits a call better than PostgreSQL's own would be called in its stead. That is `public` of PostgreSQL 14
/// and before, where all may create, and of a database that belongs to somebody else.
public enum SystemPath {
    /// SQL for the roles, as rows `r` of pg_roles, that are at home in the schema of a row `n` of pg_namespace: those that
    /// may create objects there or let themselves do so, for they own the schema, and those that have some there that a
    /// name could mean. Superusers and the role that works are left out.
    ///
    /// The roles that PostgreSQL brings create by their members. Owners are looked up by the dependencies of the schema's
    /// objects, each once: a look at all functions for each role takes a second where there are a thousand roles.
    private static let residents = residents()

    /// - Parameter kinds: SQL for a condition on a row `d` of pg_depend: which objects count.
    private static func residents(having kinds: String = "true") -> String {
        """
        (SELECT r.oid FROM pg_catalog.pg_roles r
            WHERE r.oid >= 16384 AND (pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE')
                OR NOT EXISTS (SELECT FROM pg_catalog.pg_roles s WHERE s.oid = n.nspowner AND s.rolsuper)
                AND pg_catalog.pg_has_role(r.oid, n.nspowner, 'MEMBER'))
        UNION
        SELECT s.refobjid FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_shdepend s ON s.classid = d.classid AND s.objid = d.objid AND s.deptype = 'o'
            WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid = n.oid AND s.dbid = (
                SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database())
                AND \(kinds)) h
        JOIN pg_catalog.pg_roles r ON r.oid = h.oid AND NOT r.rolsuper AND r.rolname <> current_user
        """
    }

    /// SQL for the items of a FROM clause after a row `n` of pg_namespace: the roles, as rows `r` of pg_roles, whose
    /// functions and operators a call could find in that schema though it names the schema.
    static let whoseCodeIsFound = residents(
        having: """
            d.classid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)
            """)

    /// SQL for a condition on a row `n` of pg_namespace: whether others are at home there.
    private static let isOpen = "EXISTS (SELECT FROM \(residents))"

    /// A statement that sets it, as it is now: short, for the server shows of what runs only the beginning.
    ///
    /// - Parameter local: for the open transaction only.
    /// - Throws: `PostgresError`.
    public static func statement(schema: String, local: Bool, on connection: isolated Connection) throws -> String {
        let path = try path(of: schema, on: connection)
        // NULL gives the setting back to whoever sets it for the session.
        let settings =
            [("search_path", quoteLiteral(path.joined(separator: ", ")))]
            + (["jit"] + ConnectionSettings.pinsOfMeaning.map(\.0)).map { ($0, "NULL") }
        return "SELECT "
            + settings.map { "pg_catalog.set_config('\($0.0)', \($0.1), \(local))" }.joined(separator: ", ")
    }

    /// The schema, those with extensions in which no others are at home, and pg_temp, quoted where they must be.
    private static func path(of schema: String, on connection: isolated Connection) throws -> [String] {
        let row = try connection.query(
            "SELECT pg_catalog.quote_ident($1), ARRAY(SELECT DISTINCT n.nspname::pg_catalog.text FROM \(others(than: "$1")))",
            [schema]
        ).first
        let own: String = try row?.get(0) ?? ""
        let others: [String] = try row?.get(1) ?? []
        // This is asked before each migration, most databases have none, and to plan what follows takes longer than to run it.
        if others.isEmpty { return [own, "pg_temp"] }
        let closed: [String] = try connection.query(
            """
            SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_namespace n
            WHERE n.nspname = ANY ($1::pg_catalog.text[]) AND NOT \(isOpen) ORDER BY n.nspname
            """, [others]
        ).map { try $0.get(0) }
        return [own] + closed + ["pg_temp"]
    }

    /// Schemas with extensions, besides the system's own.
    private static func others(than schema: String) -> String {
        """
        pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
        WHERE n.nspname NOT IN ('pg_catalog', \(schema))
        """
    }

    /// An error of a system's own SQL, with a hint where a name was not found and a schema is left out of the path.
    ///
    /// Asks the server, outside of a transaction; where that fails, the error is as it was.
    public static func explained(_ error: PostgresError, schema: String, on connection: Connection) async
        -> PostgresError
    {
        let notFound = ["42704", "42883", "42P01"]  // undefined object, function, table
        guard let state = error.sqlState, notFound.contains(state) else { return error }
        let leftOut = try? await connection.with { connection in
            try connection.query(
                """
                SELECT pg_catalog.quote_ident(n.nspname) AS schema,
                    pg_catalog.string_agg(e.extname::pg_catalog.text, ', ' ORDER BY e.extname) AS extensions
                FROM \(others(than: quoteLiteral(schema))) AND \(isOpen) GROUP BY 1 ORDER BY 1
                """
            ).map { (try $0.get("schema", as: String.self), try $0.get("extensions", as: String.self)) }
        }
        guard let first = leftOut?.first else { return error }
        var error = error
        let leftOutHint = """
            the schema \(visible(first.0)), which holds \(visible(first.1)), is not in the search path, since other roles own \
            it, may create objects in it or have some there: write the schema's name, or move the extension into a schema \
            of its own that a superuser owns
            """
        error.hint = [leftOutHint, error.hint].compactMap { $0 }.joined(separator: "\n")
        return error
    }

    /// The roles whose code a superuser would find on a system's path: who owns its schema, may create objects there, or has
    /// some. A call that names no schema takes the function that fits best, whoever made it.
    ///
    /// - Parameter trusted: roles whose code may run with the rights of the role that works.
    /// - Returns: none where the role that works is no superuser, or the schema does not exist.
    public static func intruders(
        in schema: String, trusted: [String], on connection: isolated Connection
    ) throws -> [String] {
        try connection.query(
            """
            SELECT r.rolname::pg_catalog.text FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL \(residents)
            WHERE n.nspname = $1 AND r.rolname <> ALL ($2::pg_catalog.text[])
                AND (SELECT s.rolsuper FROM pg_catalog.pg_roles s WHERE s.rolname = current_user)
            ORDER BY 1
            """, [schema, trusted]
        ).map { try $0.get(0) }
    }

    /// Ends what `statements` began in a transaction.
    public static let end =
        "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)"
        + ConnectionSettings.pinsOfMeaning.map { ", pg_catalog.set_config('\($0)', '\($1)', true)" }.joined()
}

extension Connection {
    /// Runs a system's own SQL in the open transaction, where names without a schema are the system's.
    ///
    /// An error leaves the path to the rollback of the savepoint or transaction.
    public func underPath<T>(of schema: String, _ body: () throws -> T) throws -> T {
        try execute(SystemPath.statement(schema: schema, local: true, on: self))
        let value = try body()
        try execute(SystemPath.end)
        return value
    }
}

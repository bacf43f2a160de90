import Postgres
import Reporting
import SQL

/// The search path for the SQL of a system: the schema of the system, then the schemas that contain extensions, and
/// `pg_temp` last, so that temporary objects shadow no others. The path applies to that SQL only; other statements use
/// `ConnectionSettings.searchPath`. The SQL of a system runs with the settings of the database for `jit` and for
/// `ConnectionSettings.pinsOfMeaning`, which change the meaning of SQL.
///
/// A schema with extensions is left out if other roles own it, may create objects in it, or own objects in it. In such
/// a schema another role could create a function that matches a call better than PostgreSQL's own function, and
/// PostgreSQL would call it. Examples are `public` of PostgreSQL 14 and before, where all roles may create objects, and
/// `public` of a database that another role owns.
public enum SystemPath {
    /// SQL for the resident roles of the schema in a row `n` of pg_namespace, as rows `r` of pg_roles. A resident may
    /// create objects in the schema, may grant itself that right because it is a member of the schema's owner, or owns
    /// objects in the schema. Superusers and the current role are left out.
    ///
    /// PostgreSQL's predefined roles are left out because only their members create objects. The owners of objects are
    /// found through the dependencies on the schema, each owner once. Checking all functions of the schema for each
    /// role would take a second if there are a thousand roles.
    public static let residents = residents()

    /// - Parameter kinds: an SQL condition on a row `d` of pg_depend. It selects the objects whose owners are
    ///   residents.
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

    /// FROM items that follow a row `n` of pg_namespace. They return, as rows `r` of pg_roles, the roles whose
    /// functions and operators a call may resolve to even if the call names the schema.
    static let whoseCodeIsFound = residents(
        having: """
            d.classid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)
            """)

    /// An SQL condition on a row `n` of pg_namespace: whether the schema has residents, that is, whether other roles
    /// can influence name resolution in it.
    private static let isOpen = "EXISTS (SELECT FROM \(residents))"

    /// Returns a statement that sets the search path for the SQL of a system, computed from the schemas that exist now,
    /// and resets `jit` and `ConnectionSettings.pinsOfMeaning`. The statement is short, because the server shows only
    /// the beginning of a running query.
    ///
    /// - Parameter local: whether the setting applies to the open transaction only.
    /// - Throws: `PostgresError`.
    public static func statement(schema: String, local: Bool, on connection: isolated Connection) throws -> String {
        statement(path: try path(of: schema, on: connection), local: local)
    }

    private static func statement(path: [String], local: Bool) -> String {
        // NULL resets a setting to the session's default.
        let settings =
            [("search_path", quoteLiteral(path.joined(separator: ", ")))]
            + (["jit"] + ConnectionSettings.pinsOfMeaning.map(\.0)).map { ($0, "NULL") }
        return "SELECT "
            + settings.map { "pg_catalog.set_config('\($0.0)', \($0.1), \(local))" }.joined(separator: ", ")
    }

    /// Returns the search path: the schema, the schemas that contain extensions but have no residents (see
    /// `residents`), and pg_temp. Each is quoted if necessary.
    private static func path(of schema: String, on connection: isolated Connection) throws -> [String] {
        let row = try connection.query(
            "SELECT pg_catalog.quote_ident($1), ARRAY(SELECT DISTINCT n.nspname::pg_catalog.text FROM \(others(than: "$1")))",
            [schema]
        ).first
        let own: String = try row?.get(0) ?? ""
        let others: [String] = try row?.get(1) ?? []
        // Most databases have no other schemas with extensions. The next query is then skipped, because planning it
        // takes longer than running it.
        if others.isEmpty { return [own, "pg_temp"] }
        let closed: [String] = try connection.query(
            """
            SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_namespace n
            WHERE n.nspname = ANY ($1::pg_catalog.text[]) AND NOT \(isOpen) ORDER BY n.nspname
            """, [others]
        ).map { try $0.get(0) }
        return [own] + closed + ["pg_temp"]
    }

    /// Returns a FROM clause with the schemas that contain extensions, except the given schema and pg_catalog.
    private static func others(than schema: String) -> String {
        """
        pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
        WHERE n.nspname NOT IN ('pg_catalog', \(schema))
        """
    }

    /// Adds a hint to an error of a system's SQL if a name was not found and the search path leaves out a schema that
    /// contains extensions.
    ///
    /// Queries the server outside a transaction. If the query fails, the error is returned unchanged.
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
            the search path leaves out the schema \(visible(first.0)) (extensions: \(visible(first.1))), because other \
            roles own it, own objects in it or may create objects in it: write the schema's name before the object's \
            name, or move the extension into a separate schema that a superuser owns
            """
        error.hint = [leftOutHint, error.hint].compactMap { $0 }.joined(separator: "\n")
        return error
    }

    /// Returns the roles whose code a superuser could call through the search path of a system: the roles that own the
    /// system's schema, may create objects in it, or own objects in it. A call without a schema name resolves to the
    /// best match, whichever role owns the function.
    ///
    /// - Parameter trusted: roles whose code may run with the privileges of the current role.
    /// - Returns: an empty list if the current role is not a superuser, or if the schema does not exist.
    public static func intruders(
        in schema: String, trusted: [String], on connection: isolated Connection
    ) throws -> [String] {
        try connection.query(
            """
            SELECT r.rolname::pg_catalog.text FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL \(residents)
            WHERE n.nspname = $1 AND r.rolname <> ALL ($2::pg_catalog.text[]) AND \(isSuperuser)
            ORDER BY 1
            """, [schema, trusted]
        ).map { try $0.get(0) }
    }

    /// FROM items that follow a row `n` of pg_namespace, and a condition. They return, as rows `m`, the roles whose
    /// triggers may be fired by changes of the schema's tables: those that may create triggers there, and the owners of
    /// the functions of triggers that are there. Superusers and the current role are left out.
    ///
    /// The triggers, of which foreign keys have many, are read only if another role owns anything.
    private static let triggerMakers = """
        (SELECT coalesce(r.rolname::pg_catalog.text, 'PUBLIC') AS role FROM (
            SELECT a.grantee AS id FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
            WHERE c.relnamespace = n.oid AND a.privilege_type = 'TRIGGER'
            UNION
            SELECT p.proowner FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
                JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
            WHERE c.relnamespace = n.oid AND NOT t.tgisinternal AND \(othersOwnObjects)) h
        LEFT JOIN pg_catalog.pg_roles r ON r.oid = h.id
        WHERE r.oid IS NULL OR NOT r.rolsuper AND r.rolname <> current_user) m
        """

    /// An SQL condition: whether the current role is a superuser.
    private static let isSuperuser =
        "(SELECT s.rolsuper FROM pg_catalog.pg_roles s WHERE s.rolname = current_user)"

    /// Returns the roles whose triggers a superuser could fire when it changes the tables of a system: the roles that
    /// may create triggers there, `PUBLIC` among them, and those that own functions of the triggers there.
    ///
    /// - Parameter trusted: roles whose code may run with the privileges of the current role.
    /// - Returns: an empty list if the current role is not a superuser, or if the schema does not exist.
    public static func triggerMakers(
        in schema: String, trusted: [String], on connection: isolated Connection
    ) throws -> [String] {
        try connection.query(
            """
            SELECT m.role FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL \(triggerMakers)
            WHERE n.nspname = $1 AND m.role <> ALL ($2::pg_catalog.text[]) AND \(isSuperuser) ORDER BY 1
            """, [schema, trusted]
        ).map { try $0.get(0) }
    }

    /// What a session must know of a system's schema before it runs the system's SQL.
    public struct Survey: Sendable, Equatable {
        /// The roles that `SystemPath.intruders` returns.
        public let intruders: [String]
        /// The roles that `SystemPath.triggerMakers` returns.
        public let triggerMakers: [String]
        let path: [String]

        /// The statement that `SystemPath.statement` returns.
        public func statement(local: Bool) -> String { SystemPath.statement(path: path, local: local) }
    }

    /// Returns the results of `intruders`, `triggerMakers` and `statement`, with one query whose plan the connection
    /// keeps. Planning it takes about ten times as long as running it. Therefore a program that surveys a schema before
    /// each of many transactions does so on a second connection as the same role, whose session is never reset. The
    /// survey shows what is committed.
    ///
    /// - Parameter trusted: roles whose code may run with the privileges of the current role.
    public static func survey(
        _ schema: String, trusted: [String], on connection: isolated Connection
    ) throws -> Survey {
        let row = try connection.query(keepingPlan: surveyQuery(schema, trusted)).first
        return Survey(
            intruders: try row?.get("roles") ?? [], triggerMakers: try row?.get("makers") ?? [],
            path: [try row?.get("own") ?? ""] + (try row?.get("others") ?? []) + ["pg_temp"])
    }

    /// Values are literals, because the server plans a query with parameters anew for their values.
    private static func surveyQuery(_ schema: String, _ trusted: [String]) -> String {
        let residents = Self.residents(having: othersOwnObjects)
        let (name, roles) = (quoteLiteral(schema), trusted.map { quoteLiteral($0) }.joined(separator: ", "))
        return """
            SELECT
                ARRAY(SELECT r.rolname::pg_catalog.text
                    FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL \(residents)
                    WHERE n.nspname = \(name) AND r.rolname <> ALL (ARRAY[\(roles)]::pg_catalog.text[])
                        AND \(isSuperuser)
                    ORDER BY 1) AS roles,
                ARRAY(SELECT m.role FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL \(triggerMakers)
                    WHERE n.nspname = \(name) AND m.role <> ALL (ARRAY[\(roles)]::pg_catalog.text[])
                        AND \(isSuperuser)
                    ORDER BY 1) AS makers,
                pg_catalog.quote_ident(\(name)) AS own,
                ARRAY(SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_namespace n
                    WHERE n.oid IN (SELECT e.extnamespace FROM pg_catalog.pg_extension e)
                        AND n.nspname NOT IN ('pg_catalog', \(name)) AND NOT EXISTS (SELECT FROM \(residents))
                    ORDER BY n.nspname) AS others
            """
    }

    /// An SQL condition: whether a role owns an object of this database and is neither a superuser nor the current
    /// role. Where none does, the objects of a schema need not be searched for their owners.
    private static let othersOwnObjects = """
        EXISTS (SELECT FROM pg_catalog.pg_shdepend g JOIN pg_catalog.pg_roles q ON q.oid = g.refobjid
            WHERE g.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND g.deptype = 'o'
                AND NOT q.rolsuper AND q.rolname <> current_user AND g.dbid = (
                    SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database()))
        """

    /// A statement that ends the effect of `statement` in a transaction: it sets the search path and
    /// `ConnectionSettings.pinsOfMeaning` to the values for Reeve's own statements.
    public static let end =
        "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)"
        + ConnectionSettings.pinsOfMeaning.map { ", pg_catalog.set_config('\($0)', '\($1)', true)" }.joined()
}

extension Connection {
    /// Runs the SQL of a system in the open transaction, with the search path of the system's schema.
    ///
    /// After an error the search path is reset by the rollback of the savepoint or transaction.
    public func underPath<T>(of schema: String, _ body: () throws -> T) throws -> T {
        try execute(SystemPath.statement(schema: schema, local: true, on: self))
        let value = try body()
        try execute(SystemPath.end)
        return value
    }
}

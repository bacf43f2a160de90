import SQL

/// Roles that are created for scratch databases. Roles belong to the whole server, so such a role has a mark: its
/// comment consists of the names of the scratch databases that use it.
extension ScratchDatabase {
    /// A regular expression for the marks.
    public static let markPattern = "^\(prefix)[0-9]{1,15}_[0-9]{1,10}( \(prefix)[0-9]{1,15}_[0-9]{1,10})*$"

    /// Drops the roles that were created for scratch databases of which none exists any more.
    static func dropRoles(on connection: isolated Connection) throws {
        let unused = """
            AND NOT EXISTS (SELECT FROM pg_database d WHERE d.datname = ANY (string_to_array(c.description, ' ')))
            """
        for role in try marked(unused, on: connection) {
            // Somebody may have granted privileges to the role, or may have dropped it.
            _ = try? connection.execute("DROP ROLE IF EXISTS \(quoteIdentifier(role))")
        }
    }

    /// Frees the names of roles that were created for scratch databases, so that the roles can be created in earnest.
    /// Those whose scratch database exists get other names, because a replay may use them.
    ///
    /// - Parameter isWanted: returns whether a name is to be freed.
    /// - Throws: `PostgresError` if the connection is lost.
    public static func vacateRoles(where isWanted: (String) -> Bool, on connection: isolated Connection) throws {
        try dropRoles(on: connection)
        for role in try marked("", on: connection) where isWanted(role) {
            let other = "\(renamed)\(UInt32.random(in: 0...UInt32.max))"
            do {
                try connection.execute("ALTER ROLE \(quoteIdentifier(role)) RENAME TO \(other)")
            } catch let error as PostgresError where error.kind == .server {}
        }
    }

    /// Returns whether the role of a scratch database was renamed (see `vacateRoles`), on a connection to the database.
    public static func hasRenamedRole(on connection: isolated Connection) throws -> Bool {
        try !connection.query(
            """
            SELECT FROM pg_shdescription c JOIN pg_roles r ON r.oid = c.objoid
            WHERE c.classoid = 'pg_authid'::regclass AND starts_with(r.rolname, $1)
                AND current_database() = ANY (string_to_array(c.description, ' '))
            """, [renamed]
        ).isEmpty
    }

    /// The beginning of the names that `vacateRoles` gives.
    private static let renamed = "\(prefix)role_"

    /// Returns the marked roles. A role that somebody has adopted loses its mark: one with attributes, settings or
    /// objects in a database that is no scratch database, or that is or has a member that has no mark. The role that
    /// runs a replay may be a member of the roles that it creates.
    private static func marked(_ condition: String, on connection: isolated Connection) throws -> [String] {
        let roles = try connection.query(
            """
            SELECT r.rolname::text AS name, r.rolsuper OR r.rolcanlogin OR r.rolcreaterole OR r.rolcreatedb
                OR r.rolreplication OR r.rolbypassrls OR r.rolconnlimit <> -1
                OR EXISTS (SELECT FROM pg_db_role_setting s WHERE s.setrole = r.oid)
                OR EXISTS (
                    SELECT FROM pg_auth_members m
                    JOIN pg_roles o ON o.oid IN (m.roleid, m.member) AND o.oid <> r.oid
                    WHERE r.oid IN (m.roleid, m.member) AND o.rolname <> current_user
                        AND coalesce(shobj_description(o.oid, 'pg_authid') !~ '\(markPattern)', true)
                        AND NOT EXISTS (SELECT FROM pg_database s WHERE s.datdba = o.oid
                            AND s.datname = ANY (string_to_array(c.description, ' '))))
                OR EXISTS (
                    SELECT FROM pg_shdepend d LEFT JOIN pg_database b ON b.oid = d.dbid
                    WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid
                        AND coalesce(b.datname <> ALL (string_to_array(c.description, ' ')), true)) AS is_used
            FROM pg_shdescription c JOIN pg_roles r ON r.oid = c.objoid
            WHERE c.classoid = 'pg_authid'::regclass AND c.description ~ '\(markPattern)' \(condition)
            """)
        var names: [String] = []
        for role in roles {
            let name: String = try role.get("name")
            if try role.get("is_used") {
                _ = try? connection.execute("COMMENT ON ROLE \(quoteIdentifier(name)) IS NULL")
            } else {
                names.append(name)
            }
        }
        return names
    }
}

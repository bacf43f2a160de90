import SQL

/// Roles that are created for scratch databases. Roles belong to the whole server, so such a role has a mark: its comment
/// consists of the names of the scratch databases that use it.
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
    /// Those that are in use get other names.
    ///
    /// - Parameter isWanted: returns whether a name is to be freed.
    /// - Throws: `PostgresError` if the connection is lost.
    public static func vacateRoles(where isWanted: (String) -> Bool, on connection: isolated Connection) throws {
        for role in try marked("", on: connection) where isWanted(role) {
            let name = quoteIdentifier(role)
            do {
                try connection.execute("DROP ROLE IF EXISTS \(name)")
            } catch let error as PostgresError where error.kind == .server {
                let other = "\(prefix)role_\(UInt32.random(in: 0...UInt32.max))"
                do {
                    try connection.execute("ALTER ROLE \(name) RENAME TO \(other)")
                } catch let error as PostgresError where error.kind == .server {}
            }
        }
    }

    /// Returns the marked roles. A role that somebody has given attributes or settings is in use, and loses its mark.
    private static func marked(_ condition: String, on connection: isolated Connection) throws -> [String] {
        let roles = try connection.query(
            """
            SELECT r.rolname::text AS name, r.rolsuper OR r.rolcanlogin OR r.rolcreaterole OR r.rolcreatedb
                OR r.rolreplication OR r.rolbypassrls OR r.rolconnlimit <> -1
                OR EXISTS (SELECT FROM pg_db_role_setting s WHERE s.setrole = r.oid) AS is_used
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

import Postgres
import SQL

/// The owners, comments and privileges of the schemas that a restore of tables creates in its target.
///
/// The restore creates a schema before it runs pg_restore, and pg_restore with `--schema` leaves out the schema itself.
struct SchemaAttributes: Sendable {
    /// The statements that set the attributes.
    let statements: [String]
    /// Messages about the owners that the restoring role cannot set.
    let notes: [String]

    /// Reads the attributes from the scratch server.
    ///
    /// - Parameter schemas: the schemas that do not exist in the target.
    /// - Throws: `BackupError.targetLacks` if the target lacks a role that the statements name; `PostgresError`.
    init(of schemas: [String], scratch: ConnectionSettings, target: ConnectionSettings) async throws {
        if schemas.isEmpty {
            (statements, notes) = ([], [])
            return
        }
        let rows = try await Connection.opened(scratch) { connection in
            try await connection.with { try $0.query(Self.query, [schemas]) }
        }
        try await DeliveryCheck.require(roles: try rows.compactMap { try $0.get("role") }, in: target)
        let (owned, rest) = (
            try rows.filter { try $0.get("is_ownership") },
            try rows.filter { try !$0.get("is_ownership", as: Bool.self) }
        )
        // A superuser may give a schema to any role; another role only to a role of which it is a member.
        let owners: Set<ExactText> = try await Connection.opened(target) { connection in
            try await connection.with { connection in
                Set(
                    try connection.query(
                        "SELECT rolname::text FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER')"
                    ).map { ExactText(try $0.get(0)) })
            }
        }
        let (possible, impossible) = try owned.reduce(into: ([Row](), [Row]())) { parts, row in
            if owners.contains(ExactText(try row.get("role"))) { parts.0.append(row) } else { parts.1.append(row) }
        }
        statements = try (possible + rest).map { try $0.get("statement") }
        notes = try impossible.map {
            "schema \(try $0.get("schema", as: String.self)): the owner is the restoring role, but in the backup it is "
                + (try $0.get("role", as: String.self))
        }
    }

    /// In each row, a statement, and the role that it names. The owner's privileges are revoked before all privileges
    /// are granted, because the backup may not contain all of them.
    private static let query = """
        WITH chosen AS (
            SELECT n.oid, n.nspname, n.nspacl, n.nspowner, pg_get_userbyid(n.nspowner) AS owner FROM pg_namespace n
            WHERE n.nspname = ANY ($1::text[])
        ), statements (schema, step, statement, role) AS (
            SELECT nspname, 1, format('ALTER SCHEMA %I OWNER TO %I', nspname, owner), owner FROM chosen
            UNION ALL
            SELECT nspname, 2, format('COMMENT ON SCHEMA %I IS %L', nspname, obj_description(oid, 'pg_namespace')), NULL
            FROM chosen WHERE obj_description(oid, 'pg_namespace') IS NOT NULL
            UNION ALL
            SELECT nspname, 3, format('REVOKE ALL ON SCHEMA %I FROM %I', nspname, owner), owner
            FROM chosen WHERE nspacl IS NOT NULL
            UNION ALL
            SELECT c.nspname, 4, format('GRANT %s ON SCHEMA %I TO ', a.privilege_type, c.nspname)
                || coalesce(quote_ident(r.rolname), 'PUBLIC')
                || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END, r.rolname
            FROM chosen c, aclexplode(c.nspacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
        )
        SELECT schema::text, statement, role::text, step = 1 AS is_ownership FROM statements
        ORDER BY schema, step, statement
        """
}

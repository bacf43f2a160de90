import Postgres
import Reporting
import SQL

/// The passwords of restored roles. A backup contains them only with the setting `backup.role_passwords`.
enum RolePasswords {
    /// Returns a message about the roles among these that can log in and have no password; nil if there are none.
    ///
    /// - Throws: `PostgresError`.
    static func note(on roles: Set<ExactText>, in target: ConnectionSettings) async throws -> String? {
        if roles.isEmpty { return nil }
        let names = roles.sorted().map(\.text)
        let open: [String] = try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                // Only superusers can see which roles have a password.
                let isKnown: Bool =
                    try connection.query("SELECT has_table_privilege('pg_authid', 'SELECT')").first?.get(0) ?? false
                let lacks = isKnown ? "pg_authid WHERE rolpassword IS NULL AND" : "pg_roles WHERE"
                return try connection.query(
                    "SELECT rolname::text FROM \(lacks) rolcanlogin AND rolname = ANY ($1::text[]) ORDER BY 1", [names]
                ).map { try $0.get(0) }
            }
        }
        if open.isEmpty { return nil }
        return "these roles can log in, but the backup contains no passwords for them: "
            + "\(open.map { visible($0) }.joined(separator: ", ")); set them with ALTER ROLE … PASSWORD, and set "
            + "backup.role_passwords so that future backups contain them"
    }
}

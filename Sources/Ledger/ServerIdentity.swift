import Postgres

/// What tells a server apart from every other one.
public enum ServerIdentity {
    /// Returns the system identifier of the server, which SQL cannot change; nil if the role may not read it.
    ///
    /// - Throws: `PostgresError`.
    public static func systemIdentifier(on connection: isolated Connection) throws -> String? {
        let mayRead: Bool? = try connection.query(
            "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
        ).first?.get(0)
        guard mayRead == true else { return nil }
        return try connection.query("SELECT system_identifier::text FROM pg_catalog.pg_control_system()").first?.get(0)
    }
}

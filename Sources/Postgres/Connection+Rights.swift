import SQL

/// Queries that run with the rights of another role.
extension Connection {
    /// Creates a temporary function from a query, for use in `body`. The function has the rights of `role` and may only
    /// read.
    ///
    /// Planning a query on a table can run code of the table's owner: PostgreSQL evaluates the constant parts of the
    /// predicates and expressions of the table's indexes and statistics. SET ROLE does not protect against that code,
    /// because the code can reset the role. Code that runs within a SECURITY DEFINER function cannot reset the role.
    /// After `body`, the transaction is rolled back to a savepoint. This removes the function and all changes that such
    /// code has made in the session, such as settings.
    ///
    /// Must be called by a superuser in an open transaction that may write. Event triggers do not fire while the
    /// function is created, except those that are enabled as ALWAYS or REPLICA.
    ///
    /// - Parameters:
    ///   - query: the query, with all names qualified.
    ///   - type: the type that follows `RETURNS`.
    ///   - settings: the names of the settings that the result depends on.
    ///   - body: receives the SQL that calls the function. If `body` throws an error, the transaction can only be
    ///     rolled back.
    /// - Throws: `SettingsChanged` if the code has changed one of `settings`; `PostgresError`; the errors of `body`.
    public func withQuery<T>(
        _ query: String, returning type: String, as role: String, relyingOn settings: [String],
        _ body: (_ call: String) throws -> T
    ) throws -> T {
        let function = "pg_temp.reeve_query()"
        try execute(
            """
            SAVEPOINT reeve_query;
            SET LOCAL session_replication_role = replica;
            SET LOCAL check_function_bodies = off;
            CREATE FUNCTION \(function) RETURNS \(type) LANGUAGE sql STABLE SECURITY DEFINER AS \(quoteDollar(query));
            ALTER FUNCTION \(function) OWNER TO \(quoteIdentifier(role));
            SET LOCAL session_replication_role = origin;
            SET LOCAL transaction_read_only = on
            """)
        let before = try values(of: settings)
        let value = try body(function)
        guard try values(of: settings) == before else { throw SettingsChanged() }
        try execute("ROLLBACK TO SAVEPOINT reeve_query; RELEASE SAVEPOINT reeve_query")
        return value
    }

    /// Runs queries, and undoes what code that planning has run may have set in the session, by a rollback to a
    /// savepoint. If `body` throws an error, the transaction can only be rolled back.
    public func keepingSettings<T>(_ body: () throws -> T) throws -> T {
        try execute("SAVEPOINT reeve_settings")
        let value = try body()
        try execute("ROLLBACK TO SAVEPOINT reeve_settings; RELEASE SAVEPOINT reeve_settings")
        return value
    }

    private func values(of settings: [String]) throws -> [String?] {
        let calls = settings.map { "pg_catalog.current_setting(\(quoteLiteral($0)))" }
        guard let row = try query("SELECT \(calls.joined(separator: ", "))").first else { return [] }
        return try settings.indices.map { try row.get($0) }
    }
}

/// Code of another role has changed settings of the session that a query relies on.
public struct SettingsChanged: Error {}

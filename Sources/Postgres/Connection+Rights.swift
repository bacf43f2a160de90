/// Queries that run with the rights of somebody else.
extension Connection {
    /// Makes a function of a query, which has the rights of a role and may only read, for as long as `body` works.
    ///
    /// Whoever plans a query on a table runs code of the table's owner: PostgreSQL evaluates the predicates and expressions
    /// of its indexes and statistics as far as they are constant. A role that is set with SET ROLE does not help, for such
    /// code can take it back; within a function with SECURITY DEFINER there is no way back. When the work is done a
    /// savepoint takes back the function and all that such code has changed in the session, such as its settings.
    ///
    /// To be called by a superuser in an open transaction that may write. Event triggers are silent while the function is
    /// made, except those that fire always.
    ///
    /// - Parameters:
    ///   - query: with all names qualified.
    ///   - type: what comes behind `RETURNS`.
    ///   - body: gets the call of the function. After an error of it the transaction can only be rolled back.
    public func withQuery<T>(
        _ query: String, returning type: String, as role: String, _ body: (_ call: String) throws -> T
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
        let value = try body(function)
        try execute("ROLLBACK TO SAVEPOINT reeve_query; RELEASE SAVEPOINT reeve_query")
        return value
    }
}

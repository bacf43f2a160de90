import Postgres

/// The search path for a system's own SQL: its schema, then those that hold extensions, and temporary objects last, where
/// they shadow nothing. It holds for that SQL alone; otherwise sessions keep `ConnectionSettings.searchPath`. JIT is as
/// the server has it, which for Reeve's own queries is off.
///
/// A schema in which others may create objects is left out, whatever extension lies there: a function that fits a call
/// better than PostgreSQL's own would be called in its stead. That is `public` of PostgreSQL 14 and before, where all may,
/// and of a database that belongs to somebody else.
public enum SystemPath {
    /// SQL for a condition on a row `n` of pg_namespace: whether roles other than superusers and the one that works may
    /// create objects there. The roles that PostgreSQL brings do so by their members.
    private static let isOpen = """
        EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE NOT r.rolsuper AND r.rolname <> current_user
            AND r.oid >= 16384 AND pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE'))
        """

    /// The statement that sets it; to be run while the session's own path holds.
    ///
    /// - Parameter local: for the open transaction only.
    public static func statement(schema: String, local: Bool) -> String {
        let schema = quoteLiteral(schema)
        return """
            SELECT pg_catalog.set_config('search_path', pg_catalog.quote_ident(\(schema)) || ', ' || coalesce((
                SELECT pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(n.nspname), ', ')
                FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
                WHERE n.nspname NOT IN ('pg_catalog', \(schema)) AND NOT \(isOpen)) || ', ', '') || 'pg_temp', \(local)),
                pg_catalog.set_config('jit',
                    (SELECT s.reset_val FROM pg_catalog.pg_settings s WHERE s.name = 'jit'), \(local))
            """
    }

    /// Ends what `statement` began in a transaction.
    public static let end = "SET LOCAL search_path = pg_catalog, pg_temp"
}

extension Connection {
    /// Runs a system's own SQL in the open transaction, where names without a schema are the system's.
    ///
    /// An error leaves the path to the rollback of the savepoint or transaction.
    public func underPath<T>(of schema: String, _ body: () throws -> T) throws -> T {
        try query(SystemPath.statement(schema: schema, local: true))
        let value = try body()
        try execute(SystemPath.end)
        return value
    }
}

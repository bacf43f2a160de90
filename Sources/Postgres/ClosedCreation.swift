import SQL

extension Connection {
    /// Creates an empty database that only its owner and superusers can connect to. PostgreSQL grants CONNECT to all
    /// roles by default, but other roles cannot connect at any moment, not even before the grant is revoked.
    ///
    /// - Parameters:
    ///   - owner: the owner of the database; nil: the current role.
    ///   - locale: the encoding and collation, as `DatabaseLocale.clause`.
    /// - Throws: `PostgresError`, with SQLSTATE 42501 if the role may not create databases.
    public func createClosedDatabase(_ name: String, owner: String? = nil, locale: String) throws {
        let database = quoteIdentifier(name)
        let ownership = owner.map { "OWNER \(quoteIdentifier($0)) " } ?? ""
        // From template0, so that the database contains no local objects.
        try execute("CREATE DATABASE \(database) \(ownership)TEMPLATE template0 ALLOW_CONNECTIONS false \(locale)")
        try execute("REVOKE ALL ON DATABASE \(database) FROM PUBLIC")
        try execute("ALTER DATABASE \(database) ALLOW_CONNECTIONS true")
    }
}

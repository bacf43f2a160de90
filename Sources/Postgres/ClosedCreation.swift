import SQL

extension Connection {
    /// Creates an empty database that only its owner and superusers can connect to. PostgreSQL grants CONNECT on a new
    /// database to all roles. This method revokes that grant. Until the grant is revoked, the database allows no
    /// connections at all.
    ///
    /// - Parameters:
    ///   - owner: the owner of the database; nil: the current role.
    ///   - locale: the encoding and collation, as `DatabaseLocale.clause`.
    /// - Throws: `PostgresError`, with SQLSTATE 42501 if the role may not create databases.
    public func createClosedDatabase(_ name: String, owner: String? = nil, locale: String) throws {
        let database = quoteIdentifier(name)
        let ownership = owner.map { "OWNER \(quoteIdentifier($0)) " } ?? ""
        // The template is template0, so that the new database contains no local objects.
        try execute("CREATE DATABASE \(database) \(ownership)TEMPLATE template0 ALLOW_CONNECTIONS false \(locale)")
        try execute("REVOKE ALL ON DATABASE \(database) FROM PUBLIC")
        try execute("ALTER DATABASE \(database) ALLOW_CONNECTIONS true")
    }
}

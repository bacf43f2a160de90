/// Settings of the session that must not outlive a query.
extension Connection {
    /// Runs queries, and undoes what code that planning has run may have set in the session, by a rollback to a
    /// savepoint. If `body` throws an error, the transaction can only be rolled back.
    public func keepingSettings<T>(_ body: () throws -> T) throws -> T {
        try execute("SAVEPOINT reeve_settings")
        let value = try body()
        try execute("ROLLBACK TO SAVEPOINT reeve_settings; RELEASE SAVEPOINT reeve_settings")
        return value
    }
}

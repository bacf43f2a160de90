import Postgres

extension ConnectionSettings {
    /// Settings for a restore's own sessions.
    ///
    /// A foreign key or a mask takes as long as it takes: what limits the statements of applications, as
    /// `ALTER ROLE … SET statement_timeout` does, does not limit these. A lock is waited for a minute.
    var restoring: ConnectionSettings {
        var settings = named("reeve restore")
        settings.statementTimeout = .zero
        settings.idleInTransactionTimeout = .zero
        settings.lockTimeout = .seconds(60)
        return settings
    }
}

import Postgres

extension ConnectionSettings {
    /// Settings for the sessions of a restore.
    ///
    /// A foreign key or a mask may take any time. So limits on the statements of applications, such as those of `ALTER
    /// ROLE … SET statement_timeout`, do not apply to these sessions. Each statement waits up to a minute for a lock.
    var restoring: ConnectionSettings {
        var settings = named("reeve restore")
        settings.statementTimeout = .zero
        settings.idleInTransactionTimeout = .zero
        settings.lockTimeout = .seconds(60)
        return settings
    }
}

import Postgres
import Telemetry

/// Holds up the changes of the definitions of tables and types for a moment, so that a list of them stays true.
enum CatalogBarrier {
    /// How long to wait for changes that have begun. New ones wait meanwhile.
    static let patience: Duration = .seconds(2)

    /// Begins a transaction that locks the catalog.
    ///
    /// - Returns: false, if the role may not lock it, or if the lock is not available in time. No transaction has begun
    ///   then.
    static func raise(on connection: isolated Connection) throws -> Bool {
        try connection.execute("BEGIN; SET LOCAL lock_timeout = \(patience.milliseconds)")
        do {
            // What creates, alters, renames, grants or drops writes one of these.
            try connection.execute(
                """
                LOCK TABLE pg_catalog.pg_class, pg_catalog.pg_attribute, pg_catalog.pg_enum, pg_catalog.pg_namespace
                    IN SHARE MODE
                """)
            return true
        } catch let error as PostgresError where ["55P03", "42501", "40P01", "25006"].contains(error.sqlState) {
            try connection.execute("ROLLBACK")
            return false
        }
    }

    static func lower(on connection: isolated Connection) throws {
        if connection.isInTransaction { try connection.execute("ROLLBACK") }
    }
}

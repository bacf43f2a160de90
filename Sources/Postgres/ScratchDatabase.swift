import Foundation
import SQL

/// A temporary database on the same server as another database, by default with the same encoding and collation.
/// While the database is in use, a session stays open whose application name contains the name of the database. If the
/// process is killed, that session ends, but the database remains. Once the database is more than an hour old, the next
/// call of `with` on the same server drops it.
///
/// A role whose comment is the name of a scratch database is dropped with the database.
public enum ScratchDatabase {
    public static let prefix = "reeve_scratch_"

    /// Creates a scratch database, passes its settings to `body`, and drops it.
    ///
    /// - Parameter locale: the locale of the scratch database. nil: that of the database in `settings`.
    /// - Throws: `PostgresError`, with SQLSTATE 42501 if the role may not create databases; the error of `body`.
    public static func with<T: Sendable>(
        beside settings: ConnectionSettings, locale: DatabaseLocale? = nil,
        _ body: @Sendable (ConnectionSettings) async throws -> T
    ) async throws -> T {
        try await Connection.opened(settings.named("reeve scratch")) { keeper in
            try await dropAbandoned(beside: settings, keeper)
            let name = try await keeper.with { try make(locale, on: $0) }
            do {
                let result = try await body(settings.database(name))
                try await drop(name, beside: settings)
                return result
            } catch {
                // The database is dropped in a separate task, because the current task may be cancelled. If the
                // database is not dropped now, a later use drops it.
                try? await Task { try await drop(name, beside: settings) }.value
                throw error
            }
        }
    }

    /// Creates a scratch database. The session of `connection` becomes the keeper of the database: its application name
    /// is set to `keeper(of:)`, except behind a pooler.
    ///
    /// - Returns: the name of the database.
    private static func make(_ locale: DatabaseLocale?, on connection: isolated Connection) throws -> String {
        let name = try newName(on: connection)
        let locale = try locale ?? DatabaseLocale.read(on: connection)
        // The application name is set before the database exists, so that the database is never without its keeper.
        // Behind a pooler, the application name is not set, because sessions are shared there.
        if !connection.isPooled {
            try connection.execute("SET application_name = \(quoteLiteral(keeper(of: name)))")
        }
        try connection.createClosedDatabase(name, locale: locale.clause)
        return name
    }

    /// The application name of the session that keeps a scratch database. Every role can see it.
    public static func keeper(of name: String) -> String { "reeve \(name)" }

    private static func drop(_ name: String, beside settings: ConnectionSettings) async throws {
        let drop = "DROP DATABASE IF EXISTS \(name) WITH (FORCE)"
        try await Connection.opened(settings.named("reeve scratch")) { connection in
            do {
                try await connection.with { _ = try $0.execute(drop) }
            } catch let error as PostgresError where error.sqlState == "55006" {
                // The database has subscriptions.
                try await connection.with { connection in
                    // Only a superuser can do this. Others own no subscription, before PostgreSQL 16.
                    try? disableSubscriptions(of: name, on: connection)
                    _ = try connection.execute("ALTER DATABASE \(name) ALLOW_CONNECTIONS true")
                }
                try await Connection.opened(settings.database(name).named("reeve scratch")) { inside in
                    try await inside.with { try dropSubscriptions(on: $0) }
                }
                try await connection.with { _ = try $0.execute(drop) }
            }
            try await connection.with { try dropRoles(on: $0) }
        }
    }

    /// Disables the subscriptions of a database to which nobody can connect. ALTER SUBSCRIPTION requires a connection,
    /// and the worker of an enabled subscription would connect first and take changes from the publisher.
    private static func disableSubscriptions(of name: String, on connection: isolated Connection) throws {
        try connection.transaction {
            try connection.execute("SET LOCAL allow_system_table_mods = on")
            try connection.execute(
                """
                UPDATE pg_catalog.pg_subscription s SET subenabled = false
                FROM pg_catalog.pg_database d WHERE d.oid = s.subdbid AND d.datname = \(quoteLiteral(name))
                """)
        }
    }

    /// Sets whether further sessions can connect to a scratch database. Those that are connected remain.
    ///
    /// - Parameters:
    ///   - scratch: the settings that `with` has passed to its body.
    ///   - settings: those of the database beside it.
    /// - Throws: `PostgresError`.
    public static func admit(
        _ admits: Bool, to scratch: ConnectionSettings, beside settings: ConnectionSettings
    ) async throws {
        let name = quoteIdentifier(scratch.parameters["dbname"] ?? "")
        try await Connection.opened(settings.named("reeve scratch")) { connection in
            try await connection.with { _ = try $0.execute("ALTER DATABASE \(name) ALLOW_CONNECTIONS \(admits)") }
        }
    }

    /// Drops the subscriptions of the connected database, because a database that has one cannot be dropped. Their
    /// replication slots on other servers are not touched.
    public static func dropSubscriptions(on connection: isolated Connection) throws {
        let names: [String] = try connection.query(
            """
            SELECT quote_ident(s.subname) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
            WHERE d.datname = current_database()
            """
        ).map { try $0.get(0) }
        if names.isEmpty { return }
        try disableEventTriggers(on: connection)
        for name in names {
            try connection.execute("ALTER SUBSCRIPTION \(name) DISABLE")
            try connection.execute("ALTER SUBSCRIPTION \(name) SET (slot_name = NONE)")
            try connection.execute("DROP SUBSCRIPTION \(name)")
        }
    }

    /// Disables the event triggers of the connected database, because they could refuse the statements of Reeve.
    ///
    /// - Returns: statements that enable them again.
    @discardableResult
    public static func disableEventTriggers(on connection: isolated Connection) throws -> [String] {
        let enabled = try connection.query(
            """
            SELECT quote_ident(evtname), CASE evtenabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA'
                ELSE 'ENABLE' END
            FROM pg_event_trigger WHERE evtenabled <> 'D'
            """
        ).map { (try $0.get(0, as: String.self), try $0.get(1, as: String.self)) }
        for (name, _) in enabled { try connection.execute("ALTER EVENT TRIGGER \(name) DISABLE") }
        return enabled.map { "ALTER EVENT TRIGGER \($0.0) \($0.1)" }
    }

    private static func newName(on connection: isolated Connection) throws -> String {
        let now: Int = try connection.query("SELECT extract(epoch FROM clock_timestamp())::bigint").first?.get(0) ?? 0
        return "\(prefix)\(now)_\(UInt32.random(in: 0...UInt32.max))"
    }

    /// Drops the scratch databases that are older than an hour and not in use. The age is checked too, because the
    /// connection of a keeper may be lost while its database is still needed.
    private static func dropAbandoned(beside settings: ConnectionSettings, _ keeper: Connection) async throws {
        let names: [String] = try await keeper.with { connection in
            try connection.query(
                """
                SELECT datname::text FROM pg_database d
                WHERE CASE WHEN datname ~ '^\(prefix)[0-9]{1,15}_[0-9]{1,10}$' AND pg_has_role(datdba, 'USAGE')
                        -- Only then, for others may be called almost so.
                        THEN split_part(datname, '_', 3)::bigint < extract(epoch FROM clock_timestamp()) - 3600 END
                    AND NOT EXISTS (SELECT FROM pg_stat_activity a
                        WHERE a.datid = d.oid OR a.application_name = $1 || d.datname)
                """, [self.keeper(of: "")]
            ).map { try $0.get(0) }
        }
        for name in names {
            // Another process may have dropped the database, or may have just connected to it.
            try? await drop(name, beside: settings)
        }
        try await keeper.with { try dropRoles(on: $0) }
    }
}

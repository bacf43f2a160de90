import Foundation

/// A database beside another one, on the same server and like it in encoding and collation, that lives for one use.
///
/// A session that is named after it is kept open meanwhile, so that one that was left behind by a process that was killed
/// is found by the next use, and dropped.
public enum ScratchDatabase {
    public static let prefix = "reeve_scratch_"

    /// Makes one, lends it to `body` and drops it.
    ///
    /// - Parameter locale: nil: that of the database beside it.
    /// - Throws: `PostgresError`: 42501 where the role may not create databases; what `body` throws.
    public static func with<T: Sendable>(
        beside settings: ConnectionSettings, locale: DatabaseLocale? = nil,
        _ body: @Sendable (ConnectionSettings) async throws -> T
    ) async throws -> T {
        try await Connection.opened(settings.named("reeve scratch")) { keeper in
            let name = try await keeper.with { try make(locale, on: $0) }
            do {
                let result = try await body(settings.database(name))
                try await drop(name, beside: settings)
                return result
            } catch {
                // A task of its own, for this one may be cancelled; what stays behind is dropped by the next use.
                try? await Task { try await drop(name, beside: settings) }.value
                throw error
            }
        }
    }

    /// - Returns: the name of a new database, after which the session is named from now on.
    private static func make(_ locale: DatabaseLocale?, on connection: isolated Connection) throws -> String {
        try dropAbandoned(on: connection)
        let name = try newName(on: connection)
        let locale = try locale ?? DatabaseLocale.read(on: connection)
        // Before the database is there, so that it never is without its keeper.
        // Behind a pooler a session has no name of its own.
        if !connection.isPooled {
            try connection.execute("SET application_name = \(quoteLiteral(keeper(of: name)))")
        }
        // From template0, so that nothing local is in it; what comes into it is for nobody else, who would be let in by
        // default.
        try connection.execute("CREATE DATABASE \(name) TEMPLATE template0 ALLOW_CONNECTIONS false \(locale.clause)")
        try connection.execute("REVOKE ALL ON DATABASE \(name) FROM PUBLIC")
        try connection.execute("ALTER DATABASE \(name) ALLOW_CONNECTIONS true")
        return name
    }

    /// The application name of the session that keeps a scratch database, which every role can see.
    public static func keeper(of name: String) -> String { "reeve \(name)" }

    private static func drop(_ name: String, beside settings: ConnectionSettings) async throws {
        try await Connection.opened(settings.named("reeve scratch")) { connection in
            try await connection.with { _ = try $0.execute("DROP DATABASE IF EXISTS \(name) WITH (FORCE)") }
        }
    }

    private static func newName(on connection: isolated Connection) throws -> String {
        let now: Int = try connection.query("SELECT extract(epoch FROM clock_timestamp())::bigint").first?.get(0) ?? 0
        return "\(prefix)\(now)_\(UInt32.random(in: 0...UInt32.max))"
    }

    /// Those that are older than an hour and that nobody uses. A keeper whose connection was cut counts for nothing, so that
    /// the age is asked too.
    private static func dropAbandoned(on connection: isolated Connection) throws {
        let names = try connection.query(
            """
            SELECT datname::text FROM pg_database d
            WHERE CASE WHEN datname ~ '^\(prefix)[0-9]{1,15}_[0-9]{1,10}$' AND pg_has_role(datdba, 'USAGE')
                    -- Only then, for others may be called almost so.
                    THEN split_part(datname, '_', 3)::bigint < extract(epoch FROM clock_timestamp()) - 3600 END
                AND NOT EXISTS (SELECT FROM pg_stat_activity a
                    WHERE a.datid = d.oid OR a.application_name = $1 || d.datname)
            """, [keeper(of: "")])
        for row in names {
            // Another process may be faster, or just have come in.
            _ = try? connection.execute("DROP DATABASE IF EXISTS \(quoteIdentifier(try row.get(0)))")
        }
    }
}

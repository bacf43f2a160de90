import Foundation
import Postgres
import SQL

/// The settings of a database that migrations may depend on, and that its scratch database therefore gets.
enum ReplayedSettings {
    /// Settings that only the scripts have, and that change what a script creates.
    private static let ofScripts = [
        "array_nulls", "transform_null_equals", "xmloption", "xmlbinary", "default_table_access_method",
        "default_tablespace", "default_toast_compression", "backslash_quote",
    ]

    /// Settings of a database that a scratch database does not get: those that others depend on, that only limit
    /// statements, and lists, whose spelling has other rules.
    private static let ofDatabaseAlone = [
        "role", "session_authorization", "search_path", "temp_tablespaces", "client_encoding",
        "default_transaction_read_only",
    ]

    /// A setting that a scratch database gets.
    struct Value: Sendable {
        let name: String
        let value: String
        /// Whether it was made for the database, and can be given to a session when it connects.
        let isOfSession: Bool
    }

    private static let always = SessionMeaning.names + ofScripts

    /// The values that a database has for the settings above and for those that were made for it (ALTER DATABASE … SET,
    /// also for the current role), by name. Migrations may depend on them.
    static func values(on connection: isolated Connection) throws -> [Value] {
        try connection.query(
            """
            SELECT name, reset_val AS value, false AS is_of_session FROM pg_settings WHERE name = ANY ($1::text[])
            UNION ALL (
                SELECT DISTINCT ON (c.name) c.name, c.value,
                    coalesce(p.context, 'user') = 'user' AND c.name ~ '^[A-Za-z_][A-Za-z0-9_.]*$'
                FROM pg_db_role_setting s,
                    LATERAL (SELECT split_part(t, '=', 1) AS name, substr(t, strpos(t, '=') + 1) AS value
                        FROM unnest(s.setconfig) t) c
                    LEFT JOIN pg_settings p ON lower(p.name) = lower(c.name)
                WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
                    AND lower(c.name) <> ALL ($2::text[])
                    AND c.name !~* '(^log_|_timeout$|_preload_libraries$)'
                ORDER BY c.name, s.setrole DESC
            ) ORDER BY 1
            """, [always, always.map { $0.lowercased() } + ofDatabaseAlone]
        ).map { Value(name: try $0.get(0), value: try $0.get(1), isOfSession: try $0.get(2)) }
    }

    /// Makes a scratch database have the settings of another database, as far as the role may make them.
    ///
    /// - Returns: the settings for connecting to the scratch database. They contain what was made for the other
    ///   database, because the role may have the same settings in all databases, and may not make some for a database.
    /// - Throws: `PostgresError`.
    static func copy(
        from server: ConnectionSettings, to scratch: ConnectionSettings
    ) async throws -> ConnectionSettings {
        let values = try await Connection.opened(server.named("reeve validate")) { connection in
            try await connection.with { try Self.values(on: $0) }
        }
        let database = quoteIdentifier(scratch.parameters["dbname"] ?? "")
        try await Connection.opened(scratch.named("reeve validate")) { connection in
            try await connection.with { connection in
                for one in values {
                    let name = one.name.split(separator: ".").map { quoteIdentifier(String($0)) }
                        .joined(separator: ".")
                    do {
                        try connection.execute(
                            "ALTER DATABASE \(database) SET \(name) TO \(quoteLiteral(one.value))")
                    } catch let error as PostgresError where error.sqlState == "42501" {
                        // A superuser has made this setting of the database.
                    }
                }
            }
        }
        var settings = scratch
        let options = values.filter(\.isOfSession).map { "-c \($0.name)=\(quoteConnectionOption($0.value))" }
        let asked = scratch.parameters["options"] ?? ProcessInfo.processInfo.environment["PGOPTIONS"]
        if !options.isEmpty {
            settings.parameters["options"] = ([asked].compactMap { $0 } + options).joined(separator: " ")
        }
        return settings
    }
}

import Postgres
import SQL

/// Settings that change the meaning of the values that a script contains or prints. Scripts run with the values that
/// the database has for them, as in psql. Reeve's own statements run with fixed values.
enum SessionMeaning {
    private static let pinned = [
        ("DateStyle", "ISO, YMD"), ("IntervalStyle", "iso_8601"), ("TimeZone", "UTC"), ("bytea_output", "hex"),
        ("extra_float_digits", "1"), ("default_transaction_isolation", "read committed"),
    ]

    /// Settings that only the scripts have, and that change what a script creates.
    private static let ofScripts = [
        "array_nulls", "transform_null_equals", "xmloption", "xmlbinary", "default_table_access_method",
        "default_tablespace", "default_toast_compression", "backslash_quote",
    ]

    /// Returns a statement that gives the settings the values that the session began with.
    static func ofDatabase(local: Bool) -> String {
        // NULL resets a setting to the session's default.
        "SELECT " + pinned.map { "pg_catalog.set_config('\($0.0)', NULL, \(local))" }.joined(separator: ", ")
    }

    /// SQL that gives the settings the values for Reeve's own statements, in the open transaction, to be appended to a
    /// SELECT list.
    static let ofReeve = pinned.map { ", pg_catalog.set_config('\($0.0)', '\($0.1)', true)" }.joined()

    /// The values that a database has for the settings, by name.
    static func values(on connection: isolated Connection) throws -> [(name: String, value: String)] {
        try connection.query(
            "SELECT name, reset_val FROM pg_settings WHERE name = ANY ($1::text[]) ORDER BY name",
            [pinned.map(\.0) + ofScripts]
        ).map { (try $0.get("name"), try $0.get("reset_val")) }
    }

    /// Makes a scratch database have the settings of another database.
    ///
    /// - Throws: `PostgresError`.
    static func copy(from server: ConnectionSettings, to scratch: ConnectionSettings) async throws {
        let values = try await Connection.opened(server.named("reeve validate")) { connection in
            try await connection.with { try Self.values(on: $0) }
        }
        let name = quoteIdentifier(scratch.parameters["dbname"] ?? "")
        try await Connection.opened(scratch.named("reeve validate")) { connection in
            try await connection.with { connection in
                for (setting, value) in values {
                    try connection.execute("ALTER DATABASE \(name) SET \(setting) TO \(quoteLiteral(value))")
                }
            }
        }
    }
}

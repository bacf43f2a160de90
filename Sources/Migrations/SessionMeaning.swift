import Postgres

/// Settings that change the meaning of the values that a script contains or prints. Scripts run with the values that
/// the database has for them, as in psql. Reeve's own statements run with fixed values.
enum SessionMeaning {
    static var names: [String] { pinned.map(\.0) }

    private static let pinned = [
        ("DateStyle", "ISO, YMD"), ("IntervalStyle", "iso_8601"), ("TimeZone", "UTC"), ("bytea_output", "hex"),
        ("extra_float_digits", "1"), ("default_transaction_isolation", "read committed"),
    ]

    /// Returns a statement that gives the settings the values that the session began with.
    static func ofDatabase(local: Bool) -> String {
        // NULL resets a setting to the session's default.
        "SELECT " + pinned.map { "pg_catalog.set_config('\($0.0)', NULL, \(local))" }.joined(separator: ", ")
    }

    /// SQL that gives the settings the values for Reeve's own statements, in the open transaction, to be appended to a
    /// SELECT list.
    static let ofReeve = pinned.map { ", pg_catalog.set_config('\($0.0)', '\($0.1)', true)" }.joined()
}

/// The schemas that users create, as opposed to those of PostgreSQL itself.
///
/// These are not user schemas:
/// - schemas whose names begin with `pg_`: `pg_catalog`, `pg_toast`, and those of temporary objects (`pg_temp_N`,
///   `pg_toast_temp_N`). PostgreSQL reserves these names, and CREATE SCHEMA refuses them;
/// - `information_schema`, which initdb creates.
///
/// `public` is a user schema, whoever created it. So is the schema of an extension: where an extension's objects are
/// left out, it is because they are members of the extension.
///
/// The ledger's schema is a user schema for backups and restores, which include it. Comparisons of schemas leave it out:
/// no migration creates it, and the ledger checks its own tables.
public enum UserSchemas {
    /// The ledger's schema.
    public static let ledger = "reeve"

    /// An SQL condition: the schema is a user schema.
    ///
    /// - Parameter name: an SQL expression for the schema's name.
    public static func condition(_ name: String) -> String {
        "(\(name) !~ '^pg_' AND \(name) <> 'information_schema')"
    }

    /// An SQL condition: the schema is a user schema, but not the ledger's.
    ///
    /// - Parameter name: an SQL expression for the schema's name.
    public static func conditionWithoutLedger(_ name: String) -> String {
        "(\(condition(name)) AND \(name) <> '\(ledger)')"
    }

    /// Whether a schema is a user schema. Compares bytes, as the server does.
    public static func contains(_ schema: String) -> Bool {
        !schema.utf8.starts(with: "pg_".utf8) && !schema.utf8.elementsEqual("information_schema".utf8)
    }
}

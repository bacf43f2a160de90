/// The schemas that users create, as opposed to those of PostgreSQL itself.
///
/// These are not user schemas:
/// - schemas whose names begin with `pg_`: `pg_catalog`, `pg_toast`, and those of temporary objects (`pg_temp_N`,
///   `pg_toast_temp_N`). PostgreSQL reserves these names, and CREATE SCHEMA refuses them;
/// - `information_schema`, which initdb creates;
/// - schemas that serve as the record of a restore of tables until the restore has ended. Their names are
///   `reeve_restore_` followed by thirteen letters and digits. They are empty.
///
/// `public` is a user schema, no matter which role created it. A schema that contains an extension is a user schema,
/// too. Where objects of an extension are left out, they are left out as members of the extension, not because of their
/// schema.
///
/// The ledger's schema is a user schema for backups and restores, which include it. Comparisons of schemas leave it
/// out: no migration creates it, and the ledger checks its own tables.
public enum UserSchemas {
    /// The ledger's schema.
    public static let ledger = "reeve"

    /// The prefix of the schemas that serve as records of restores.
    public static let restorePrefix = "reeve_restore_"

    /// The names of the schemas that serve as records of restores, as a regular expression.
    private static let restorePattern = restorePrefix + String(repeating: "[0-9a-z]", count: 13)

    /// Returns an SQL condition: the schema is the record of a restore. A record is empty. Any role may give a schema
    /// such a name, so a schema with objects is a user schema, whatever its name is.
    ///
    /// - Parameter name: an SQL expression for the name of the schema. No column in it has the name of one of the
    ///   subquery's.
    public static func isRestore(_ name: String) -> String {
        """
        (\(name) ~ '^\(restorePattern)$' AND NOT EXISTS (
            SELECT FROM (SELECT schema.oid AS record_id, schema.nspname AS record_name
                    FROM pg_catalog.pg_namespace schema) record
                JOIN (SELECT other.refobjid AS content_of FROM pg_catalog.pg_depend other
                    WHERE other.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass) content
                ON content_of = record_id
            WHERE record_name = \(name)))
        """
    }

    /// Returns an SQL condition: the schema is a user schema.
    ///
    /// - Parameter name: an SQL expression for the name of the schema.
    public static func condition(_ name: String) -> String {
        "(\(name) !~ '^pg_' AND \(name) <> 'information_schema' AND NOT \(isRestore(name)))"
    }

    /// Returns an SQL condition: the schema is a user schema, but not the ledger's.
    ///
    /// - Parameter name: an SQL expression for the name of the schema.
    public static func conditionWithoutLedger(_ name: String) -> String {
        "(\(condition(name)) AND \(name) <> '\(ledger)')"
    }

    /// Returns whether a schema that contains objects is a user schema. Compares bytes, as the server does.
    public static func contains(_ schema: String) -> Bool {
        !schema.utf8.starts(with: "pg_".utf8) && !schema.utf8.elementsEqual("information_schema".utf8)
    }
}

import SQL

/// A schema of the current role, which must be a superuser, on which no other role has privileges.
public enum PrivateSchema {
    /// Returns statements that create the schema. The privileges that ALTER DEFAULT PRIVILEGES grants on new schemas
    /// are removed in the catalog, because REVOKE would run event triggers.
    public static func creation(_ name: String) -> String {
        """
        CREATE SCHEMA \(quoteIdentifier(name));
        UPDATE pg_catalog.pg_namespace SET nspacl = NULL WHERE nspname = \(quoteLiteral(name));
        """
    }
}

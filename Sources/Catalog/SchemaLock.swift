import Postgres

/// Statements that keep the schemas of other roles from being renamed until the transaction ends, which no lock on a
/// table does. After a rename, a qualified name could refer to another table. Other roles are roles that are not
/// superusers. The statements require a superuser, and a server that is not a standby.
public enum SchemaLock {
    /// Grants on the schemas are not blocked.
    public static let names = "\(others) FOR KEY SHARE"

    /// Grants and changes of the owner are blocked, too.
    static let definitions = "\(others) FOR UPDATE"

    private static let others = """
        SELECT FROM pg_catalog.pg_namespace n WHERE \(UserSchemas.condition("n.nspname")) AND n.nspowner IN (
            SELECT o.oid FROM pg_catalog.pg_roles o WHERE NOT o.rolsuper)
        """
}

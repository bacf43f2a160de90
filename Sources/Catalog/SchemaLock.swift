import Postgres
import SQL

/// Statements that lock the schemas of roles that are not superusers, so that the schemas cannot be renamed until the
/// transaction ends. After a rename, a qualified name could refer to another table. A lock on a table does not prevent
/// the rename of its schema. The statements require a superuser, and fail on a standby.
public enum SchemaLock {
    /// Blocks renames of the schemas, but not grants on them.
    public static let names = "\(others) FOR KEY SHARE"

    /// Blocks renames of the schemas, grants on them, and changes of their owners.
    static let definitions = "\(others) FOR UPDATE"

    /// Blocks renames of these schemas, but not grants on them.
    public static func names(of schemas: [String]) -> String {
        let names = schemas.map { quoteLiteral($0) }.joined(separator: ", ")
        return "\(others) AND n.nspname = ANY (ARRAY[\(names)]::pg_catalog.text[]) FOR KEY SHARE"
    }

    private static let others = """
        SELECT FROM pg_catalog.pg_namespace n WHERE \(UserSchemas.condition("n.nspname")) AND n.nspowner IN (
            SELECT o.oid FROM pg_catalog.pg_roles o WHERE NOT o.rolsuper)
        """
}

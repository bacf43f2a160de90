/// Expressions that call functions with the rights of whoever evaluates them.
///
/// The owner of a table, a domain or a trigger writes expressions into it, and PostgreSQL evaluates them as the role that
/// inserts a row, not as their owner. Functions of his own are confined (`FunctionConfinement`); those that PostgreSQL and
/// extensions bring are a superuser's and cannot be: `CHECK (lo_export(a, '/some/file') > 0)` writes the file when a
/// superuser inserts.
///
/// Functions are told apart by what PostgreSQL says of them: one that is immutable or stable changes nothing and says
/// nothing but to its caller, with the exception of those that run a query that they are given, as extensions' may, and of
/// aggregates, whose parts are whatever their owner chose. The rest is risky, also
/// what may not be executed by everybody, since that is asked of whoever evaluates. Nothing of this is found in
/// `pg_depend`, which leaves out what PostgreSQL itself brings; the stored expression names functions by their number.
public enum RiskyExpression {
    /// Functions that are volatile, and do no harm.
    private static let harmless = """
        'nextval', 'gen_random_uuid', 'clock_timestamp', 'timeofday', 'random', 'random_normal', 'uuidv4', 'uuidv7',
        'gen_random_bytes', 'uuid_generate_v1', 'uuid_generate_v1mc', 'uuid_generate_v4'
        """

    /// SQL for a condition on a row `p` of pg_proc.
    private static let isRisky = """
        NOT p.prosecdef AND EXISTS (
            SELECT FROM pg_catalog.pg_roles o WHERE o.oid = p.proowner AND NOT (\(FunctionConfinement.unconfined)))
        AND (
            p.provolatile = 'v' AND NOT (p.proname IN (\(harmless)) AND (
                p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace OR EXISTS (
                    SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                        AND d.objid = p.oid AND d.deptype = 'e')))
            OR p.provolatile = 's' AND (p.proname ~ '_to_xml(schema|_and_xmlschema)?$'
                OR p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace)
            OR p.prokind = 'a' AND EXISTS (
                SELECT FROM pg_catalog.pg_roles o WHERE o.oid = p.proowner AND NOT o.rolsuper)
            OR NOT EXISTS (
                SELECT FROM pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
                WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE'))
        """

    /// SQL for a condition: whether a stored expression calls a function of somebody who is no superuser.
    ///
    /// - Parameter tree: SQL for a value of type `pg_node_tree`.
    public static func isForeign(_ tree: String) -> String {
        calls(tree, "EXISTS (SELECT FROM pg_catalog.pg_roles o WHERE o.oid = p.proowner AND NOT o.rolsuper)")
    }

    /// SQL for a condition: whether a stored expression calls one of them.
    ///
    /// - Parameter tree: SQL for a value of type `pg_node_tree`.
    public static func isRisky(_ tree: String) -> String { calls(tree, isRisky) }

    /// SQL for the items of a FROM clause: a row `p` of pg_proc for each function that a stored expression calls.
    ///
    /// - Parameter tree: SQL for a value of type `pg_node_tree`.
    public static func functions(of tree: String) -> String {
        """
        pg_catalog.regexp_matches(
                (\(tree))::pg_catalog.text, ':(?:funcid|opfuncid|hashfuncid|negfuncid|aggfnoid|winfnoid) ([0-9]+)', 'g') m
            JOIN pg_catalog.pg_proc p ON p.oid = (m.m)[1]::pg_catalog.oid
        """
    }

    private static func calls(_ tree: String, _ condition: String) -> String {
        "EXISTS (SELECT FROM \(functions(of: tree)) WHERE \(condition))"
    }
}

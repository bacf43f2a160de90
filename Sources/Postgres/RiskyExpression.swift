/// Finds expressions that call functions with the rights of the role that evaluates the expression.
///
/// The owner of a table, a domain or a trigger writes expressions into it. PostgreSQL evaluates them with the rights of
/// the role that inserts a row, not with the rights of the owner. The owner's own functions are confined
/// (`FunctionConfinement`). Functions of PostgreSQL and of extensions belong to a superuser and cannot be confined:
/// `CHECK (lo_export(a, '/some/file') > 0)` writes the file when a superuser inserts a row.
///
/// Functions are judged by their catalog rows. Volatile functions are risky, except for a list of harmless ones.
/// Immutable and stable functions are not risky: they change nothing, and reveal nothing except to their caller. There
/// are three exceptions:
/// - stable functions that run a query that they receive as an argument. All stable functions outside `pg_catalog`,
///   such as those of extensions, are risky, because any of them may run such a query;
/// - aggregates of roles that are not superusers, because the owner of an aggregate chooses the functions that it
///   calls;
/// - functions that PUBLIC may not execute. PostgreSQL checks this right for the role that evaluates the expression.
///
/// The functions that an expression calls are found by their OIDs in the stored expression. `pg_depend` cannot be used,
/// because it does not list functions of PostgreSQL itself.
public enum RiskyExpression {
    /// Volatile functions that do no harm.
    private static let harmless = """
        'nextval', 'gen_random_uuid', 'clock_timestamp', 'timeofday', 'random', 'random_normal', 'uuidv4', 'uuidv7',
        'gen_random_bytes', 'uuid_generate_v1', 'uuid_generate_v1mc', 'uuid_generate_v4'
        """

    /// An SQL condition on a row `p` of pg_proc: the function is risky.
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

    /// Returns an SQL condition: a stored expression calls a function of a role that is not a superuser.
    ///
    /// - Parameter tree: SQL for a value of type `pg_node_tree`.
    public static func isForeign(_ tree: String) -> String {
        calls(tree, "EXISTS (SELECT FROM pg_catalog.pg_roles o WHERE o.oid = p.proowner AND NOT o.rolsuper)")
    }

    /// Returns an SQL condition: a stored expression calls a risky function.
    ///
    /// - Parameter tree: SQL for a value of type `pg_node_tree`.
    public static func isRisky(_ tree: String) -> String { calls(tree, isRisky) }

    /// Returns SQL for the items of a FROM clause. They yield a row `p` of pg_proc for each function that a stored
    /// expression calls.
    ///
    /// - Parameter tree: SQL for a value of type `pg_node_tree`.
    public static func functions(of tree: String) -> String {
        """
        pg_catalog.regexp_matches(
                (\(tree))::pg_catalog.text, ':(?:funcid|opfuncid|hashfuncid|negfuncid|aggfnoid|winfnoid) ([0-9]+)', 'g') m
            JOIN pg_catalog.pg_proc p ON p.oid = (m.m)[1]::pg_catalog.oid
        """
    }

    /// Returns an SQL condition: evaluating a stored expression may check the constraints of domains. The expression
    /// converts a value to a domain, or has a value of a composite type outside `pg_catalog`. Functions such as
    /// `jsonb_populate_record` make values of the composite type of their argument, and convert its fields.
    ///
    /// - Parameter tree: SQL for a value of type `pg_node_tree`.
    public static func mayCheckDomains(_ tree: String) -> String {
        """
        ((\(tree))::pg_catalog.text ~ '[{]COERCETODOMAIN ' OR EXISTS (
            SELECT FROM pg_catalog.regexp_matches(
                    (\(tree))::pg_catalog.text, ':[a-z_]*type(?:id)? ([0-9]+)', 'gi') m
                JOIN pg_catalog.pg_type y ON y.oid = (m.m)[1]::pg_catalog.oid
                LEFT JOIN pg_catalog.pg_type e ON e.oid = y.typelem
            WHERE 'c' IN (y.typtype, e.typtype)
                AND y.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace))
        """
    }

    private static func calls(_ tree: String, _ condition: String) -> String {
        "EXISTS (SELECT FROM \(functions(of: tree)) WHERE \(condition))"
    }
}

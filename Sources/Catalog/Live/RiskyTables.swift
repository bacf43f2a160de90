import Postgres

/// Tables into which a superuser inserts no rows, because an insert would run code of other roles with the privileges
/// of a superuser (`RiskyExpression`).
public enum RiskyTables {
    /// Finds the risky tables by the expressions that PostgreSQL evaluates for a new row:
    /// - the constraints, defaults, index expressions and partition keys of tables whose owner is not a superuser
    /// - the constraints of domains whose owner is not a superuser
    /// - the conditions of all triggers, because the role that created a trigger is not recorded
    ///
    /// A table whose owner is not a superuser is also risky if it has a rule or is a foreign table. Finally, a table is
    /// risky if it shares rows with a risky table by inheritance or partitioning, or if one of its columns or
    /// expressions uses a risky type.
    ///
    /// - Parameter whileOthersWork: whether other sessions may change a type before the rows are inserted. A lock on a
    ///   table does not keep the owner of a domain from adding a constraint to the domain. Therefore all domains and
    ///   row types whose owners are not superusers are risky in this case.
    /// - Returns: the risky tables, each with a description of the risky expression or object.
    public static func read(
        whileOthersWork: Bool = false, on connection: isolated Connection
    ) throws -> [ObjectIdentity: String] {
        var found: [ObjectIdentity: String] = [:]
        for row in try connection.query(sql(whileOthersWork: whileOthersWork)) {
            let table = ObjectIdentity(.table, schema: try row.get(0), try row.get(1))
            found[table] = try row.get(2)
        }
        return found
    }

    private static func sql(whileOthersWork: Bool) -> String {
        """
        WITH RECURSIVE others AS MATERIALIZED (SELECT o.oid FROM pg_catalog.pg_roles o WHERE NOT o.rolsuper),
        domains AS MATERIALIZED (
            SELECT t.oid, 'the constraint ' || k.conname AS what
            FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_type t ON t.oid = k.contypid
            WHERE k.contype = 'c' AND t.typowner IN (SELECT oid FROM others) AND \(RiskyExpression.isRisky("k.conbin"))
            \(whileOthersWork ? domainsThatMayChange : "")),
        -- Computed once: a search in the catalogs for each of many types takes too long.
        contents AS MATERIALIZED (
            SELECT t.typbasetype AS part, t.oid AS whole FROM pg_catalog.pg_type t WHERE t.typbasetype <> 0
            UNION ALL SELECT t.typelem, t.oid FROM pg_catalog.pg_type t WHERE t.typelem <> 0
            UNION ALL SELECT a.atttypid, c.reltype FROM pg_catalog.pg_attribute a
                JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE a.attnum > 0 AND c.reltype <> 0
            -- PostgreSQL 13 has no multiranges.
            UNION ALL SELECT r.rngsubtype, w.oid FROM pg_catalog.pg_range r, LATERAL (
                VALUES (r.rngtypid), ((pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::pg_catalog.oid)) AS w (oid)),
        types AS (
            SELECT d.oid, d.what FROM domains d
            \(whileOthersWork ? rowTypesThatMayChange : "")
            UNION SELECT e.whole, y.what FROM types y JOIN contents e ON e.part = y.oid),
        -- What the owner of the table wrote, or anybody who may make a trigger.
        own AS (
            SELECT k.conrelid AS oid, 'the constraint ' || k.conname AS what, k.conbin AS tree, true AS is_owners,
                'pg_catalog.pg_constraint'::pg_catalog.regclass AS class, k.oid AS id
            FROM pg_catalog.pg_constraint k WHERE k.contype = 'c' AND k.conrelid <> 0
            UNION ALL SELECT d.adrelid, 'the default of ' || a.attname, d.adbin, true,
                'pg_catalog.pg_attrdef'::pg_catalog.regclass, d.oid
            FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
            UNION ALL SELECT i.indrelid, 'the index ' || x.relname, e.tree, true,
                'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid
            FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid,
                LATERAL (VALUES (i.indexprs), (i.indpred)) AS e (tree) WHERE e.tree IS NOT NULL
            UNION ALL SELECT p.partrelid, 'the partition key', p.partexprs, true,
                'pg_catalog.pg_class'::pg_catalog.regclass, p.partrelid
            FROM pg_catalog.pg_partitioned_table p WHERE p.partexprs IS NOT NULL
            UNION ALL SELECT g.tgrelid, 'the trigger ' || g.tgname, g.tgqual, false,
                'pg_catalog.pg_trigger'::pg_catalog.regclass, g.oid
            FROM pg_catalog.pg_trigger g WHERE g.tgqual IS NOT NULL),
        direct AS (
            SELECT w.oid, w.what FROM own w JOIN pg_catalog.pg_class c ON c.oid = w.oid
            WHERE c.relkind IN ('r', 'p', 'f')
                AND (NOT w.is_owners OR c.relowner IN (SELECT oid FROM others))
                AND (\(RiskyExpression.isRisky("w.tree")) OR \(drawsFromOthers))
            UNION ALL SELECT w.oid, y.what FROM own w CROSS JOIN LATERAL pg_catalog.regexp_matches(
                w.tree::pg_catalog.text, ':[A-Za-z_]*[Tt]ype(?:[Ii]d)? ([1-9][0-9]*)', 'g') m (m)
            JOIN types y ON y.oid = m.m[1]::pg_catalog.oid
            -- A rule of others leads anywhere, and a foreign table to another server with the rights of its user mapping.
            UNION ALL SELECT r.ev_class, 'the rule ' || r.rulename FROM pg_catalog.pg_rewrite r
                JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
            WHERE c.relkind IN ('r', 'p', 'f') AND c.relowner IN (SELECT oid FROM others)
            UNION ALL SELECT c.oid, 'the foreign table ' || c.relname FROM pg_catalog.pg_class c
            WHERE c.relkind = 'f' AND c.relowner IN (SELECT oid FROM others)
            UNION ALL SELECT a.attrelid, y.what FROM types y JOIN pg_catalog.pg_attribute a ON a.atttypid = y.oid
            WHERE a.attnum > 0 AND NOT a.attisdropped),
        tables AS (
            SELECT d.oid, d.what FROM direct d
            UNION SELECT CASE WHEN i.inhrelid = t.oid THEN i.inhparent ELSE i.inhrelid END, t.what
            FROM tables t JOIN pg_catalog.pg_inherits i ON t.oid IN (i.inhrelid, i.inhparent))
        SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, min(t.what)
        FROM tables t JOIN pg_catalog.pg_class c ON c.oid = t.oid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        GROUP BY n.nspname, c.relname
        """
    }

    /// A query for the domains whose owners are not superusers. The owner of a domain can add a constraint, and can
    /// change the default.
    private static let domainsThatMayChange = """
        UNION ALL SELECT t.oid, pg_catalog.format('what %s may make of the domain %s meanwhile', o.rolname, t.typname)
            FROM pg_catalog.pg_type t JOIN pg_catalog.pg_roles o ON o.oid = t.typowner
            WHERE t.typtype = 'd' AND NOT o.rolsuper
        """

    /// A query for the row types of tables whose owners are not superusers. The row type of a table changes with the
    /// table. Composite types are not included, because they can be locked in the catalog.
    private static let rowTypesThatMayChange = """
        UNION ALL SELECT t.oid, pg_catalog.format('what %s may make of the row type %s meanwhile', o.rolname, t.typname)
            FROM pg_catalog.pg_type t JOIN pg_catalog.pg_roles o ON o.oid = t.typowner
            JOIN pg_catalog.pg_class c ON c.oid = t.typrelid WHERE c.relkind <> 'c' AND NOT o.rolsuper
        """

    /// An SQL condition on a row `w` of `own`, which describes an expression, and on the row `c` of pg_class for the
    /// expression's table. The condition is true if the expression calls nextval on a sequence that the owner of the
    /// table may not use, or on a sequence that is known only when the expression is evaluated. For the condition of a
    /// trigger, each call of nextval counts.
    ///
    /// A rollback does not reset a sequence. Once a sequence is exhausted, the statements of the sequence's owner fail.
    private static let drawsFromOthers = """
        ((SELECT count(*) FROM pg_catalog.regexp_matches(w.tree::pg_catalog.text, ':funcid \(nextval)\\M', 'g'))
            > CASE WHEN w.is_owners THEN (
                SELECT count(*) FROM pg_catalog.regexp_matches(
                    w.tree::pg_catalog.text, ':funcid \(nextval) [^{}]*:args \\(\\{CONST :consttype 2205\\M', 'g'))
                ELSE 0 END
            OR w.tree::pg_catalog.text ~ ':funcid \(nextval)\\M' AND EXISTS (
                SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.refobjid
                WHERE d.classid = w.class AND d.objid = w.id
                    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                    -- The order of conditions is not sure otherwise, and asking it of a table is an error.
                    AND CASE WHEN s.relkind = 'S'
                        THEN NOT pg_catalog.has_sequence_privilege(c.relowner, s.oid, 'USAGE, UPDATE') END))
        """

    /// The OID of `pg_catalog.nextval(regclass)`.
    private static let nextval = 1574
}

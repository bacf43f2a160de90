import Postgres

/// Tables that rows are not put into by a superuser, for that would run what others wrote with his rights
/// (`RiskyExpression`).
public enum RiskyTables {
    /// Looks at what PostgreSQL evaluates when a row comes: constraints and defaults of tables and domains whose owner is
    /// no superuser, and the conditions of all triggers, since who made one is not recorded. A table of theirs with a rule is risky,
    /// and so is one of whose partitions or descendants one is, or a type of its columns.
    ///
    /// - Returns: for each, what is evaluated.
    public static func read(on connection: isolated Connection) throws -> [ObjectIdentity: String] {
        var found: [ObjectIdentity: String] = [:]
        for row in try connection.query(sql) {
            let table = ObjectIdentity(.table, schema: try row.get(0), try row.get(1))
            found[table] = try row.get(2)
        }
        return found
    }

    private static let sql = """
        WITH RECURSIVE others AS MATERIALIZED (SELECT o.oid FROM pg_catalog.pg_roles o WHERE NOT o.rolsuper),
        domains AS MATERIALIZED (
            SELECT t.oid, k.conname::pg_catalog.text AS what
            FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_type t ON t.oid = k.contypid
            WHERE k.contype = 'c' AND t.typowner IN (SELECT oid FROM others) AND \(RiskyExpression.isRisky("k.conbin"))),
        types AS (
            SELECT d.oid, 'the constraint ' || d.what AS what FROM domains d
            UNION SELECT t.oid, y.what FROM types y JOIN pg_catalog.pg_type t
                ON t.typbasetype = y.oid OR t.typelem = y.oid OR t.typrelid IN (
                    SELECT a.attrelid FROM pg_catalog.pg_attribute a WHERE a.atttypid = y.oid AND a.attnum > 0)),
        own AS (
            SELECT k.conrelid AS oid, 'the constraint ' || k.conname AS what, k.conbin AS tree
            FROM pg_catalog.pg_constraint k WHERE k.contype = 'c' AND k.conrelid <> 0
            UNION ALL SELECT d.adrelid, 'the default of ' || a.attname, d.adbin
            FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum),
        direct AS (
            SELECT w.oid, w.what FROM own w JOIN pg_catalog.pg_class c ON c.oid = w.oid
            WHERE c.relkind IN ('r', 'p') AND c.relowner IN (SELECT oid FROM others)
                AND (\(RiskyExpression.isRisky("w.tree")) OR EXISTS (
                    SELECT FROM domains d WHERE w.tree::pg_catalog.text ~ (':resulttype ' || d.oid || '\\M')))
            UNION ALL SELECT g.tgrelid, 'the trigger ' || g.tgname FROM pg_catalog.pg_trigger g
            WHERE g.tgqual IS NOT NULL AND \(RiskyExpression.isRisky("g.tgqual"))
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

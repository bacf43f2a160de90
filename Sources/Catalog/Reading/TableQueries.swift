/// Queries for the parts of tables: constraints, indexes, statistics objects, triggers, rules and policies.
extension KindQuery {
    /// Constraints that a partition or child table inherits are listed for the parent only.
    static let constraints = KindQuery(catalog: "pg_constraint") { terms in
        let action = { (column: String, set: String) in
            """
            CASE con.contype WHEN 'f' THEN CASE con.\(column) WHEN 'r' THEN 'restrict' WHEN 'c' THEN 'cascade'
                WHEN 'n' THEN 'set null' || \(set) WHEN 'd' THEN 'set default' || \(set) END END
            """
        }
        let some = terms.since(
            15, "coalesce(' (' || \(terms.columns("con.conrelid", "con.confdelsetcols")) || ')', '')", else: "''")
        return """
            SELECT con.oid || coalesce(' pg_class:' || i.indexrelid, '') AS oid, 0 AS part, 'constraint' AS kind,
                n.nspname AS schema, c.relname AS parent, con.conname AS name, NULL AS signature,
                obj.description AS comment,
                CASE con.contype WHEN 'c' THEN 'check' WHEN 'u' THEN 'unique' WHEN 'p' THEN 'primary key'
                    WHEN 'f' THEN 'foreign key' ELSE 'exclusion' END AS type,
                CASE WHEN con.contype IN ('p', 'u', 'f') THEN
                    \(terms.columns("con.conrelid", "con.conkey")) END AS columns,
                \(terms.since(18, "CASE WHEN con.conperiod THEN 'yes' END")) AS temporal,
                CASE con.contype WHEN 'c' THEN pg_get_expr(con.conbin, con.conrelid) END AS expression,
                CASE con.contype WHEN 'x' THEN pg_get_constraintdef(con.oid) END AS definition,
                CASE con.contype WHEN 'f' THEN (SELECT quote_ident(fn.nspname) || '.' || quote_ident(fc.relname)
                    FROM pg_class fc JOIN pg_namespace fn ON fn.oid = fc.relnamespace WHERE fc.oid = con.confrelid) END
                    AS "references",
                CASE con.contype WHEN 'f' THEN
                    \(terms.columns("con.confrelid", "con.confkey")) END AS "referenced columns",
                CASE con.confmatchtype WHEN 'f' THEN 'full' WHEN 'p' THEN 'partial' END AS match,
                \(action("confupdtype", "''")) AS "on update", \(action("confdeltype", some)) AS "on delete",
                CASE WHEN con.contype <> 'x' AND con.condeferrable THEN CASE WHEN con.condeferred
                    THEN 'initially deferred' ELSE 'initially immediate' END END AS deferrable,
                CASE WHEN NOT con.convalidated THEN 'yes' END AS "not valid",
                \(terms.since(18, "CASE WHEN NOT con.conenforced THEN 'yes' END")) AS "not enforced",
                CASE WHEN con.contype = 'c' AND con.connoinherit THEN 'yes' END AS "no inherit",
                CASE WHEN con.contype IN ('p', 'u') AND i.indnatts > i.indnkeyatts THEN
                    \(terms.columns("con.conrelid", "i.indkey[i.indnkeyatts : i.indnatts - 1]")) END AS include,
                \(terms.since(15, "CASE WHEN con.contype = 'u' AND i.indnullsnotdistinct THEN 'yes' END"))
                    AS "nulls not distinct",
                CASE WHEN con.contype IN ('p', 'u') THEN \(terms.options("ic.reloptions")) END AS options,
                CASE WHEN con.contype IN ('p', 'u') THEN ts.spcname END AS tablespace,
                CASE WHEN i.indisclustered THEN 'yes' END AS clustered,
                CASE WHEN NOT i.indisvalid THEN 'no' END AS valid,
                CASE con.contype WHEN 'f' THEN (
                    SELECT CASE max(t.tgenabled::text) WHEN 'O' THEN 'off' WHEN 'D' THEN 'off'
                        WHEN 'R' THEN 'on replica' WHEN 'A' THEN 'always' END
                    FROM pg_trigger t WHERE t.tgconstraint = con.oid AND t.tgenabled <> 'O') END AS "enforcing triggers"
            FROM pg_constraint con
            JOIN pg_class c ON c.oid = con.conrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace AND \(terms.isWanted("n.nspname"))
            LEFT JOIN pg_index i ON i.indexrelid = con.conindid AND con.contype IN ('p', 'u', 'x')
            LEFT JOIN pg_class ic ON ic.oid = i.indexrelid
            LEFT JOIN pg_tablespace ts ON ts.oid = ic.reltablespace
            \(terms.commentJoin("pg_constraint", "con.oid"))
            WHERE con.contype IN ('c', 'u', 'p', 'f', 'x') AND con.conparentid = 0
                AND con.coninhcount = 0
                AND \(terms.isOwn("pg_class", "c.oid"))
            """
    }

    /// Indexes that do not belong to a constraint. An index of a partition that is part of an index of the parent is
    /// listed for the parent only.
    static let indexes = KindQuery(catalog: "pg_class") { terms in
        """
        SELECT c.oid, 0 AS part, 'index' AS kind, n.nspname AS schema, t.relname AS parent, c.relname AS name,
            NULL AS signature, obj.description AS comment, am.amname AS method,
            CASE WHEN i.indisunique THEN 'yes' END AS "unique",
            pg_get_indexdef(i.indexrelid) AS keys,
            CASE WHEN i.indnatts > i.indnkeyatts THEN
                \(terms.columns("i.indrelid", "i.indkey[i.indnkeyatts : i.indnatts - 1]")) END AS include,
            \(terms.since(15, "CASE WHEN i.indnullsnotdistinct THEN 'yes' END")) AS "nulls not distinct",
            pg_get_expr(i.indpred, i.indrelid) AS predicate, \(terms.options("c.reloptions")) AS options,
            ts.spcname AS tablespace, CASE WHEN NOT i.indisvalid THEN 'no' END AS valid,
            CASE WHEN i.indisclustered THEN 'yes' END AS clustered,
            CASE WHEN i.indexprs IS NOT NULL THEN (
                SELECT string_agg(a.attnum || ': ' || a.attstattarget, ', ' ORDER BY a.attnum) FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attstattarget >= 0) END AS "statistics targets"
        FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_class t ON t.oid = i.indrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace AND \(terms.isWanted("n.nspname"))
        JOIN pg_am am ON am.oid = c.relam
        LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace
        \(terms.commentJoin("pg_class", "c.oid"))
        WHERE NOT c.relispartition AND \(terms.isOwn("pg_class", "t.oid"))
            AND NOT EXISTS (SELECT FROM pg_constraint con
                WHERE con.conindid = i.indexrelid AND con.contype IN ('p', 'u', 'x'))
        """
    }

    static let statistics = KindQuery(catalog: "pg_statistic_ext") { terms in
        """
        SELECT s.oid, 0 AS part, 'statistics' AS kind, n.nspname AS schema, NULL AS parent, s.stxname AS name,
            NULL AS signature, \(terms.owner("s.stxowner")) AS owner, obj.description AS comment,
            pg_get_statisticsobjdef(s.oid) AS definition, nullif(s.stxstattarget, -1) AS target,
            quote_ident(tn.nspname) || '.' || quote_ident(t.relname) AS "table"
        FROM pg_statistic_ext s
        JOIN pg_namespace n ON n.oid = s.stxnamespace AND \(terms.isWanted("n.nspname"))
        JOIN pg_class t ON t.oid = s.stxrelid
        JOIN pg_namespace tn ON tn.oid = t.relnamespace
        \(terms.commentJoin("pg_statistic_ext", "s.oid"))
        WHERE \(terms.isOwn("pg_statistic_ext", "s.oid"))
        """
    }

    /// Triggers that a partition inherits are listed for the parent only.
    static let triggers = KindQuery(catalog: "pg_trigger") { terms in
        """
        SELECT t.oid, 0 AS part, 'trigger' AS kind, n.nspname AS schema, c.relname AS parent, t.tgname AS name,
            NULL AS signature, obj.description AS comment, pg_get_triggerdef(t.oid) AS definition,
            \(terms.enabled("t.tgenabled")) AS enabled
        FROM pg_trigger t
        JOIN pg_class c ON c.oid = t.tgrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace AND \(terms.isWanted("n.nspname"))
        \(terms.commentJoin("pg_trigger", "t.oid"))
        WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND \(terms.isOwn("pg_class", "c.oid"))
        """
    }

    static let rules = KindQuery(catalog: "pg_rewrite") { terms in
        """
        SELECT r.oid, 0 AS part, 'rule' AS kind, n.nspname AS schema, c.relname AS parent, r.rulename AS name,
            NULL AS signature, obj.description AS comment, pg_get_ruledef(r.oid) AS definition,
            \(terms.enabled("r.ev_enabled")) AS enabled
        FROM pg_rewrite r
        JOIN pg_class c ON c.oid = r.ev_class
        JOIN pg_namespace n ON n.oid = c.relnamespace AND \(terms.isWanted("n.nspname"))
        \(terms.commentJoin("pg_rewrite", "r.oid"))
        WHERE r.rulename <> '_RETURN' AND \(terms.isOwn("pg_class", "c.oid"))
        """
    }

    static let policies = KindQuery(catalog: "pg_policy") { terms in
        """
        SELECT p.oid, 0 AS part, 'policy' AS kind, n.nspname AS schema, c.relname AS parent, p.polname AS name,
            NULL AS signature, obj.description AS comment,
            CASE p.polcmd WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update' WHEN 'd' THEN 'delete'
                END AS command,
            CASE WHEN NOT p.polpermissive THEN 'yes' END AS restrictive,
            (SELECT string_agg(quote_ident(r.rolname), ', ' ORDER BY r.rolname) FROM pg_roles r
                WHERE r.oid = ANY (p.polroles)) AS roles,
            pg_get_expr(p.polqual, p.polrelid) AS "using", pg_get_expr(p.polwithcheck, p.polrelid) AS "with check"
        FROM pg_policy p
        JOIN pg_class c ON c.oid = p.polrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace AND \(terms.isWanted("n.nspname"))
        \(terms.commentJoin("pg_policy", "p.oid"))
        WHERE \(terms.isOwn("pg_class", "c.oid"))
        """
    }
}

/// Queries for tables, columns, sequences and views (PostgreSQL manual, chapter 53: System Catalogs).
extension KindQuery {
    static let relations = KindQuery(catalog: "pg_class") { terms in
        """
        SELECT c.oid || ' pg_type:' || c.reltype || ' pg_type:' || coalesce(rt.typarray, 0) AS oid, 0 AS part,
            CASE c.relkind WHEN 'f' THEN 'foreign table' ELSE 'table' END AS kind, n.nspname AS schema,
            NULL AS parent, c.relname AS name, NULL AS signature,
            \(terms.owner("c.relowner")) AS owner, obj.description AS comment,
            CASE c.relpersistence WHEN 'u' THEN 'unlogged' END AS persistence,
            nullif(am.amname, 'heap') AS "access method", ts.spcname AS tablespace,
            \(terms.options("c.reloptions")) AS options, \(terms.options("toast.reloptions")) AS "toast options",
            CASE WHEN c.relkind <> 'f' THEN CASE c.relreplident WHEN 'f' THEN 'full' WHEN 'n' THEN 'nothing' WHEN 'i' THEN (
                SELECT 'using index ' || quote_ident(ic.relname) FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
                WHERE i.indrelid = c.oid AND i.indisreplident) END END AS "replica identity",
            CASE WHEN c.relrowsecurity THEN 'enabled' END AS "row level security",
            CASE WHEN c.relforcerowsecurity THEN 'forced' END AS "forced row level security",
            pg_get_partkeydef(c.oid) AS "partition key",
            CASE WHEN c.relispartition THEN inh.parents END AS "partition of",
            CASE WHEN NOT c.relispartition THEN inh.parents END AS inherits,
            pg_get_expr(c.relpartbound, c.oid) AS "partition bound",
            CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END AS "of type",
            quote_ident(fs.srvname) AS server, \(terms.options("ft.ftoptions")) AS "foreign options",
            CASE WHEN c.relhastriggers THEN (
                SELECT string_agg(quote_ident(t.tgname), ', ' ORDER BY t.tgname)
                FROM pg_trigger t JOIN pg_trigger pt ON pt.oid = t.tgparentid
                WHERE t.tgrelid = c.oid AND t.tgenabled <> pt.tgenabled AND t.tgenabled = 'D'
                    AND t.tgconstraint = 0) END AS "disabled inherited triggers",
            (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS "column order"
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace AND \(terms.isWanted("n.nspname"))
        LEFT JOIN pg_type rt ON rt.oid = c.reltype
        LEFT JOIN pg_am am ON am.oid = c.relam
        LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace
        LEFT JOIN pg_class toast ON toast.oid = c.reltoastrelid
        LEFT JOIN pg_foreign_table ft ON ft.ftrelid = c.oid
        LEFT JOIN pg_foreign_server fs ON fs.oid = ft.ftserver
        LEFT JOIN (
            SELECT i.inhrelid, string_agg(quote_ident(pn.nspname) || '.' || quote_ident(p.relname), ', '
                ORDER BY i.inhseqno) AS parents
            FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
            GROUP BY 1) inh ON inh.inhrelid = c.oid
        \(terms.commentJoin("pg_class", "c.oid"))
        WHERE c.relkind IN ('r', 'p', 'f') AND \(terms.isOwn("pg_class", "c.oid"))
        """
    }

    /// Columns of views and composite types are read only if they have a default or a comment.
    static let columns = KindQuery(catalog: "pg_class") { terms in
        let isStored = "c.relkind IN ('r', 'p', 'f')"
        let notNull = terms.since(
            18,
            """
            coalesce((SELECT nullif(concat_ws(', ', CASE WHEN k.connoinherit THEN 'no inherit' END,
                    CASE WHEN NOT k.convalidated THEN 'not valid' END), '')
                FROM pg_constraint k WHERE k.contype = 'n' AND k.conrelid = a.attrelid AND k.conkey[1] = a.attnum), 'yes')
            """, else: "'yes'")
        return """
            SELECT c.oid || coalesce(' pg_attrdef:' || d.oid, '') AS oid, a.attnum AS part, 'column' AS kind,
                n.nspname AS schema, c.relname AS parent, a.attname AS name, NULL AS signature,
                obj.description AS comment,
                CASE WHEN \(isStored) THEN format_type(a.atttypid, a.atttypmod) END AS type,
                CASE WHEN \(isStored) AND a.attcollation <> t.typcollation
                    THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END AS collation,
                CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS "default",
                CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END AS generated,
                CASE WHEN a.attgenerated = 'v' THEN 'virtual' END AS "generated kind",
                CASE WHEN \(isStored) AND a.attnotnull THEN \(notNull) END AS "not null",
                CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END AS identity,
                CASE WHEN \(isStored) AND a.attstorage <> t.typstorage THEN CASE a.attstorage WHEN 'p' THEN 'plain'
                    WHEN 'e' THEN 'external' WHEN 'm' THEN 'main' ELSE 'extended' END END AS storage,
                \(terms.since(14, "CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END")) AS compression,
                nullif(a.attstattarget, -1) AS "statistics target",
                \(terms.options("a.attoptions")) AS options, \(terms.options("a.attfdwoptions")) AS "foreign options"
            FROM pg_attribute a
            JOIN pg_class c ON c.oid = a.attrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace AND \(terms.isWanted("n.nspname"))
            JOIN pg_type t ON t.oid = a.atttypid
            LEFT JOIN pg_collation co ON co.oid = a.attcollation
            LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
            LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            \(terms.commentJoin("pg_class", "a.attrelid", part: "a.attnum"))
            WHERE a.attnum > 0 AND NOT a.attisdropped
                AND (\(isStored) OR c.relkind = 'v' AND (d.oid IS NOT NULL OR obj.description IS NOT NULL)
                    OR c.relkind IN ('m', 'c') AND obj.description IS NOT NULL)
                AND \(terms.isOwn("pg_class", "c.oid"))
            """
    }

    /// The properties that ALTER SEQUENCE can change. Bounds are omitted if they are the defaults of an ascending
    /// sequence of the type.
    static let sequences = KindQuery(catalog: "pg_class") { terms in
        let owned = "(SELECT quote_ident(rn.nspname) || '.' || quote_ident(r.relname) || '.' || quote_ident(a.attname))"
        return """
            SELECT c.oid, 0 AS part, 'sequence' AS kind, n.nspname AS schema, NULL AS parent, c.relname AS name,
                NULL AS signature, CASE WHEN d.deptype IS DISTINCT FROM 'i' THEN \(terms.owner("c.relowner")) END AS owner,
                obj.description AS comment, format_type(s.seqtypid, NULL) AS type, nullif(s.seqstart, 1) AS start,
                nullif(s.seqincrement, 1) AS increment, nullif(s.seqmin, 1) AS minimum,
                CASE WHEN s.seqmax <> CASE s.seqtypid WHEN 'int2'::regtype THEN 32767
                    WHEN 'int4'::regtype THEN 2147483647 ELSE 9223372036854775807 END THEN s.seqmax END AS maximum,
                nullif(s.seqcache, 1) AS cache, CASE WHEN s.seqcycle THEN 'yes' END AS cycle,
                CASE c.relpersistence WHEN 'u' THEN 'unlogged' END AS persistence,
                CASE d.deptype WHEN 'a' THEN \(owned) END AS "owned by",
                CASE d.deptype WHEN 'i' THEN \(owned) END AS "identity of"
            FROM pg_sequence s
            JOIN pg_class c ON c.oid = s.seqrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace AND \(terms.isWanted("n.nspname"))
            LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
                AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
            LEFT JOIN pg_class r ON r.oid = d.refobjid
            LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace
            LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
            \(terms.commentJoin("pg_class", "c.oid"))
            WHERE \(terms.isOwn("pg_class", "c.oid"))
            """
    }

    static let views = KindQuery(catalog: "pg_class") { terms in
        """
        SELECT c.oid || ' pg_type:' || c.reltype || coalesce(' pg_rewrite:' || w.oid, '') AS oid, 0 AS part,
            CASE c.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END AS kind, n.nspname AS schema,
            NULL AS parent, c.relname AS name, NULL AS signature, \(terms.owner("c.relowner")) AS owner,
            obj.description AS comment, pg_get_viewdef(c.oid) AS definition,
            \(terms.options("c.reloptions")) AS options, nullif(am.amname, 'heap') AS "access method",
            ts.spcname AS tablespace
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace AND \(terms.isWanted("n.nspname"))
        LEFT JOIN pg_rewrite w ON w.ev_class = c.oid AND w.rulename = '_RETURN'
        LEFT JOIN pg_am am ON am.oid = c.relam
        LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace
        \(terms.commentJoin("pg_class", "c.oid"))
        WHERE c.relkind IN ('v', 'm') AND \(terms.isOwn("pg_class", "c.oid"))
        """
    }
}

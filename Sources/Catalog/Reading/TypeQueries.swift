/// Queries for types, collations, operators and text search objects.
extension KindQuery {
    static let types = KindQuery(catalog: "pg_type") { terms in
        let isRange = "t.typtype = 'r'"
        return """
            SELECT t.oid || ' pg_type:' || t.typarray || \(terms.since(14, "coalesce(' pg_type:' || r.rngmultitypid, '')", else: "''"))
                    AS oid, 0 AS part,
                CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' ELSE 'range type' END AS kind,
                n.nspname AS schema, NULL AS parent, t.typname AS name, NULL AS signature,
                \(terms.owner("t.typowner")) AS owner, obj.description AS comment,
                CASE t.typtype WHEN 'e' THEN (SELECT string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder)
                    FROM pg_enum l WHERE l.enumtypid = t.oid) END AS labels,
                CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) END AS "base type",
                CASE WHEN t.typtype = 'd' AND t.typcollation <> b.typcollation THEN
                    quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END AS collation,
                CASE t.typtype WHEN 'd' THEN coalesce(pg_get_expr(t.typdefaultbin, 0), quote_literal(t.typdefault)) END
                    AS "default",
                CASE WHEN t.typtype = 'd' AND t.typnotnull THEN 'yes' END AS "not null",
                CASE WHEN \(isRange) THEN format_type(r.rngsubtype, NULL) END AS subtype,
                CASE WHEN \(isRange) AND NOT oc.opcdefault THEN quote_ident(ocn.nspname) || '.' || quote_ident(oc.opcname)
                    END AS "subtype operator class",
                CASE WHEN \(isRange) AND r.rngcollation <> sub.typcollation THEN
                    (SELECT quote_ident(rcn.nspname) || '.' || quote_ident(rc.collname) FROM pg_collation rc
                        JOIN pg_namespace rcn ON rcn.oid = rc.collnamespace WHERE rc.oid = r.rngcollation) END
                    AS "subtype collation",
                CASE WHEN \(isRange) AND r.rngcanonical <> 0 THEN r.rngcanonical::text END AS canonical,
                CASE WHEN \(isRange) AND r.rngsubdiff <> 0 THEN r.rngsubdiff::text END AS "subtype difference",
                \(terms.since(14, "CASE WHEN \(isRange) THEN format_type(r.rngmultitypid, NULL) END"))
                    AS "multirange type"
            FROM pg_type t
            JOIN pg_namespace n ON n.oid = t.typnamespace AND \(terms.isWanted("n.nspname"))
            LEFT JOIN pg_type b ON b.oid = t.typbasetype
            LEFT JOIN pg_collation co ON co.oid = t.typcollation
            LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
            LEFT JOIN pg_range r ON r.rngtypid = t.oid
            LEFT JOIN pg_type sub ON sub.oid = r.rngsubtype
            LEFT JOIN pg_opclass oc ON oc.oid = r.rngsubopc
            LEFT JOIN pg_namespace ocn ON ocn.oid = oc.opcnamespace
            \(terms.commentJoin("pg_type", "t.oid"))
            WHERE t.typtype IN ('e', 'd', 'r') AND \(terms.isOwn("pg_type", "t.oid"))
            """
    }

    static let compositeTypes = KindQuery(catalog: "pg_class") { terms in
        """
        SELECT c.oid || ' pg_type:' || t.oid || ' pg_type:' || t.typarray AS oid, 0 AS part,
            'composite type' AS kind, n.nspname AS schema, NULL AS parent, c.relname AS name, NULL AS signature,
            \(terms.owner("c.relowner")) AS owner, obj.description AS comment,
            (SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
                || CASE WHEN a.attcollation <> at.typcollation THEN ' COLLATE '
                    || quote_ident(cn.nspname) || '.' || quote_ident(co.collname) ELSE '' END,
                chr(10) ORDER BY a.attnum)
             FROM pg_attribute a
             JOIN pg_type at ON at.oid = a.atttypid
             LEFT JOIN pg_collation co ON co.oid = a.attcollation
             LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS attributes
        FROM pg_class c
        JOIN pg_type t ON t.oid = c.reltype
        JOIN pg_namespace n ON n.oid = c.relnamespace AND \(terms.isWanted("n.nspname"))
        \(terms.commentJoin("pg_type", "t.oid"))
        WHERE c.relkind = 'c' AND \(terms.isOwn("pg_type", "t.oid"))
        """
    }

    static let domainConstraints = KindQuery(catalog: "pg_constraint") { terms in
        """
        SELECT con.oid, 0 AS part, 'domain constraint' AS kind, n.nspname AS schema, t.typname AS parent,
            con.conname AS name, NULL AS signature, obj.description AS comment,
            pg_get_expr(con.conbin, 0) AS expression, CASE WHEN NOT con.convalidated THEN 'yes' END AS "not valid"
        FROM pg_constraint con
        JOIN pg_type t ON t.oid = con.contypid
        JOIN pg_namespace n ON n.oid = t.typnamespace AND \(terms.isWanted("n.nspname"))
        \(terms.commentJoin("pg_constraint", "con.oid"))
        WHERE con.contype = 'c' AND \(terms.isOwn("pg_type", "t.oid"))
        """
    }

    static let collations = KindQuery(catalog: "pg_collation") { terms in
        let locale =
            terms.version >= 17
            ? "c.colllocale"
            : terms.since(15, "c.colliculocale", else: "CASE c.collprovider WHEN 'i' THEN c.collcollate END")
        return """
            SELECT c.oid, 0 AS part, 'collation' AS kind, n.nspname AS schema, NULL AS parent, c.collname AS name,
                NULL AS signature, \(terms.owner("c.collowner")) AS owner, obj.description AS comment,
                CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END AS provider,
                coalesce(\(locale), c.collcollate) AS locale,
                CASE WHEN c.collctype <> c.collcollate THEN c.collctype END AS "character type",
                CASE WHEN NOT c.collisdeterministic THEN 'no' END AS deterministic,
                \(terms.since(16, "c.collicurules")) AS rules
            FROM pg_collation c
            JOIN pg_namespace n ON n.oid = c.collnamespace AND \(terms.isWanted("n.nspname"))
            \(terms.commentJoin("pg_collation", "c.oid"))
            WHERE \(terms.isOwn("pg_collation", "c.oid"))
            """
    }

    static let operators = KindQuery(catalog: "pg_operator") { terms in
        """
        SELECT o.oid, 0 AS part, 'operator' AS kind, n.nspname AS schema, NULL AS parent, o.oprname AS name,
            CASE WHEN o.oprleft = 0 THEN 'NONE' ELSE format_type(o.oprleft, NULL) END || ', '
                || format_type(o.oprright, NULL) AS signature,
            \(terms.owner("o.oprowner")) AS owner, obj.description AS comment, o.oprcode::text AS function,
            nullif(o.oprcom::regoperator::text, '0') AS commutator, nullif(o.oprnegate::regoperator::text, '0') AS negator,
            nullif(o.oprrest::text, '-') AS restrict, nullif(o.oprjoin::text, '-') AS "join",
            CASE WHEN o.oprcanhash THEN 'yes' END AS hashes, CASE WHEN o.oprcanmerge THEN 'yes' END AS merges
        FROM pg_operator o
        JOIN pg_namespace n ON n.oid = o.oprnamespace AND \(terms.isWanted("n.nspname"))
        \(terms.commentJoin("pg_operator", "o.oid"))
        WHERE o.oprcode <> 0 AND \(terms.isOwn("pg_operator", "o.oid"))
        """
    }

    static let dictionaries = KindQuery(catalog: "pg_ts_dict") { terms in
        """
        SELECT d.oid, 0 AS part, 'text search dictionary' AS kind, n.nspname AS schema, NULL AS parent,
            d.dictname AS name, NULL AS signature, \(terms.owner("d.dictowner")) AS owner, obj.description AS comment,
            quote_ident(tn.nspname) || '.' || quote_ident(t.tmplname) AS template, d.dictinitoption AS options
        FROM pg_ts_dict d
        JOIN pg_namespace n ON n.oid = d.dictnamespace AND \(terms.isWanted("n.nspname"))
        JOIN pg_ts_template t ON t.oid = d.dicttemplate
        JOIN pg_namespace tn ON tn.oid = t.tmplnamespace
        \(terms.commentJoin("pg_ts_dict", "d.oid"))
        WHERE \(terms.isOwn("pg_ts_dict", "d.oid"))
        """
    }

    static let configurations = KindQuery(catalog: "pg_ts_config") { terms in
        """
        SELECT c.oid, 0 AS part, 'text search configuration' AS kind, n.nspname AS schema, NULL AS parent,
            c.cfgname AS name, NULL AS signature, \(terms.owner("c.cfgowner")) AS owner, obj.description AS comment,
            quote_ident(pn.nspname) || '.' || quote_ident(p.prsname) AS parser,
            (SELECT string_agg(m.token || ' ' || m.dictionaries, chr(10) ORDER BY m.token COLLATE "C") FROM (
                SELECT CASE WHEN tt.alias ~ '^[a-z_][a-z0-9_]*$' THEN tt.alias ELSE quote_ident(tt.alias) END AS token, string_agg(m.mapdict::regdictionary::text, ', ' ORDER BY m.mapseqno) AS dictionaries
                FROM pg_ts_config_map m JOIN ts_token_type(c.cfgparser) tt ON tt.tokid = m.maptokentype
                WHERE m.mapcfg = c.oid GROUP BY 1) m) AS mappings
        FROM pg_ts_config c
        JOIN pg_namespace n ON n.oid = c.cfgnamespace AND \(terms.isWanted("n.nspname"))
        JOIN pg_ts_parser p ON p.oid = c.cfgparser
        JOIN pg_namespace pn ON pn.oid = p.prsnamespace
        \(terms.commentJoin("pg_ts_config", "c.oid"))
        WHERE \(terms.isOwn("pg_ts_config", "c.oid"))
        """
    }
}

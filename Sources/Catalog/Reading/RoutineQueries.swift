import Postgres
import SQL

/// Queries for functions, procedures and aggregates.
extension KindQuery {
    private static let signature = """
        coalesce((SELECT string_agg(format_type(s.t, NULL), ', ' ORDER BY s.n)
            FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY s(t, n)), '') AS signature
        """

    /// An SQL condition: whether a setting `o` can be listed without double quotes around it. Each setting is on its
    /// own line, so its value may contain commas. If the value is a list of names, it may also contain pairs of double
    /// quotes.
    private static let plainSetting = """
        o ~ '^[A-Za-z_][A-Za-z0-9_.$]*=[^"''()\\r\\n]*$' OR o ~ '^[A-Za-z_]+=([^"''()\\r\\n]*"[^"''()\\r\\n]*")*[^"''()\\r\\n]*$'
            AND lower(split_part(o, '=', 1)) IN (\(ListSetting.names.map(quoteLiteral).joined(separator: ", ")))
        """

    static let routines = KindQuery(catalog: "pg_proc") { terms in
        """
        SELECT p.oid, 0 AS part, CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END AS kind,
            n.nspname AS schema, NULL AS parent, p.proname AS name, \(signature),
            \(terms.owner("p.proowner")) AS owner, obj.description AS comment,
            nullif(pg_get_function_arguments(p.oid), '') AS arguments, pg_get_function_result(p.oid) AS returns,
            l.lanname AS language, \(terms.since(14, "coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)", else: "p.prosrc"))
                AS body,
            \(terms.since(14, "CASE WHEN p.prosqlbody IS NOT NULL THEN 'sql' END")) AS "body kind",
            p.probin AS library,
            CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' END AS volatility,
            CASE WHEN p.proisstrict THEN 'yes' END AS strict,
            CASE WHEN p.prosecdef THEN 'definer' END AS security,
            CASE WHEN p.proleakproof THEN 'yes' END AS leakproof,
            CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' END AS parallel,
            CASE WHEN p.prokind = 'w' THEN 'yes' END AS "window",
            nullif(p.procost, CASE WHEN l.lanname IN ('internal', 'c') THEN 1 ELSE 100 END) AS cost,
            CASE WHEN p.proretset THEN nullif(p.prorows, 1000) END AS rows,
            (SELECT string_agg(\(terms.pair("o", orIf: plainSetting)), chr(10) ORDER BY o COLLATE "C")
                FROM unnest(p.proconfig) o) AS settings,
            nullif(p.prosupport::text, '-') AS support,
            (SELECT string_agg(format_type(t, NULL), ', ') FROM unnest(p.protrftypes) t) AS transforms
        FROM pg_proc p
        JOIN pg_namespace n ON n.oid = p.pronamespace AND \(terms.isWanted("n.nspname"))
        JOIN pg_language l ON l.oid = p.prolang
        \(terms.commentJoin("pg_proc", "p.oid"))
        WHERE p.prokind IN ('f', 'p', 'w') AND NOT EXISTS (SELECT FROM pg_depend e
            WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype IN ('e', 'i'))
        """
    }

    static let aggregates = KindQuery(catalog: "pg_proc") { terms in
        """
        SELECT p.oid, 0 AS part, 'aggregate' AS kind, n.nspname AS schema, NULL AS parent, p.proname AS name,
            \(signature), \(terms.owner("p.proowner")) AS owner, obj.description AS comment,
            pg_get_function_arguments(p.oid) AS arguments,
            concat_ws(chr(10), 'SFUNC = ' || a.aggtransfn, 'STYPE = ' || format_type(a.aggtranstype, NULL),
                'SSPACE = ' || nullif(a.aggtransspace, 0), 'FINALFUNC = ' || nullif(a.aggfinalfn::text, '-'),
                CASE WHEN a.aggfinalextra THEN 'FINALFUNC_EXTRA' END,
                'FINALFUNC_MODIFY = ' || CASE WHEN a.aggfinalmodify <> CASE a.aggkind WHEN 'n' THEN 'r'::"char" ELSE 'w' END
                    THEN CASE a.aggfinalmodify WHEN 'r' THEN 'READ_ONLY' WHEN 's' THEN 'SHAREABLE' ELSE 'READ_WRITE' END END,
                'COMBINEFUNC = ' || nullif(a.aggcombinefn::text, '-'),
                'SERIALFUNC = ' || nullif(a.aggserialfn::text, '-'),
                'DESERIALFUNC = ' || nullif(a.aggdeserialfn::text, '-'), 'INITCOND = ' || quote_literal(a.agginitval),
                'MSFUNC = ' || nullif(a.aggmtransfn::text, '-'), 'MINVFUNC = ' || nullif(a.aggminvtransfn::text, '-'),
                'MSTYPE = ' || CASE WHEN a.aggmtranstype <> 0 THEN format_type(a.aggmtranstype, NULL) END,
                'MSSPACE = ' || nullif(a.aggmtransspace, 0), 'MFINALFUNC = ' || nullif(a.aggmfinalfn::text, '-'),
                CASE WHEN a.aggmfinalextra THEN 'MFINALFUNC_EXTRA' END, 'MINITCOND = ' || quote_literal(a.aggminitval),
                'SORTOP = ' || nullif(a.aggsortop, 0)::regoperator, CASE WHEN a.aggkind = 'h' THEN 'HYPOTHETICAL' END,
                'PARALLEL = ' || CASE p.proparallel WHEN 's' THEN 'SAFE' WHEN 'r' THEN 'RESTRICTED' END) AS definition
        FROM pg_proc p
        JOIN pg_aggregate a ON a.aggfnoid = p.oid
        JOIN pg_namespace n ON n.oid = p.pronamespace AND \(terms.isWanted("n.nspname"))
        \(terms.commentJoin("pg_proc", "p.oid"))
        WHERE \(terms.isOwn("pg_proc", "p.oid"))
        """
    }
}

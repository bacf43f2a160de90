import SQL

/// Queries for schemas and for objects outside schemas.
extension KindQuery {
    static let schemas = KindQuery(catalog: "pg_namespace") { terms in
        """
        SELECT n.oid, 0 AS part, 'schema' AS kind, NULL AS schema, NULL AS parent, n.nspname AS name,
            NULL AS signature, \(terms.owner("n.nspowner")) AS owner, obj.description AS comment
        FROM pg_namespace n
        \(terms.commentJoin("pg_namespace", "n.oid"))
        WHERE \(terms.isWanted("n.nspname"))
        """
    }

    /// Comments on extensions are not read: an extension sets its own comment.
    static let extensions = KindQuery(catalog: "pg_extension") { terms in
        """
        SELECT e.oid, 0 AS part, 'extension' AS kind, NULL AS schema, NULL AS parent, e.extname AS name,
            NULL AS signature, n.nspname AS "in schema", e.extversion AS version
        FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname <> 'plpgsql'
        """
    }

    static let eventTriggers = KindQuery(catalog: "pg_event_trigger") { terms in
        """
        SELECT t.oid, 0 AS part, 'event trigger' AS kind, NULL AS schema, NULL AS parent, t.evtname AS name,
            NULL AS signature, \(terms.owner("t.evtowner")) AS owner, obj.description AS comment, t.evtevent AS event,
            (SELECT string_agg(quote_literal(g), ', ' ORDER BY g COLLATE "C") FROM unnest(t.evttags) g) AS tags,
            t.evtfoid::regproc::text AS function, \(terms.enabled("t.evtenabled")) AS enabled
        FROM pg_event_trigger t
        \(terms.commentJoin("pg_event_trigger", "t.oid"))
        WHERE \(terms.isOwn("pg_event_trigger", "t.oid"))
        """
    }

    static let publications = KindQuery(catalog: "pg_publication") { terms in
        let columns = terms.since(
            15, "coalesce(' (' || \(terms.columns("r.prrelid", "r.prattrs")) || ')', '')", else: "''")
        let filter = terms.since(15, "coalesce(' WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')', '')", else: "''")
        let schemas = terms.since(
            15,
            """
            (SELECT string_agg(quote_ident(s.nspname), ', ' ORDER BY s.nspname) FROM pg_publication_namespace ps
                JOIN pg_namespace s ON s.oid = ps.pnnspid WHERE ps.pnpubid = p.oid)
            """)
        return """
            SELECT p.oid || coalesce((SELECT string_agg(' pg_publication_rel:' || r.oid, '') FROM pg_publication_rel r
                    WHERE r.prpubid = p.oid), '') AS oid, 0 AS part, 'publication' AS kind, NULL AS schema, NULL AS parent, p.pubname AS name,
                NULL AS signature, \(terms.owner("p.pubowner")) AS owner, obj.description AS comment,
                CASE WHEN p.puballtables THEN 'yes' END AS "all tables",
                nullif(concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END,
                    CASE WHEN p.pubdelete THEN 'delete' END, CASE WHEN p.pubtruncate THEN 'truncate' END),
                    'insert, update, delete, truncate') AS publish,
                CASE WHEN p.pubviaroot THEN 'yes' END AS "publish via partition root",
                \(terms.since(18, "CASE p.pubgencols WHEN 's' THEN 'stored' END")) AS "publish generated columns",
                (SELECT string_agg(quote_ident(n.nspname) || '.' || quote_ident(c.relname) || \(columns) || \(filter),
                    chr(10) ORDER BY n.nspname, c.relname)
                 FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = p.oid) AS tables,
                \(schemas) AS "schemas"
            FROM pg_publication p
            \(terms.commentJoin("pg_publication", "p.oid"))
            WHERE \(terms.isOwn("pg_publication", "p.oid"))
            """
    }

    /// The connection string is read only if the role may read it. Subscriptions are objects of the whole server.
    static let subscriptions = KindQuery(catalog: "pg_subscription") { terms in
        let connection = terms.readsConnections ? "s.subconninfo" : quoteLiteral(Secrets.unreadable)
        let streaming =
            terms.version >= 16
            ? "CASE s.substream WHEN 't' THEN 'on' WHEN 'p' THEN 'parallel' END"
            : terms.since(14, "CASE WHEN s.substream THEN 'on' END")
        return """
            SELECT s.oid, 0 AS part, 'subscription' AS kind, NULL AS schema, NULL AS parent, s.subname AS name,
                NULL AS signature, \(terms.owner("s.subowner")) AS owner, obj.description AS comment,
                \(connection) AS connection, CASE WHEN NOT s.subenabled THEN 'no' END AS enabled,
                coalesce(nullif(quote_ident(s.subslotname), quote_ident(s.subname)),
                    CASE WHEN s.subslotname IS NULL THEN 'NONE' END) AS "slot name",
                nullif(s.subsynccommit, 'off') AS "synchronous commit",
                (SELECT string_agg(quote_ident(p), ', ' ORDER BY p COLLATE "C") FROM unnest(s.subpublications) p)
                    AS publications,
                \(terms.since(14, "CASE WHEN s.subbinary THEN 'true' END")) AS binary, \(streaming) AS streaming,
                \(terms.since(15, "CASE WHEN s.subtwophasestate <> 'd' THEN 'true' END")) AS "two phase",
                \(terms.since(15, "CASE WHEN s.subdisableonerr THEN 'true' END")) AS "disable on error",
                \(terms.since(16, "CASE WHEN NOT s.subpasswordrequired THEN 'false' END")) AS "password required",
                \(terms.since(16, "CASE WHEN s.subrunasowner THEN 'true' END")) AS "run as owner",
                \(terms.since(16, "nullif(s.suborigin, 'any')")) AS origin,
                \(terms.since(17, "CASE WHEN s.subfailover THEN 'true' END")) AS failover
            FROM pg_subscription s
            \(terms.commentJoin("pg_subscription", "s.oid"))
            WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            """
    }

    static let foreignDataWrappers = KindQuery(catalog: "pg_foreign_data_wrapper") { terms in
        """
        SELECT w.oid, 0 AS part, 'foreign-data wrapper' AS kind, NULL AS schema, NULL AS parent, w.fdwname AS name,
            NULL AS signature, \(terms.owner("w.fdwowner")) AS owner, obj.description AS comment,
            nullif(w.fdwhandler, 0)::regproc::text AS handler, nullif(w.fdwvalidator, 0)::regproc::text AS validator,
            \(terms.options("w.fdwoptions")) AS options
        FROM pg_foreign_data_wrapper w
        \(terms.commentJoin("pg_foreign_data_wrapper", "w.oid"))
        WHERE \(terms.isOwn("pg_foreign_data_wrapper", "w.oid"))
        """
    }

    /// The options are read from the view `pg_user_mappings`, which shows them to the mapped role, the owner of the
    /// server and superusers. The condition is that of the view.
    static let userMappings = KindQuery(catalog: "pg_user_mapping") { terms in
        """
        SELECT m.umid AS oid, 0 AS part, 'user mapping' AS kind, NULL AS schema, NULL AS parent, m.srvname AS name,
            CASE WHEN m.umuser = 0 THEN 'public' WHEN m.usename = \(terms.owner) THEN '(migrator)'
                ELSE quote_ident(m.usename) END AS signature,
            CASE WHEN (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
                    OR CASE WHEN m.umuser = 0 THEN pg_has_role(s.srvowner, 'USAGE')
                        ELSE m.usename = current_user AND (pg_has_role(s.srvowner, 'USAGE')
                            OR has_server_privilege(s.oid, 'USAGE')) END
                THEN \(terms.options("m.umoptions")) ELSE \(quoteLiteral(Secrets.unreadable)) END AS options
        FROM pg_user_mappings m JOIN pg_foreign_server s ON s.oid = m.srvid
        """
    }

    static let foreignServers = KindQuery(catalog: "pg_foreign_server") { terms in
        """
        SELECT s.oid, 0 AS part, 'foreign server' AS kind, NULL AS schema, NULL AS parent, s.srvname AS name,
            NULL AS signature, \(terms.owner("s.srvowner")) AS owner, obj.description AS comment,
            quote_ident(w.fdwname) AS "wrapper", s.srvtype AS type, s.srvversion AS version,
            \(terms.options("s.srvoptions")) AS options
        FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
        \(terms.commentJoin("pg_foreign_server", "s.oid"))
        WHERE \(terms.isOwn("pg_foreign_server", "s.oid"))
        """
    }

    /// The built-in casts are left out; their OIDs are less than 16384.
    static let casts = KindQuery(catalog: "pg_cast") { terms in
        """
        SELECT c.oid, 0 AS part, 'cast' AS kind, NULL AS schema, NULL AS parent,
            format_type(c.castsource, NULL) || ' AS ' || format_type(c.casttarget, NULL) AS name, NULL AS signature,
            obj.description AS comment,
            CASE c.castmethod WHEN 'i' THEN 'inout' WHEN 'b' THEN 'binary' ELSE c.castfunc::regprocedure::text END
                AS method,
            CASE c.castcontext WHEN 'a' THEN 'assignment' WHEN 'i' THEN 'implicit' END AS context
        FROM pg_cast c
        \(terms.commentJoin("pg_cast", "c.oid"))
        WHERE c.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend e
            WHERE e.classid = 'pg_cast'::regclass AND e.objid = c.oid AND e.deptype IN ('e', 'i'))
        """
    }

    /// The objects, roles and schemas for which ALTER DEFAULT PRIVILEGES was used. `PrivilegeQuery` reads the
    /// privileges.
    static let defaultPrivileges = KindQuery(catalog: "pg_default_acl") { terms in
        """
        SELECT d.oid, 0 AS part, 'default privileges' AS kind, n.nspname AS schema, NULL AS parent,
            \(PrivilegeQuery.defaultKind) AS name, coalesce(quote_ident(\(terms.owner("d.defaclrole"))), '') AS signature
        FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
        WHERE d.defaclnamespace = 0 OR \(terms.isWanted("n.nspname"))
        """
    }
}

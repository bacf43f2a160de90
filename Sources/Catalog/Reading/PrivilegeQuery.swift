/// Reads the privileges of each grantee that differ from the privileges on a new object.
///
/// Therefore a missing access list is equal to a list that contains the default privileges (PostgreSQL manual, section
/// 5.7). The privileges of the owner are listed under `(owner)`, so that a different owner changes no other property.
/// `*` after a privilege means that the grantee may grant it to others.
enum PrivilegeQuery {
    static let defaultKind = """
        CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions'
            WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE 'large objects' END
        """

    static func sql(_ terms: QueryTerms) -> String {
        """
        WITH objects (kind, schema, parent, name, signature, owner, acl, standard) AS (
            SELECT 'schema', NULL::name, NULL::name, n.nspname::text, NULL::text, n.nspowner, n.nspacl,
                acldefault('n', n.nspowner)
            FROM pg_namespace n WHERE n.nspacl IS NOT NULL AND \(terms.isWanted("n.nspname"))
            UNION ALL
            SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                    WHEN 'S' THEN 'sequence' ELSE 'table' END,
                n.nspname, NULL, c.relname::text, NULL, c.relowner, c.relacl,
                acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, c.relowner)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relacl IS NOT NULL AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND \(terms.isWanted("n.nspname"))
                AND \(terms.isOwn("pg_class", "c.oid"))
            UNION ALL
            SELECT 'column', n.nspname, c.relname, a.attname::text, NULL, c.relowner, a.attacl,
                acldefault('c', c.relowner)
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND \(terms.isWanted("n.nspname"))
                AND \(terms.isOwn("pg_class", "c.oid"))
            UNION ALL
            SELECT CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
                n.nspname, NULL, p.proname::text, coalesce((SELECT string_agg(format_type(s.t, NULL), ', ' ORDER BY s.n)
                    FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY s(t, n)), ''), p.proowner, p.proacl,
                acldefault('f', p.proowner)
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
            WHERE p.proacl IS NOT NULL AND \(terms.isWanted("n.nspname")) AND \(terms.isOwn("pg_proc", "p.oid"))
            UNION ALL
            SELECT CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'c' THEN 'composite type'
                    ELSE 'range type' END, n.nspname, NULL, t.typname::text, NULL, t.typowner, t.typacl,
                acldefault('T', t.typowner)
            FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
            WHERE t.typacl IS NOT NULL AND t.typtype IN ('e', 'd', 'c', 'r') AND coalesce(c.relkind, 'c') = 'c'
                AND \(terms.isWanted("n.nspname")) AND \(terms.isOwn("pg_type", "t.oid"))
            UNION ALL
            SELECT 'foreign server', NULL, NULL, s.srvname::text, NULL, s.srvowner, s.srvacl,
                acldefault('S', s.srvowner)
            FROM pg_foreign_server s WHERE s.srvacl IS NOT NULL AND \(terms.isOwn("pg_foreign_server", "s.oid"))
            UNION ALL
            SELECT 'foreign-data wrapper', NULL, NULL, w.fdwname::text, NULL, w.fdwowner, w.fdwacl,
                acldefault('F', w.fdwowner)
            FROM pg_foreign_data_wrapper w
            WHERE w.fdwacl IS NOT NULL AND \(terms.isOwn("pg_foreign_data_wrapper", "w.oid"))
            UNION ALL
            SELECT 'default privileges', n.nspname, NULL, \(defaultKind),
                coalesce(quote_ident(\(terms.owner("d.defaclrole"))), ''), d.defaclrole, d.defaclacl,
                CASE WHEN d.defaclnamespace = 0
                    THEN acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's'::"char" ELSE d.defaclobjtype END, d.defaclrole)
                    ELSE acldefault('c', d.defaclrole) END
            FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
            WHERE d.defaclnamespace = 0 OR \(terms.isWanted("n.nspname"))
        )
        SELECT o.kind, o.schema::text, o.parent::text, o.name, o.signature,
            \(grantee(terms)) AS grantee,
            p.privileges
        FROM objects o, LATERAL (
            SELECT coalesce(is_there.grantee, usual.grantee) AS grantee,
                coalesce(\(MaintainPrivilege.spelled("is_there.privileges", version: terms.version)), 'none') AS privileges
            FROM (\(grouped("o.acl"))) is_there
            FULL JOIN (\(grouped("o.standard"))) usual ON usual.grantee = is_there.grantee
            WHERE is_there.privileges IS DISTINCT FROM usual.privileges) p
        """
    }

    /// SQL for the name of a grantee `p.grantee` on an object with the owner `o.owner`.
    static func grantee(_ terms: QueryTerms) -> String {
        """
        CASE WHEN p.grantee = o.owner THEN '(owner)' WHEN p.grantee = 0 THEN 'public'
            WHEN pg_get_userbyid(p.grantee) = \(terms.owner) THEN '(migrator)'
            ELSE quote_ident(pg_get_userbyid(p.grantee)) END
        """
    }

    /// SQL for the privileges of each grantee in an access list. A privilege that several roles granted counts once.
    private static func grouped(_ acl: String) -> String {
        """
        SELECT one.grantee, string_agg(one.privilege, ', ' ORDER BY one.privilege COLLATE "C") AS privileges FROM (
            SELECT x.grantee, x.privilege_type || CASE WHEN bool_or(x.is_grantable) THEN '*' ELSE '' END AS privilege
            FROM aclexplode(\(acl)) x GROUP BY x.grantee, x.privilege_type) one
        GROUP BY one.grantee
        """
    }
}

/// Reads the privileges on members of extensions that differ from those that the extension gave them: `+EXECUTE` was
/// granted, `-EXECUTE` was revoked, also by ALTER DEFAULT PRIVILEGES when the extension was created.
enum MemberPrivilegeQuery {
    /// The catalogs with privileges, the prefix of their columns, the kind of object for `acldefault`, and the member
    /// in the syntax of GRANT.
    private static let members = [
        (
            "pg_class", "rel", "CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END",
            "CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || c.oid::regclass"
        ),
        (
            "pg_proc", "pro", "'f'",
            "CASE c.prokind WHEN 'p' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END || c.oid::regprocedure"
        ),
        ("pg_type", "typ", "'T'", "'TYPE ' || c.oid::regtype"),
        ("pg_namespace", "nsp", "'n'", "'SCHEMA ' || c.oid::regnamespace"),
        ("pg_language", "lan", "'l'", "'LANGUAGE ' || quote_ident(c.lanname)"),
        ("pg_foreign_data_wrapper", "fdw", "'F'", "'FOREIGN DATA WRAPPER ' || quote_ident(c.fdwname)"),
    ]

    static func sql(_ terms: QueryTerms) -> String {
        let objects = members.map { catalog, prefix, kind, name in
            """
            SELECT e.extname, \(name) AS member, c.\(prefix)owner AS owner, c.\(prefix)acl AS acl,
                coalesce(i.initprivs, acldefault((\(kind))::"char", c.\(prefix)owner)) AS initial
            FROM \(catalog) c
            JOIN pg_depend d ON d.classid = '\(catalog)'::regclass AND d.objid = c.oid AND d.objsubid = 0
                AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
            JOIN pg_extension e ON e.oid = d.refobjid AND e.extname <> 'plpgsql'
            LEFT JOIN pg_init_privs i ON i.classoid = d.classid AND i.objoid = c.oid AND i.objsubid = 0
            WHERE c.\(prefix)acl IS NOT NULL AND c.\(prefix)acl IS DISTINCT FROM i.initprivs
            """
        }
        let parts = "grantee, privilege_type, is_grantable"
        return """
            WITH objects AS (\(objects.joined(separator: "\nUNION ALL\n")))
            SELECT 'extension member' AS kind, NULL AS schema, NULL AS parent, o.extname::text, o.member,
                \(PrivilegeQuery.grantee(terms)) AS grantee,
                string_agg(p.privilege, ', ' ORDER BY p.privilege COLLATE "C")
            FROM objects o, LATERAL (
                SELECT grantee, sign || privilege_type || CASE WHEN is_grantable THEN '*' ELSE '' END AS privilege FROM (
                    SELECT '+' AS sign, now.* FROM (SELECT \(parts) FROM aclexplode(o.acl)
                        EXCEPT SELECT \(parts) FROM aclexplode(o.initial)) now
                    UNION ALL
                    SELECT '-', before.* FROM (SELECT \(parts) FROM aclexplode(o.initial)
                        EXCEPT SELECT \(parts) FROM aclexplode(o.acl)) before) changed) p
            GROUP BY 1, 2, 3, 4, 5, 6
            """
    }
}

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
            SELECT 'default privileges', n.nspname, NULL, \(defaultKind),
                coalesce(quote_ident(\(terms.owner("d.defaclrole"))), ''), d.defaclrole, d.defaclacl,
                CASE WHEN d.defaclnamespace = 0
                    THEN acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's'::"char" ELSE d.defaclobjtype END, d.defaclrole)
                    ELSE acldefault('c', d.defaclrole) END
            FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
            WHERE d.defaclnamespace = 0 OR \(terms.isWanted("n.nspname"))
        )
        SELECT o.kind, o.schema::text, o.parent::text, o.name, o.signature,
            CASE WHEN p.grantee = o.owner THEN '(owner)' WHEN p.grantee = 0 THEN 'public'
                WHEN pg_get_userbyid(p.grantee) = \(terms.owner) THEN '(migrator)'
                ELSE quote_ident(pg_get_userbyid(p.grantee)) END AS grantee,
            p.privileges
        FROM objects o, LATERAL (
            SELECT coalesce(is_there.grantee, usual.grantee) AS grantee,
                coalesce(is_there.privileges, 'none') AS privileges
            FROM (\(grouped("o.acl"))) is_there
            FULL JOIN (\(grouped("o.standard"))) usual ON usual.grantee = is_there.grantee
            WHERE is_there.privileges IS DISTINCT FROM usual.privileges) p
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

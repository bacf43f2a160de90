import Catalog
import Postgres
import SQL

/// The queries that read `DatabaseAttributes`. Each row has a kind, an object, a property and its value.
///
/// `pg_identify_object` names the objects. Its names do not depend on the session's search_path.
enum AttributeQuery {
    /// One class of objects.
    private struct Source {
        /// The kind, as an SQL expression.
        let kind: String
        /// The system catalog, its alias `x`, and joins.
        let from: String
        let catalog: String
        let condition: String
        /// The properties as SQL expressions of any type that has a text form.
        let properties: [(name: String, value: String)]
        /// The part of the object (a column's number).
        var part = "0"
        var oid = "x.oid"
    }

    /// SQL for the query of all attributes that every role may read.
    static func all(_ version: Int) -> String {
        (sources(version).map(select) + [largeObjects, labels, comments, roles]).joined(separator: "\nUNION ALL\n")
    }

    private static func select(_ source: Source) -> String {
        let rows = source.properties.map { "('\($0.name)', (\($0.value))::text)" }.joined(separator: ",\n    ")
        return """
            SELECT \(source.kind), i.identity, p.name, p.value FROM \(source.from),
                pg_identify_object('\(source.catalog)'::regclass, \(source.oid), \(source.part)) i,
                LATERAL (VALUES \(rows)) p (name, value)
            WHERE p.value IS NOT NULL AND i.identity IS NOT NULL AND \(source.condition)
                AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '\(source.catalog)'::regclass
                    AND e.objid = \(source.oid) AND e.deptype = 'e')
            """
    }

    private static func owner(_ column: String) -> (name: String, value: String) {
        ("owner", "pg_get_userbyid(\(column))")
    }

    /// The privileges in an access list. The grantor is left out, because it may be another role after a restore.
    private static func privileges(_ list: String, _ kind: String, _ owner: String) -> (name: String, value: String) {
        (
            "privileges",
            """
            SELECT string_agg(concat_ws(' ', CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END,
                a.privilege_type, CASE WHEN a.is_grantable THEN 'WITH GRANT OPTION' END), ', '
                ORDER BY pg_get_userbyid(a.grantee)::text COLLATE "C", a.privilege_type COLLATE "C")
            FROM aclexplode(coalesce(\(list), acldefault('\(kind)', \(owner)))) a
            """
        )
    }

    private static func isWanted(_ namespace: String) -> String {
        "EXISTS (SELECT FROM pg_namespace n WHERE n.oid = \(namespace) AND \(UserSchemas.condition("n.nspname")))"
    }

    /// The operators and support functions of an operator family, or those that belong to one operator class.
    private static func members(_ family: String, of operatorClass: String? = nil) -> [(name: String, value: String)] {
        func own(_ catalog: String) -> String {
            let member = "m.classid = '\(catalog)'::regclass AND m.objid = a.oid"
            let isMember = "SELECT FROM pg_depend m WHERE \(member) AND m.refclassid = 'pg_opclass'::regclass"
            return operatorClass.map { "EXISTS (\(isMember) AND m.refobjid = \($0) AND m.deptype = 'i')" }
                ?? "NOT EXISTS (\(isMember) AND m.deptype = 'i')"
        }
        return [
            (
                "operators",
                """
                SELECT string_agg(concat_ws(' ', a.amopstrategy, a.amopopr::regoperator, CASE a.amoppurpose WHEN 'o' THEN
                    'FOR ORDER BY ' || (SELECT i.identity FROM pg_identify_object('pg_opfamily'::regclass,
                        a.amopsortfamily, 0) i) END), ', ' ORDER BY a.amopstrategy, a.amopopr::regoperator::text COLLATE "C")
                FROM pg_amop a WHERE a.amopfamily = \(family) AND \(own("pg_amop"))
                """
            ),
            (
                "functions",
                """
                SELECT string_agg(concat_ws(' ', a.amprocnum, a.amproclefttype::regtype, a.amprocrighttype::regtype,
                    a.amproc::oid::regprocedure), ', ' ORDER BY a.amprocnum, a.amproclefttype::regtype::text COLLATE "C",
                    a.amprocrighttype::regtype::text COLLATE "C", a.amproc::oid::regprocedure::text COLLATE "C")
                FROM pg_amproc a WHERE a.amprocfamily = \(family) AND \(own("pg_amproc"))
                """
            ),
        ]
    }

    private static func sources(_ version: Int) -> [Source] { objects + types(version) + relations(version) }

    private static let objects: [Source] = [
        Source(
            kind: "'operator class'", from: "pg_opclass x", catalog: "pg_opclass",
            condition: isWanted("x.opcnamespace"),
            properties: [
                owner("x.opcowner"), ("type", "x.opcintype::regtype"), ("default", "nullif(x.opcdefault, false)"),
                ("storage", "nullif(x.opckeytype, 0)::regtype"),
                ("family", "SELECT f.identity FROM pg_identify_object('pg_opfamily'::regclass, x.opcfamily, 0) f"),
            ] + members("x.opcfamily", of: "x.oid")),
        Source(
            kind: "'operator family'", from: "pg_opfamily x", catalog: "pg_opfamily",
            condition: isWanted("x.opfnamespace"), properties: [owner("x.opfowner")] + members("x.oid")),
        Source(
            kind: "'conversion'", from: "pg_conversion x", catalog: "pg_conversion",
            condition: isWanted("x.connamespace"),
            properties: [
                owner("x.conowner"), ("from", "pg_encoding_to_char(x.conforencoding)"),
                ("to", "pg_encoding_to_char(x.contoencoding)"), ("function", "x.conproc::oid::regprocedure"),
                ("default", "nullif(x.condefault, false)"),
            ]),
        Source(
            kind: "'text search parser'", from: "pg_ts_parser x", catalog: "pg_ts_parser",
            condition: isWanted("x.prsnamespace"),
            properties: [
                ("start", "x.prsstart"), ("gettoken", "x.prstoken"), ("end", "x.prsend"),
                ("headline", "nullif(x.prsheadline::oid, 0)::regproc"), ("lextypes", "x.prslextype"),
            ]),
        Source(
            kind: "'text search template'", from: "pg_ts_template x", catalog: "pg_ts_template",
            condition: isWanted("x.tmplnamespace"),
            properties: [("init", "nullif(x.tmplinit::oid, 0)::regproc"), ("lexize", "x.tmpllexize")]),
        Source(
            kind: "'access method'", from: "pg_am x", catalog: "pg_am", condition: "x.oid >= 16384",
            properties: [("type", "x.amtype"), ("handler", "x.amhandler")]),
        Source(
            kind: "'language'", from: "pg_language x", catalog: "pg_language", condition: "x.oid >= 16384",
            properties: [
                owner("x.lanowner"), ("trusted", "x.lanpltrusted"), ("handler", "x.lanplcallfoid::regproc"),
                ("inline", "nullif(x.laninline, 0)::regproc"), ("validator", "nullif(x.lanvalidator, 0)::regproc"),
                privileges("x.lanacl", "l", "x.lanowner"),
            ]),
        Source(
            kind: "'transform'", from: "pg_transform x", catalog: "pg_transform", condition: "x.oid >= 16384",
            properties: [
                ("from", "nullif(x.trffromsql::oid, 0)::regprocedure"),
                ("to", "nullif(x.trftosql::oid, 0)::regprocedure"),
                ("type", "x.trftype::regtype"),
            ]),
    ]

    private static func types(_ version: Int) -> [Source] {
        let functions = ["input", "output", "receive", "send", "modin", "modout", "analyze"].map { name in
            (name: name, value: "nullif(x.typ\(name)::oid, 0)::regproc")
        }
        let subscripting = version >= 14 ? [("subscript", "nullif(x.typsubscript::oid, 0)::regproc")] : []
        return [
            Source(
                kind: "CASE WHEN x.typisdefined THEN 'base type' ELSE 'shell type' END", from: "pg_type x",
                catalog: "pg_type",
                // An array type belongs to its element type.
                condition: """
                    x.typtype IN ('b', 'p') AND \(isWanted("x.typnamespace"))
                        AND NOT EXISTS (SELECT FROM pg_type m WHERE m.typarray = x.oid)
                    """,
                properties: [owner("x.typowner"), privileges("x.typacl", "T", "x.typowner")] + functions + subscripting
                    + [
                        ("length", "x.typlen"), ("by value", "x.typbyval"), ("alignment", "x.typalign"),
                        ("storage", "x.typstorage"), ("category", "x.typcategory"), ("delimiter", "x.typdelim"),
                        ("preferred", "nullif(x.typispreferred, false)"), ("default", "x.typdefault"),
                        ("element", "nullif(x.typelem, 0)::regtype"),
                        ("collatable", "nullif(x.typcollation <> 0, false)"),
                    ])
        ]
    }

    /// Properties of relations that the catalog leaves out: those of materialized views, and those that a partition can
    /// have besides what it inherits.
    private static func relations(_ version: Int) -> [Source] {
        let target = { (column: String) in ("statistics target", "nullif(\(column).attstattarget, -1)") }
        let options = "array_to_string(ARRAY(SELECT o FROM unnest(c.reloptions) o ORDER BY 1), ', ')"
        let isPart = "EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid)"
        return [
            Source(
                kind: "'materialized view'", from: "pg_class x", catalog: "pg_class",
                condition: "x.relkind = 'm' AND \(isWanted("x.relnamespace"))",
                properties: [("populated", "x.relispopulated")]),
            Source(
                kind: "'column'", from: "pg_class c JOIN pg_attribute x ON x.attrelid = c.oid", catalog: "pg_class",
                condition: "c.relkind = 'm' AND x.attnum > 0 AND NOT x.attisdropped AND \(isWanted("c.relnamespace"))",
                properties: [
                    ("storage", "x.attstorage"), target("x"),
                    ("options", "nullif(array_to_string(x.attoptions, ', '), '')"),
                ] + (version >= 14 ? [("compression", "nullif(x.attcompression, '')")] : []),
                part: "x.attnum", oid: "c.oid"),
            Source(
                kind: "'index of a partition'", from: "pg_index x JOIN pg_class c ON c.oid = x.indexrelid",
                catalog: "pg_class", condition: "c.relispartition AND \(isWanted("c.relnamespace"))",
                properties: [
                    (
                        "partition of",
                        """
                        SELECT string_agg(h.inhparent::regclass::text, ', ' ORDER BY h.inhseqno) FROM pg_inherits h
                        WHERE h.inhrelid = c.oid
                        """
                    ), ("options", "nullif(\(options), '')"), ("clustered", "nullif(x.indisclustered, false)"),
                    ("valid", "x.indisvalid"),
                    ("tablespace", "SELECT t.spcname FROM pg_tablespace t WHERE t.oid = c.reltablespace"),
                ], oid: "x.indexrelid"),
            Source(
                kind: "'inherited constraint'",
                from: "pg_constraint x JOIN pg_class c ON c.oid = x.conrelid", catalog: "pg_constraint",
                condition: """
                    (x.conparentid <> 0 OR x.coninhcount > 0) AND x.contype IN ('c', 'p', 'u') AND \(isWanted("c.relnamespace"))
                    """,
                properties: [("definition", "pg_get_constraintdef(x.oid)")]),
            Source(
                kind: "'inherited trigger'", from: "pg_trigger x JOIN pg_class c ON c.oid = x.tgrelid",
                catalog: "pg_trigger",
                condition: "x.tgparentid <> 0 AND NOT x.tgisinternal AND \(isPart) AND \(isWanted("c.relnamespace"))",
                properties: [("enabled", "x.tgenabled")]),
        ]
    }

    /// The owners, privileges and comments of large objects. Databases may have millions of them, so there is one value
    /// for all large objects of an owner.
    private static let largeObjects = """
        SELECT 'large objects', 'owned by ' || pg_get_userbyid(x.lomowner), 'comments and privileges',
            count(*) || ' ' || mod(sum(hashtextextended(concat_ws(' ', x.oid, obj_description(x.oid, 'pg_largeobject'),
                (SELECT string_agg(concat_ws(' ', pg_get_userbyid(a.grantee), a.privilege_type, a.is_grantable), ','
                    ORDER BY pg_get_userbyid(a.grantee)::text COLLATE "C", a.privilege_type COLLATE "C")
                    FROM aclexplode(coalesce(x.lomacl, acldefault('L', x.lomowner))) a)) COLLATE "C", 0)),
                18446744073709551616)
        FROM pg_largeobject_metadata x GROUP BY x.lomowner
        """

    /// Security labels on objects of the database and on the database itself. Those of large objects have their names.
    private static let labels = """
        SELECT 'security label', l.objtype || ' ' || CASE WHEN l.objtype = 'database' THEN '' ELSE l.objname END,
            l.provider, l.label
        FROM pg_seclabels l
        WHERE l.objtype NOT IN ('role', 'tablespace')
            AND (l.objtype <> 'database' OR l.classoid = 'pg_database'::regclass AND l.objoid = (
                SELECT oid FROM pg_database WHERE datname = current_database()))
        """

    /// The comments that the catalog leaves out, except for those that pg_dump leaves out, too.
    private static let comments = """
        SELECT 'comment', i.type || ' ' || i.identity, 'text', d.description
        FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
        WHERE d.objoid >= 16384 AND i.identity IS NOT NULL AND (
            d.classoid::regclass::text = ANY (ARRAY['pg_opclass', 'pg_opfamily', 'pg_conversion', 'pg_ts_parser',
                'pg_ts_template', 'pg_am', 'pg_language', 'pg_transform', 'pg_extension'])
            OR d.classoid = 'pg_type'::regclass
                AND EXISTS (SELECT FROM pg_type t WHERE t.oid = d.objoid AND t.typtype IN ('b', 'p'))
            OR d.classoid = 'pg_class'::regclass AND EXISTS (
                SELECT FROM pg_class c WHERE c.oid = d.objoid AND c.relkind IN ('i', 'I')
                    AND (c.relispartition OR EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid)))
            OR d.classoid = 'pg_constraint'::regclass AND EXISTS (
                SELECT FROM pg_constraint k WHERE k.oid = d.objoid AND k.conislocal AND k.contype IN ('c', 'p', 'u')
                    AND (k.coninhcount > 0 OR k.conparentid <> 0)))
            -- A restored extension sets the comments of its members.
            AND NOT EXISTS (SELECT FROM pg_depend e
                WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e')
        """

    /// The comments of the roles that own objects or have privileges in the database. `DatabaseContent.roles` reads the
    /// other properties of roles.
    private static let roles = """
        SELECT 'role', r.rolname, 'comment', shobj_description(r.oid, 'pg_authid')
        FROM pg_roles r WHERE shobj_description(r.oid, 'pg_authid') IS NOT NULL AND r.rolname !~ '^pg_'
            AND EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid
                AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()))
        """

    /// SQL for the digest of a column of options, whose order means nothing.
    private static func digest(of column: String) -> String {
        "encode(sha256(convert_to(array_to_string(ARRAY(SELECT o FROM unnest(\(column)) o ORDER BY 1), chr(10)), 'UTF8')), "
            + "'hex')"
    }

    /// SQL for the attributes that only superusers may read. Options and connection strings may contain secrets, so
    /// their digests are read. A restored subscription is disabled, so that it does not take the changes meant for its
    /// source; its state is not read.
    static let secrets = """
        SELECT 'user mapping' AS kind, i.identity, 'digest of the options',
            \(digest(of: "u.umoptions"))
        FROM pg_user_mapping u, pg_identify_object('pg_user_mapping'::regclass, u.oid, 0) i
        UNION ALL
        SELECT 'foreign server', i.identity, 'digest of the options',
            \(digest(of: "s.srvoptions"))
        FROM pg_foreign_server s, pg_identify_object('pg_foreign_server'::regclass, s.oid, 0) i
        UNION ALL
        SELECT 'foreign-data wrapper', i.identity, 'digest of the options',
            \(digest(of: "w.fdwoptions"))
        FROM pg_foreign_data_wrapper w, pg_identify_object('pg_foreign_data_wrapper'::regclass, w.oid, 0) i
        UNION ALL
        SELECT 'foreign table', i.identity, 'digest of the options',
            \(digest(of: "t.ftoptions"))
        FROM pg_foreign_table t, pg_identify_object('pg_class'::regclass, t.ftrelid, 0) i
        UNION ALL
        SELECT 'column', i.identity, 'digest of the options',
            \(digest(of: "a.attfdwoptions"))
        FROM pg_attribute a, pg_identify_object('pg_class'::regclass, a.attrelid, a.attnum) i
        WHERE a.attfdwoptions IS NOT NULL
        UNION ALL
        SELECT 'subscription', quote_ident(s.subname), p.key, p.value
        FROM pg_subscription s, jsonb_each_text(to_jsonb(s) - ARRAY['oid', 'subdbid', 'subowner', 'subname', 'subenabled',
            'subskiplsn', 'subconninfo', 'subtwophasestate'] || jsonb_build_object('owner', pg_get_userbyid(s.subowner),
            'comment', obj_description(s.oid, 'pg_subscription'), 'digest of the connection',
            encode(sha256(convert_to(s.subconninfo, 'UTF8')), 'hex'))) p
        WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND p.value IS NOT NULL
        """
}

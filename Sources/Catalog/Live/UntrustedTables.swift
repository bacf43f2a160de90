import Postgres

/// Tables that a role with far-reaching privileges does not try, because a trial would run code that was written by
/// roles that are not trusted.
///
/// A list of risky expressions would never be complete. It could miss, for example, default arguments of functions,
/// operators that become the negator of another operator, and types that are named by OID when an expression is
/// evaluated. Even if a function runs with the privileges of its owner, its arguments are evaluated with the privileges
/// of the session, and the function can change settings of the session. Therefore the check does not look at
/// expressions, but at the roles that wrote them. A table is tried only if superusers, the current role or trusted
/// roles wrote the table and all objects that the table uses.
struct UntrustedTables {
    /// Tables into which no rows are inserted, with the reasons. They are the tables of untrusted roles, the tables
    /// that use objects of untrusted roles, and the tables that share rows with such a table or are connected with it
    /// by a foreign key.
    private(set) var reasons: [ObjectIdentity: String] = [:]
    /// The tables of `reasons` that are not read either. Even planning a query evaluates constant expressions in the
    /// table's indexes.
    private(set) var unread: Set<ObjectIdentity> = []

    /// Checks all tables of the database. Must be called after the catalog was read, so that every table that is tried
    /// was checked.
    ///
    /// - Parameter trusted: roles whose code may run with the privileges of the current role.
    /// - Throws: `PostgresError`.
    init(trusting trusted: [String], on connection: isolated Connection) throws {
        guard try Self.isPrivileged(on: connection) else { return }
        var found: [Int: Finding] = [:]
        for row in try connection.query(Self.untrusted, [trusted]) {
            let table: Int = try row.get(0)
            let (what, role): (String?, String) = (try row.get(1), try row.get(2))
            found[table] = Finding(table: table, what: what, role: role)
        }
        if found.isEmpty { return }
        var identities: [Int: ObjectIdentity] = [:]
        for row in try connection.query(Self.tables) {
            identities[try row.get(0)] = ObjectIdentity(.table, schema: try row.get(1), try row.get(2))
        }
        let (shared, joined) = try Self.links(on: connection)
        Self.spread(&found, along: shared)
        unread = Set(found.keys.compactMap { identities[$0] })
        for (table, finding) in found {
            for neighbour in joined[table] ?? [] where found[neighbour] == nil { found[neighbour] = finding }
        }
        // The foreign keys of a partition also apply to rows that are inserted into its parent, so the findings spread
        // once more.
        Self.spread(&found, along: shared)
        for (table, finding) in found {
            guard let identity = identities[table], let source = identities[finding.table] else { continue }
            reasons[identity] = finding.text(source == identity ? nil : source)
        }
    }

    private struct Finding {
        /// The table that was found to be untrusted.
        let table: Int
        /// The object that the table uses; nil if the table itself belongs to the role.
        let what: String?
        let role: String

        /// - Parameter source: the untrusted table, if the text is about another table that is connected with it.
        func text(_ source: ObjectIdentity?) -> String {
            let subject = source.map { "it is connected with the table \($0), which" } ?? "it"
            let predicate = what.map { "uses the \($0) of" } ?? "belongs to"
            return
                "\(subject) \(predicate) the role '\(role)', which is not trusted; connect as that role, or trust it "
                + "with --trust \(role) or the setting trusted_roles"
        }
    }

    private static func spread(_ found: inout [Int: Finding], along links: [Int: [Int]]) {
        var waiting = Array(found)
        while let (table, finding) = waiting.popLast() {
            for other in links[table] ?? [] where found[other] == nil {
                found[other] = finding
                waiting.append((other, finding))
            }
        }
    }

    /// Returns, for each table, the tables that it is connected with. `shared` contains connections by inheritance,
    /// partitioning and rules (including views); `joined` contains connections by foreign keys.
    private static func links(
        on connection: isolated Connection
    ) throws -> (shared: [Int: [Int]], joined: [Int: [Int]]) {
        var shared: [Int: [Int]] = [:]
        var joined: [Int: [Int]] = [:]
        for row in try connection.query(Self.links) {
            let (from, to): (Int, Int) = (try row.get(0), try row.get(1))
            if try row.get(2) { joined[from, default: []].append(to) } else { shared[from, default: []].append(to) }
        }
        return (shared, joined)
    }

    // MARK: Queries

    /// Returns whether the current role has privileges that other roles could try to exploit.
    private static func isPrivileged(on connection: isolated Connection) throws -> Bool {
        try connection.query(
            """
            SELECT r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolreplication OR EXISTS (
                -- The roles that PostgreSQL brings; whoever owns the database is in one by that alone.
                SELECT FROM pg_catalog.pg_roles p WHERE p.oid < 16384 AND p.rolname <> 'pg_database_owner'
                    AND pg_catalog.pg_has_role(r.oid, p.oid, 'MEMBER'))
            FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
            """
        ).first?.get(0) ?? false
    }

    private static let tables = """
        SELECT c.oid::pg_catalog.int8, n.nspname::pg_catalog.text, c.relname::pg_catalog.text
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm')
        """

    private static let links = """
        SELECT i.inhrelid::pg_catalog.int8, i.inhparent::pg_catalog.int8, false FROM pg_catalog.pg_inherits i
        UNION SELECT i.inhparent::pg_catalog.int8, i.inhrelid::pg_catalog.int8, false FROM pg_catalog.pg_inherits i
        UNION SELECT d.refobjid::pg_catalog.int8, w.ev_class::pg_catalog.int8, false
        FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_depend d ON d.objid = w.oid
        WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        UNION SELECT k.conrelid::pg_catalog.int8, k.confrelid::pg_catalog.int8, true
        FROM pg_catalog.pg_constraint k WHERE k.contype = 'f'
        UNION SELECT k.confrelid::pg_catalog.int8, k.conrelid::pg_catalog.int8, true
        FROM pg_catalog.pg_constraint k WHERE k.contype = 'f'
        """

    /// A query for the untrusted tables: the OID of the table, the untrusted object that the table uses (NULL if it is
    /// the table itself), and the untrusted role that owns or wrote that object. PostgreSQL's built-in objects are not
    /// in `pg_depend`, and need no check, because they belong to a superuser.
    ///
    /// All objects in a schema count as untrusted if an untrusted role owns the schema, may create objects in it, or
    /// owns functions or operators in it. The text of a default or a check is parsed again during a trial, and the role
    /// could have created functions or operators that match the text better.
    private static let untrusted = """
        WITH RECURSIVE untrusted AS MATERIALIZED (
            SELECT r.oid FROM pg_catalog.pg_roles r
            WHERE NOT r.rolsuper AND r.rolname <> current_user AND r.rolname <> ALL ($1::pg_catalog.text[])),
        theirs AS MATERIALIZED (
            SELECT s.classid, s.objid, s.refobjid AS role FROM pg_catalog.pg_shdepend s
            WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.deptype = 'o'
                AND s.refobjid IN (SELECT u.oid FROM untrusted u)
                AND s.dbid = (
                    SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database())
                -- An extension's objects have owners of their own.
                AND s.classid NOT IN (
                    'pg_catalog.pg_namespace'::pg_catalog.regclass, 'pg_catalog.pg_extension'::pg_catalog.regclass,
                    'pg_catalog.pg_largeobject'::pg_catalog.regclass)
            UNION ALL SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, n.oid, min(r.oid)
            FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL \(SystemPath.whoseCodeIsFound)
            WHERE \(UserSchemas.condition("n.nspname")) AND r.oid IN (SELECT u.oid FROM untrusted u) GROUP BY n.oid),
        uses AS MATERIALIZED (
            SELECT d.classid, d.objid, d.refclassid, d.refobjid FROM pg_catalog.pg_depend d WHERE d.deptype <> 'e'
            -- An operator may be planned as its negator or commutator.
            UNION SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass, o.oid,
                'pg_catalog.pg_operator'::pg_catalog.regclass, x.oid
            FROM pg_catalog.pg_operator o, LATERAL (VALUES (o.oprcom), (o.oprnegate)) AS x (oid) WHERE x.oid <> 0
            UNION SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid,
                'pg_catalog.pg_class'::pg_catalog.regclass, t.typrelid
            FROM pg_catalog.pg_type t WHERE t.typrelid <> 0
            UNION SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, k.contypid,
                'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid
            FROM pg_catalog.pg_constraint k WHERE k.contypid <> 0
            -- Whoever owns a type makes casts between it and another one, which is not changed by that.
            UNION SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, x.oid,
                'pg_catalog.pg_proc'::pg_catalog.regclass, a.castfunc
            FROM pg_catalog.pg_cast a, LATERAL (VALUES (a.castsource), (a.casttarget)) AS x (oid)
            WHERE a.castfunc <> 0 AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_type t JOIN untrusted u ON u.oid = t.typowner
                WHERE t.oid IN (a.castsource, a.casttarget))
            UNION SELECT 'pg_catalog.pg_opfamily'::pg_catalog.regclass, m.amprocfamily,
                'pg_catalog.pg_proc'::pg_catalog.regclass, m.amproc::pg_catalog.oid
            FROM pg_catalog.pg_amproc m
            UNION SELECT 'pg_catalog.pg_opfamily'::pg_catalog.regclass, m.amopfamily,
                'pg_catalog.pg_operator'::pg_catalog.regclass, m.amopopr
            FROM pg_catalog.pg_amop m
            UNION SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, x.oid,
                'pg_catalog.pg_operator'::pg_catalog.regclass, o.oid
            FROM pg_catalog.pg_constraint k, LATERAL (VALUES (k.conrelid), (k.confrelid)) AS x (oid),
                pg_catalog.unnest(k.conpfeqop || k.conppeqop || k.conffeqop) AS o (oid)
            WHERE k.contype = 'f'),
        written AS (
            -- Nobody is recorded as a trigger's maker: its arguments are by whoever may make one.
            SELECT DISTINCT ON (g.oid) 'pg_catalog.pg_trigger'::pg_catalog.regclass AS classid, g.oid AS objid, r.oid AS role
            FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
                CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
                JOIN pg_catalog.pg_roles r ON r.oid = a.grantee OR a.grantee = 0 AND r.oid >= 16384
                JOIN untrusted u ON u.oid = r.oid
            WHERE NOT g.tgisinternal AND g.tgnargs > 0 AND a.privilege_type = 'TRIGGER' ORDER BY g.oid, r.oid),
        tainted AS (
            SELECT t.classid, t.objid, t.classid AS class, t.objid AS id, t.role
            FROM (TABLE theirs UNION ALL TABLE written) t
            UNION SELECT u.classid, u.objid, t.class, t.id, t.role
            FROM tainted t JOIN uses u ON u.refclassid = t.classid AND u.refobjid = t.objid),
        parts AS (
            SELECT 'pg_catalog.pg_class'::pg_catalog.regclass AS class, c.oid AS id, c.oid AS relation
            FROM pg_catalog.pg_class c
            UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid, i.indrelid
            FROM pg_catalog.pg_index i
            -- A foreign key is tainted by the other table: that is a matter of its own.
            UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, k.conrelid
            FROM pg_catalog.pg_constraint k WHERE k.contype <> 'f'
            UNION ALL SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, d.oid, d.adrelid
            FROM pg_catalog.pg_attrdef d
            UNION ALL SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass, g.oid, g.tgrelid
            FROM pg_catalog.pg_trigger g WHERE NOT (g.tgisinternal AND g.tgconstraint <> 0)
            UNION ALL SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, w.oid, w.ev_class
            FROM pg_catalog.pg_rewrite w
            UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, x.oid, x.stxrelid
            FROM pg_catalog.pg_statistic_ext x
            UNION ALL SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid, p.polrelid
            FROM pg_catalog.pg_policy p WHERE NOT EXISTS (
                SELECT FROM pg_catalog.pg_roles r
                WHERE r.rolname = current_user AND (r.rolsuper OR r.rolbypassrls)))
        SELECT DISTINCT ON (c.oid) c.oid::pg_catalog.int8,
            CASE WHEN t.id <> c.oid OR t.class <> 'pg_catalog.pg_class'::pg_catalog.regclass
                THEN pg_catalog.pg_describe_object(t.class, t.id, 0) END,
            r.rolname::pg_catalog.text
        FROM tainted t JOIN parts p ON p.class = t.classid AND p.id = t.objid
            JOIN pg_catalog.pg_class c ON c.oid = p.relation JOIN pg_catalog.pg_roles r ON r.oid = t.role
        WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm')
        ORDER BY c.oid, t.id = c.oid DESC, t.class = 'pg_catalog.pg_namespace'::pg_catalog.regclass, t.class, t.id
        """
}

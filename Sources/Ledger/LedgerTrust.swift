import Foundation
import Postgres

/// Checks whether an existing schema `reeve` is Reeve's own. A role that owns the schema, or that can add a function,
/// trigger or rule to it, could otherwise run its own code with the rights of any role that uses the ledger.
///
/// The schema is used only if three conditions are true: the schema and everything in it belong to the current role, to
/// `reeve_owner` or to a superuser; no other role may create objects in it, or triggers on its tables; and every table,
/// function and trigger is one that this program creates.
enum LedgerTrust {
    /// Checks that the schema contains only Reeve's own objects, and that the connected role may trust their owner.
    ///
    /// - Throws: `LedgerError.ofOther` if all of them belong to one other role; `.foreign`; `PostgresError`.
    static func check(on connection: isolated Connection) throws {
        let found = try foreign(on: connection)
        if found.isEmpty { return }
        let owners = Set(found.map { $0.owner.map { Array($0.utf8) } })
        guard owners.count == 1, let owner = found[0].owner, found.count > 1, found.allSatisfy(\.isOfLedger) else {
            throw LedgerError.foreign(found.map(\.text))
        }
        let role: String = try connection.query("SELECT current_user::text").first?.get(0) ?? ""
        throw LedgerError.ofOther(owner: owner, role: role)
    }

    private struct Foreign {
        let text: String
        /// The owner, if that is why the object is foreign.
        let owner: String?
        /// Whether the object is otherwise one of the ledger's.
        let isOfLedger: Bool
    }

    /// Returns the objects in the schema that are not Reeve's own.
    ///
    /// - Throws: `PostgresError`.
    private static func foreign(on connection: isolated Connection) throws -> [Foreign] {
        let made = Made(LedgerSchema.changes + LedgerPart.all.flatMap(\.changes))
        var foreign: [Foreign] = []
        for row in try connection.query(keepingPlan: query) {
            let (kind, name): (String, String) = (try row.get("kind"), try row.get("name"))
            let isOfLedger = made.has(kind, name, try row.get("definition"))
            if try !row.get("is_trusted", as: Bool.self) {
                let owner: String = try row.get("owner")
                foreign.append(
                    Foreign(text: "\(kind) \(name) belongs to \(owner)", owner: owner, isOfLedger: isOfLedger))
            } else if !isOfLedger {
                let text = kind == "privilege" ? name : "\(kind) \(name) is not part of the ledger"
                foreign.append(Foreign(text: text, owner: nil, isOfLedger: false))
            }
        }
        return foreign
    }

    /// The objects that the ledger's own changes create. They are compared by bytes, because two Strings with different
    /// bytes can be equal.
    private struct Made {
        private let changes: [Data]
        /// The `CREATE TRIGGER` statements, with one space between words.
        private let triggers: [Data]

        init(_ changes: [String]) {
            self.changes = changes.map { Data($0.utf8) }
            triggers = changes.filter { $0.contains("CREATE TRIGGER") }.flatMap { $0.split(separator: ";") }.map {
                Data($0.split(whereSeparator: \.isWhitespace).joined(separator: " ").utf8)
            }
        }

        func has(_ kind: String, _ name: String, _ definition: String) -> Bool {
            switch kind {
            case "schema": return true
            case "table": return changes.contains { Self.holds($0, "CREATE TABLE reeve.\(name) (") }
            case "function":
                // The name and the exact body must match. `definition` is the name, U+0001 and the body.
                let halves = definition.split(separator: "\u{1}", maxSplits: 1, omittingEmptySubsequences: false)
                guard halves.count == 2 else { return false }
                return changes.contains {
                    Self.holds($0, "FUNCTION reeve.\(halves[0])(") && Self.holds($0, "$$\(halves[1])$$")
                }
            case "trigger":
                return triggers.contains { Self.holds($0, "CREATE TRIGGER \(name) ") && Self.holds($0, definition) }
            default: return false
            }
        }

        private static func holds(_ text: Data, _ part: String) -> Bool {
            text.range(of: Data(part.utf8)) != nil
        }
    }

    /// The query for the objects of the schema: kind, name, owner, whether the owner is trusted, and the definition to
    /// compare.
    private static let query = """
        WITH trusted AS (
            SELECT r.oid FROM pg_catalog.pg_roles r
            WHERE r.rolsuper OR r.rolname = current_user OR r.rolname = 'reeve_owner' AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles o ON o.oid = m.member
                WHERE m.roleid = r.oid AND NOT o.rolsuper AND o.rolname <> current_user)
        ), home AS (
            SELECT oid, nspowner, nspacl FROM pg_catalog.pg_namespace WHERE nspname = 'reeve'
        ), relations AS (
            SELECT c.* FROM pg_catalog.pg_class c JOIN home h ON h.oid = c.relnamespace
        ), functions AS (
            SELECT p.* FROM pg_catalog.pg_proc p JOIN home h ON h.oid = p.pronamespace
        ), found (kind, name, owner, definition) AS (
            SELECT 'schema', 'reeve', nspowner, '' FROM home
            UNION ALL
            SELECT 'privilege', 'others than its owner may create objects in the schema', nspowner, ''
            FROM home WHERE EXISTS (
                SELECT FROM pg_catalog.aclexplode(nspacl) a
                WHERE a.privilege_type = 'CREATE' AND a.grantee NOT IN (SELECT oid FROM trusted))
            UNION ALL
            -- A role with TRIGGER could run code with the rights of the roles that write to the ledger; with the others,
            -- it could make writes fail.
            SELECT 'privilege', pg_catalog.format(
                '%1$s has %2$s on %3$s of the schema (REVOKE %2$s ON ALL %3$s IN SCHEMA reeve FROM %1$s)',
                CASE g.grantee WHEN 0 THEN 'PUBLIC'
                    ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)::pg_catalog.text) END,
                g.privileges, g.objects), h.nspowner, ''
            FROM home h, (
                SELECT a.grantee, CASE c.relkind WHEN 'S' THEN 'SEQUENCES' ELSE 'TABLES' END,
                    pg_catalog.string_agg(DISTINCT a.privilege_type, ', ')
                FROM relations c, pg_catalog.aclexplode(c.relacl) a
                WHERE a.grantee NOT IN (SELECT oid FROM trusted) AND CASE c.relkind
                    WHEN 'S' THEN a.privilege_type = 'UPDATE' ELSE a.privilege_type IN ('TRIGGER', 'REFERENCES') END
                GROUP BY 1, 2) AS g (grantee, objects, privileges)
            UNION ALL
            SELECT CASE WHEN relkind IN ('r', 'S') AND NOT relrowsecurity AND NOT relispartition THEN 'table'
                    WHEN relkind = 'v' THEN 'view' WHEN relkind = 'r' THEN 'changed table' ELSE 'relation' END,
                relname, relowner, ''
            FROM relations c WHERE relkind NOT IN ('i', 'I', 't', 'S')
            UNION ALL
            SELECT 'sequence', relname, relowner, '' FROM relations c WHERE relkind = 'S' AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                    AND d.objid = c.oid AND d.deptype = 'i')
            UNION ALL
            SELECT CASE WHEN NOT p.prosecdef AND l.lanname = 'plpgsql'
                    AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp'] THEN 'function' ELSE 'changed function' END,
                p.oid::pg_catalog.regprocedure::pg_catalog.text, p.proowner,
                p.proname::pg_catalog.text || pg_catalog.chr(1) || p.prosrc
            FROM functions p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
            UNION ALL
            SELECT 'trigger', t.tgname, c.relowner,
                'ON reeve.' || c.relname::pg_catalog.text || ' FOR EACH '
                    || CASE WHEN t.tgtype::integer & 1 = 1 THEN 'ROW' ELSE 'STATEMENT' END
                    || ' EXECUTE FUNCTION ' || n.nspname::pg_catalog.text || '.' || p.proname::pg_catalog.text || '()'
            FROM pg_catalog.pg_trigger t JOIN relations c ON c.oid = t.tgrelid
                JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
            WHERE NOT t.tgisinternal
            UNION ALL
            SELECT 'rule', r.rulename, c.relowner, ''
            FROM pg_catalog.pg_rewrite r JOIN relations c ON c.oid = r.ev_class
            UNION ALL
            SELECT 'policy', p.polname, c.relowner, ''
            FROM pg_catalog.pg_policy p JOIN relations c ON c.oid = p.polrelid
            UNION ALL
            SELECT 'foreign key', k.conname, c.relowner, '' FROM pg_catalog.pg_constraint k
                JOIN relations c ON c.oid = k.confrelid
            WHERE k.contype = 'f' AND k.conrelid NOT IN (SELECT oid FROM relations)
            UNION ALL
            SELECT 'child of', p.relname, c.relowner, '' FROM pg_catalog.pg_inherits i
                JOIN relations p ON p.oid = i.inhparent JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
            WHERE p.relkind = 'r'
            UNION ALL
            SELECT 'type', t.typname, t.typowner, '' FROM pg_catalog.pg_type t JOIN home h ON h.oid = t.typnamespace
            WHERE t.typtype <> 'c' AND NOT (t.typtype = 'b' AND t.typelem IN (SELECT reltype FROM relations))
            UNION ALL
            -- What defaults, checks and indexes of the ledger call that PostgreSQL does not bring. What others' objects
            -- need of the ledger is no code in it.
            SELECT 'code', pg_catalog.pg_describe_object(d.refclassid, d.refobjid, 0), o.relowner, ''
            FROM (
                SELECT 'pg_catalog.pg_class'::pg_catalog.regclass AS classid, c.oid AS objid, c.relowner FROM relations c
                UNION ALL SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, f.oid, c.relowner
                FROM pg_catalog.pg_attrdef f JOIN relations c ON c.oid = f.adrelid
                UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, c.relowner
                FROM pg_catalog.pg_constraint k JOIN relations c ON c.oid = k.conrelid) o
                JOIN pg_catalog.pg_depend d ON d.classid = o.classid AND d.objid = o.objid
            WHERE d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass,
                    'pg_catalog.pg_operator'::pg_catalog.regclass, 'pg_catalog.pg_opclass'::pg_catalog.regclass,
                    'pg_catalog.pg_type'::pg_catalog.regclass)
                AND d.refobjid >= 16384
            UNION ALL
            SELECT 'type of a column', c.relname::pg_catalog.text || '.' || a.attname::pg_catalog.text, c.relowner, ''
            FROM relations c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
                JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
            WHERE t.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace AND NOT a.attisdropped
            UNION ALL
            SELECT 'expression', c.relname, c.relowner, '' FROM relations c WHERE EXISTS (
                SELECT FROM (
                    SELECT k.conbin AS tree FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c'
                    UNION ALL SELECT f.adbin FROM pg_catalog.pg_attrdef f WHERE f.adrelid = c.oid
                    UNION ALL SELECT g.tgqual FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid) e
                WHERE \(RiskyExpression.isRisky("e.tree")))
            UNION ALL
            SELECT 'object', pg_catalog.pg_describe_object(d.classid, d.objid, 0), h.nspowner, ''
            FROM home h JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
                AND d.refobjid = h.oid
            WHERE d.classid NOT IN ('pg_catalog.pg_class'::pg_catalog.regclass,
                'pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass,
                'pg_catalog.pg_default_acl'::pg_catalog.regclass)
                -- A publication of the schema, which only a superuser makes, runs nothing here; nor do statistics of
                -- columns, which only their table's owner makes.
                AND d.classid IS DISTINCT FROM pg_catalog.to_regclass('pg_catalog.pg_publication_namespace')::pg_catalog.oid
                AND NOT (d.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AND EXISTS (
                    SELECT FROM pg_catalog.pg_statistic_ext s WHERE s.oid = d.objid
                        AND s.stxowner IN (SELECT oid FROM trusted)
                        AND pg_catalog.to_jsonb(s) OPERATOR(pg_catalog.->>) 'stxexprs' IS NULL))
        )
        SELECT f.kind, f.name::pg_catalog.text AS name, pg_catalog.pg_get_userbyid(f.owner)::pg_catalog.text AS owner,
            f.owner IN (SELECT oid FROM trusted) AS is_trusted, f.definition
        FROM found f ORDER BY 1, 2
        """
}

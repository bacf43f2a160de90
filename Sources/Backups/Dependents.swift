import Postgres
import SQL

/// The views, functions, rules and policies that depend on restored tables in the backup. DROP TABLE … CASCADE drops
/// them with the tables, and a restore of tables does not create them again.
struct Dependents: Sendable {
    private struct Object: Sendable {
        let type: String
        let identity: String
        /// The arguments of `pg_get_object_address`.
        let address: (names: [String], arguments: [String])
        /// The table of a rule or policy.
        let table: String?

        var description: String { "\(type) \(identity)" }
    }

    private let objects: [Object]

    /// - Parameter scratch: a server with all definitions of the backup.
    init(of tables: [FetchedTable], scratch: ConnectionSettings) async throws {
        objects = try await Connection.opened(scratch) { connection in
            try await connection.with { connection in
                try connection.query(Self.query, [tables.map(\.path)]).map { row in
                    Object(
                        type: try row.get(0), identity: try row.get(1),
                        address: (try row.get(2, as: [String].self), try row.get(3, as: [String].self)),
                        table: try row.get(4, as: String?.self))
                }
            }
        }
    }

    /// Follows the dependencies from tables to their row types, views and functions. A view depends on a table by its
    /// rule. The policies and rules of the tables themselves are restored with the tables.
    private static let query = """
        WITH RECURSIVE edges (classid, objid, refclassid, refobjid) AS (
            SELECT d.classid, d.objid, d.refclassid, d.refobjid FROM pg_depend d
                WHERE d.classid IN ('pg_proc'::regclass, 'pg_policy'::regclass, 'pg_rewrite'::regclass)
            UNION ALL SELECT 'pg_class'::regclass, r.ev_class, 'pg_rewrite'::regclass, r.oid FROM pg_rewrite r
                JOIN pg_class c ON c.oid = r.ev_class AND c.relkind IN ('v', 'm')
            UNION ALL SELECT 'pg_type'::regclass, t.oid, 'pg_class'::regclass, t.typrelid FROM pg_type t
                WHERE t.typrelid <> 0
            UNION ALL SELECT 'pg_type'::regclass, t.typarray, 'pg_type'::regclass, t.oid FROM pg_type t
                WHERE t.typrelid <> 0 AND t.typarray <> 0),
        restored (id) AS (SELECT to_regclass(p)::oid FROM unnest($1::text[]) p),
        found (classid, objid) AS (
            SELECT 'pg_class'::regclass::oid, id FROM restored
            UNION SELECT e.classid, e.objid FROM found f JOIN edges e ON (e.refclassid, e.refobjid) = (f.classid, f.objid)),
        wanted AS (
            SELECT f.*, c.oid::regclass::text AS owner FROM found f
                LEFT JOIN pg_policy p ON f.classid = 'pg_policy'::regclass AND p.oid = f.objid
                LEFT JOIN pg_rewrite r ON f.classid = 'pg_rewrite'::regclass AND r.oid = f.objid
                LEFT JOIN pg_class c ON c.oid = coalesce(p.polrelid, r.ev_class)
                WHERE f.classid <> 'pg_type'::regclass AND (c.oid IS NULL OR c.relkind NOT IN ('v', 'm'))
                    AND NOT EXISTS (SELECT FROM restored x
                        WHERE x.id = c.oid OR f.classid = 'pg_class'::regclass AND x.id = f.objid))
        SELECT i.type, i.identity, a.object_names, a.object_args, w.owner
        FROM wanted w CROSS JOIN pg_identify_object(w.classid, w.objid, 0) i
            CROSS JOIN pg_identify_object_as_address(w.classid, w.objid, 0) a ORDER BY 1, 2
        """

    /// Describes the objects that are missing in the target. Rules and policies count only if their table is there.
    func missing(in target: ConnectionSettings) async throws -> [String] {
        if objects.isEmpty { return [] }
        return try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                try objects.filter { try !Self.isThere($0, on: connection) }.map(\.description)
            }
        }
    }

    private static func isThere(_ object: Object, on connection: isolated Connection) throws -> Bool {
        if let table = object.table,
            try connection.query("SELECT WHERE to_regclass($1) IS NOT NULL", [table]).isEmpty
        {
            return true
        }
        do {
            _ = try connection.query(
                "SELECT pg_get_object_address($1, $2::text[], $3::text[])",
                [object.type, object.address.names, object.address.arguments])
            return true
        } catch let error as PostgresError where error.kind == .server && !error.isOutage {
            return false
        }
    }
}

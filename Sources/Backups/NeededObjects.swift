import Foundation
import Postgres
import Processes
import SQL

/// The objects that restored tables need, and that a target lacks: types, domains, functions, sequences and the like.
///
/// pg_dump with `--table` leaves them out. Those that belong to nothing else are created with the tables, from a dump
/// of the scratch server. For tables, views, extensions and languages, the restore is refused.
struct NeededObjects: Sendable {
    /// The objects that are created.
    let objects: Set<DatabaseObject>
    /// Descriptions of these objects.
    let names: [String]
    /// The schemas of these objects, and of the functions and types that their definitions use.
    let schemas: [String]
    /// The statements that set the sequences among the objects.
    let values: [String]

    /// Finds the objects in the scratch server.
    ///
    /// - Parameters:
    ///   - tables: the tables, under their names in the scratch server.
    ///   - whole: the schemas that are restored with all of their objects.
    /// - Throws: `BackupError.needed` if the target lacks objects that are not created with tables; `.targetLacks` for
    ///   their roles; `PostgresError`.
    init(
        of tables: [FetchedTable], besides whole: [String], scratch: ConnectionSettings, target: ConnectionSettings
    ) async throws {
        let found = try await Connection.opened(scratch) { connection in
            try await connection.with { connection in
                try connection.query(Self.query, [tables.map(\.schema), tables.map(\.name), whole]).map(Candidate.init)
            }
        }
        let lacking = try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                try found.filter { try !$0.isMember && $0.isMissing(on: connection) }
            }
        }
        let impossible = lacking.filter { !$0.isCreatable }
        if !impossible.isEmpty { throw BackupError.needed(impossible.map(\.description)) }
        let roles: [String] = try await Connection.opened(scratch) { connection in
            try await connection.with { connection in
                try connection.query(
                    """
                    SELECT DISTINCT r.rolname::text FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
                        JOIN unnest($1::int8[], $2::int8[]) AS w (catalog, id) ON d.classid = w.catalog AND d.objid = w.id
                    WHERE d.refclassid = 'pg_authid'::regclass
                        AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                    """, [lacking.map { "\($0.object.catalog)" }, lacking.map { "\($0.object.id)" }]
                ).map { try $0.get(0) }
            }
        }
        try await DeliveryCheck.require(roles: roles, in: target.restoring)
        objects = Set(lacking.map(\.object))
        names = lacking.map(\.description)
        // If nothing is created, the definitions use only what the tables use themselves.
        schemas = lacking.isEmpty ? [] : Set(found.compactMap(\.schema).map(ExactText.init)).map(\.text).sorted()
        values = lacking.compactMap(\.value)
    }

    /// An object that the tables need.
    private struct Candidate: Sendable {
        let object: DatabaseObject
        /// The type, names and arguments of the object, for `pg_get_object_address`.
        let type: String
        let names: [String]
        let arguments: [String]
        let description: String
        let schema: String?
        let isCreatable: Bool
        /// For a sequence, the statement that sets it.
        let value: String?
        /// Whether the object comes with an extension, which is another candidate.
        let isMember: Bool

        init(_ row: Row) throws {
            object = DatabaseObject(catalog: try row.get(0), id: try row.get(1))
            (type, names, arguments) = (try row.get(2), try row.get(3), try row.get(4))
            (description, schema, isCreatable) = (try row.get(5), try row.get(6), try row.get(7))
            (value, isMember) = (try row.get(8), try row.get(9))
        }

        func isMissing(on connection: isolated Connection) throws -> Bool {
            do {
                _ = try connection.query(
                    "SELECT pg_get_object_address($1, $2::text[], $3::text[])", [type, names, arguments])
                return false
            } catch let error as PostgresError
                where ["42", "3F"].contains(error.sqlState?.prefix(2) ?? "")
            {
                return true
            }
        }
    }

    /// The objects that the tables need. `own` are the tables and everything that is dumped with them. The rest of
    /// `reached` is needed: it is what the former refer to, directly or through other needed objects.
    ///
    /// Of other relations only the existence is required, so the search stops there. Foreign keys are created later,
    /// and left out if the target lacks the other table.
    private static let query = """
        WITH RECURSIVE chosen (classid, objid) AS (
            SELECT 'pg_class'::regclass::oid, c.oid FROM unnest($1::text[], $2::text[]) AS w (schema, name)
                JOIN pg_namespace n ON n.nspname = w.schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
        ), late (classid, objid) AS (
            SELECT 'pg_constraint'::regclass::oid, oid FROM pg_constraint WHERE contype = 'f'
            UNION ALL SELECT 'pg_trigger'::regclass::oid, oid FROM pg_trigger WHERE tgisinternal
        ), own (classid, objid) AS (
            SELECT * FROM chosen
            UNION
            SELECT d.classid, d.objid FROM own o JOIN pg_depend d ON d.refclassid = o.classid AND d.refobjid = o.objid
            WHERE d.deptype IN ('a', 'i', 'P', 'S') AND (d.classid, d.objid) NOT IN (SELECT * FROM late)
                AND d.classid IN ('pg_class'::regclass, 'pg_type'::regclass, 'pg_attrdef'::regclass,
                    'pg_constraint'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_rewrite'::regclass,
                    'pg_statistic_ext'::regclass)
                AND NOT EXISTS (SELECT FROM pg_class p WHERE d.classid = 'pg_class'::regclass AND p.oid = d.objid
                    AND p.relkind IN ('r', 'p', 'f'))
        ), reached (classid, objid) AS (
            SELECT * FROM own
            UNION
            SELECT x.classid, x.objid FROM reached r CROSS JOIN LATERAL (
                SELECT d.refclassid AS classid, d.refobjid AS objid FROM pg_depend d
                WHERE d.classid = r.classid AND d.objid = r.objid AND d.deptype <> 'x'
                UNION ALL
                -- The constraints of a domain, the columns of a composite type.
                SELECT d.classid, d.objid FROM pg_depend d
                WHERE r.classid = 'pg_type'::regclass AND d.refclassid = r.classid AND d.refobjid = r.objid
                    AND d.deptype IN ('a', 'i')
            ) x
            WHERE x.objid >= 16384 AND x.classid <> 'pg_namespace'::regclass
                AND (r.classid <> 'pg_class'::regclass OR (r.classid, r.objid) IN (SELECT * FROM own)
                    OR EXISTS (SELECT FROM pg_class c WHERE c.oid = r.objid AND c.relkind = 'c'))
                -- Members of an extension come with the extension.
                AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = r.classid AND e.objid = r.objid
                    AND e.deptype = 'e' AND (x.classid <> e.refclassid OR x.objid <> e.refobjid))
        ), needed AS (
            SELECT r.* FROM reached r WHERE (r.classid, r.objid) NOT IN (SELECT * FROM own)
                AND r.classid NOT IN ('pg_constraint'::regclass, 'pg_attrdef'::regclass, 'pg_trigger'::regclass,
                    'pg_rewrite'::regclass, 'pg_policy'::regclass)
                -- Such as array types and the row types of tables.
                AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = r.classid AND d.objid = r.objid
                    AND d.deptype = 'i')
        )
        SELECT n.classid::int8, n.objid::int8, a.type, a.object_names, a.object_args,
            pg_describe_object(n.classid, n.objid, 0), i.schema,
            coalesce(CASE n.classid
                WHEN 'pg_class'::regclass THEN (SELECT relkind = 'S' FROM pg_class WHERE oid = n.objid)
                WHEN 'pg_type'::regclass THEN (SELECT typtype IN ('e', 'd', 'c', 'r') FROM pg_type WHERE oid = n.objid)
                ELSE n.classid IN ('pg_proc'::regclass, 'pg_collation'::regclass, 'pg_operator'::regclass,
                    'pg_opclass'::regclass, 'pg_opfamily'::regclass, 'pg_ts_config'::regclass, 'pg_ts_dict'::regclass)
                END, false),
            (SELECT format('SELECT pg_catalog.setval(%L, %s, %L)', format('%I.%I', s.schemaname, s.sequencename),
                coalesce(s.last_value, s.start_value), s.last_value IS NOT NULL)
                FROM pg_sequences s JOIN pg_class c ON c.relname = s.sequencename
                JOIN pg_namespace m ON m.oid = c.relnamespace AND m.nspname = s.schemaname
                WHERE n.classid = 'pg_class'::regclass AND c.oid = n.objid),
            EXISTS (SELECT FROM pg_depend d WHERE d.classid = n.classid AND d.objid = n.objid AND d.deptype = 'e')
        FROM needed n CROSS JOIN LATERAL pg_identify_object_as_address(n.classid, n.objid, 0) a
            CROSS JOIN LATERAL pg_identify_object(n.classid, n.objid, 0) i
        WHERE i.schema IS NULL OR i.schema <> ALL ($3::text[])
        ORDER BY 6
        """

    /// Returns a script that creates the objects.
    ///
    /// - Throws: `BackupError.needed` if the dump lacks one of them; `PipelineError`.
    func script(_ reader: PartReader, _ tools: BackupTools, scratch: ConnectionSettings) async throws -> [UInt8] {
        if objects.isEmpty { return [] }
        let dump = try tools.command("pg_dump", ["-Fc", "-Z0", "--section=pre-data"], on: scratch)
        return try await reader.withFile(of: Pipeline([dump])) { path in
            let entries = try await reader.contents(of: path, tools).entries(of: objects)
            let found = Set(entries.entries.compactMap(\.object))
            guard objects.isSubset(of: found) else { throw BackupError.needed(names) }
            return try await reader.script(of: entries, at: path, tools) + values.flatMap { Array("\($0);\n".utf8) }
        }
    }
}

import Catalog
import Foundation
import Postgres
import Processes

/// Fetches some tables or schemas out of a backup, and reads only the parts that hold them.
///
/// They are put together in a scratch server first, with indexes, constraints, triggers, policies and grants, moved there
/// into another schema where that is wanted, and copied from it into the target in one transaction: all of it or nothing.
public struct PartialRestore: Sendable {
    public struct Selection: Sendable {
        /// As `schema.table` or, where only one schema has it, `table`; a partitioned table with all partitions.
        public var tables: [String] = []
        public var schemas: [String] = []
        /// Where they go; nil: where they were.
        public var intoSchema: String?

        public init() {}

        public var isEmpty: Bool { tables.isEmpty && schemas.isEmpty }
    }

    private let restorer: Restorer
    private let selection: Selection
    private let scratch: ScratchServer
    private var manifest: Manifest { restorer.manifest }

    /// - Parameters:
    ///   - folder: where the scratch cluster is made.
    ///   - beside: a server that lends a scratch database where no server programs are installed.
    public init(_ restorer: Restorer, _ selection: Selection, folder: String, beside: ConnectionSettings?) {
        self.restorer = restorer
        self.selection = selection
        scratch = ScratchServer(
            manifest: restorer.manifest, folder: folder, beside: beside, logger: restorer.logger)
    }

    /// A table that is fetched.
    struct Table: Sendable, Hashable {
        private let exactSchema: ExactText
        private let exactName: ExactText
        var schema: String { exactSchema.text }
        var name: String { exactName.text }

        init(schema: String, name: String) {
            (exactSchema, exactName) = (ExactText(schema), ExactText(name))
        }

        var path: String { ObjectIdentity(.table, schema: schema, name).path }
        var pattern: String { quotePattern(schema: schema, names: [name]) }
    }

    /// - Returns: what was left out, in words.
    /// - Throws: `BackupError.notInBackup`, `.targetHas`, `.targetLacks` before anything is written; `PipelineError`,
    ///   `PostgresError`, `StorageError`.
    public func restore(
        into target: ConnectionSettings, progress: @escaping Restorer.Progress = { _, _ in }
    ) async throws -> [String] {
        if !manifest.recipients.isEmpty, restorer.settings.identity == nil {
            throw BackupError.needsIdentity(id: manifest.id)
        }
        let tools = try await BackupTools.dumping(server: manifest.server)
        return try await scratch.with { place, isOwn in
            let wanted = manifest.parts.filter { ![.data, .largeObjects].contains($0.kind) }
            let reader = PartReader(restorer, parts: wanted, { _, _ in })
            if isOwn { try await restorer.makeRoles(place, reader) }
            let (moved, keys) = try await Confinement.during(in: place) { confinement in
                try await rebuild(in: place, reader, tools, progress)
            }
            try await check(moved, place, target)
            try await copy(moved, from: place, to: target, tools)
            return try await addKeys(keys, to: target)
        }
    }

    /// Puts the tables together in the scratch server.
    private func rebuild(
        in place: ConnectionSettings, _ reader: PartReader, _ tools: BackupTools,
        _ progress: @escaping Restorer.Progress
    ) async throws -> ([Table], ForeignKeys) {
        for part in manifest.parts where part.kind == .before { try await reader.restore(part, into: place, tools) }
        let tables = try await resolve(on: place)
        try await fetch(tables, into: place, tools, progress)
        for part in manifest.parts where part.kind == .sequences {
            try await reader.restore(part, into: place, tools)
        }
        let keys = try await restoreAfter(tables, into: place, reader, tools)
        if let mask = masking(for: tables) {
            try await Connection.opened(place) { connection in
                try await connection.with { try mask.apply(on: $0) }
            }
        }
        return (try await move(tables, in: place), keys)
    }

    // MARK: What is wanted

    private func resolve(on place: ConnectionSettings) async throws -> [Table] {
        let selection = selection
        return try await Connection.opened(place) { connection in
            try await connection.with { connection in
                var tables: Set<Table> = []
                for schema in selection.schemas {
                    let rows = try connection.query(
                        """
                        SELECT n.nspname::text, c.relname::text FROM pg_namespace n LEFT JOIN pg_class c
                            ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p') WHERE n.nspname = $1
                        """, [schema])
                    guard !rows.isEmpty else { throw BackupError.notInBackup("schema \(schema)") }
                    for row in rows {
                        if let name = try row.get(1, as: String?.self) {
                            tables.insert(Table(schema: schema, name: name))
                        }
                    }
                }
                for wanted in selection.tables { tables.formUnion(try Self.family(of: wanted, on: connection)) }
                return tables.sorted { ($0.schema, $0.name) < ($1.schema, $1.name) }
            }
        }
    }

    /// A table and its partitions.
    private static func family(of wanted: String, on connection: isolated Connection) throws -> [Table] {
        let rows = try connection.query(
            """
            WITH RECURSIVE found AS (
                SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                    AND ($1 IN (n.nspname || '.' || c.relname, format('%I.%I', n.nspname, c.relname))
                        OR $1 IN (c.relname::text, quote_ident(c.relname)))
            ), family AS (
                SELECT oid, oid AS top FROM found
                UNION SELECT i.inhrelid, f.top FROM family f JOIN pg_inherits i ON i.inhparent = f.oid
                    JOIN pg_class p ON p.oid = i.inhrelid AND p.relispartition
            )
            SELECT n.nspname::text, c.relname::text, (SELECT count(*) FROM found)
            FROM (SELECT DISTINCT oid FROM family) f JOIN pg_class c ON c.oid = f.oid
                JOIN pg_namespace n ON n.oid = c.relnamespace
            """, [wanted])
        guard let first = rows.first else { throw BackupError.notInBackup("table \(wanted)") }
        guard try first.get(2, as: Int.self) == 1 else {
            throw BackupError.notInBackup("single table \(wanted): several schemas have one; write SCHEMA.TABLE")
        }
        return try rows.map { Table(schema: try $0.get(0), name: try $0.get(1)) }
    }

    private func masking(for tables: [Table]) -> MaskingRules? {
        var rules = restorer.settings.masking.rules
        for (schema, masks) in rules {
            rules[schema] = masks.filter { tables.contains(Table(schema: schema, name: $0.key)) }
        }
        rules = rules.filter { !$0.value.isEmpty }
        return rules.isEmpty ? nil : MaskingRules(rules)
    }

    // MARK: In the scratch server

    /// The rows, from the parts that hold them and no others.
    private func fetch(
        _ tables: [Table], into place: ConnectionSettings, _ tools: BackupTools, _ progress: @escaping Restorer.Progress
    ) async throws {
        let wanted = Set(
            manifest.tables.filter { tables.contains(Table(schema: $0.schema, name: $0.name)) }.map {
                ExactText($0.path)
            })
        let parts = manifest.parts.filter {
            $0.kind == .data && !wanted.isDisjoint(with: $0.tables.map(ExactText.init))
        }
        let reader = PartReader(restorer, parts: parts, progress)
        // Names of one schema may be those of another: more than is wanted does no harm here.
        let options =
            Set(tables.map(\.schema)).sorted().map { "--schema=\($0)" }
            + Set(tables.map(\.name)).sorted().map { "--table=\($0)" }
        let queue = SharedQueue(parts)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<max(1, restorer.settings.jobs) {
                group.addTask {
                    while let part = queue.next() { try await reader.restore(part, into: place, tools, options) }
                }
            }
            for try await _ in group {}
        }
    }

    /// Indexes, constraints, triggers and policies; foreign keys would look for rows that are not here.
    ///
    /// - Returns: the foreign keys.
    private func restoreAfter(
        _ tables: [Table], into place: ConnectionSettings, _ reader: PartReader, _ tools: BackupTools
    ) async throws -> ForeignKeys {
        guard let part = manifest.parts.first(where: { $0.kind == .after }) else { return ForeignKeys() }
        let list = "\(restorer.settings.temporaryFolder)/reeve-restore-\(UUID().uuidString).list"
        defer { unlink(list) }
        return try await reader.withFile(part) { path in
            let program = tools.programs.path("pg_restore")
            let contents = try await output(Command(program, ["-l", path]))
            let entries = contents.split(separator: "\n").filter { !$0.hasPrefix(";") }
            let foreign = entries.filter { $0.contains(" FK CONSTRAINT ") }
            let useless = [
                " FK CONSTRAINT ", " EVENT TRIGGER ", " PUBLICATION", " SUBSCRIPTION", " MATERIALIZED VIEW DATA ",
            ]
            let rest = entries.filter { entry in !useless.contains { entry.contains($0) } }
            try Data(rest.joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: list))
            let restore = try tools.command(
                "pg_restore", ["--exit-on-error", "--no-tablespaces", "-L", list, path], on: place)
            try await Pipeline([restore]).run { _ in }
            if selection.intoSchema != nil || foreign.isEmpty { return ForeignKeys(areLeftOut: !foreign.isEmpty) }
            try Data(foreign.joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: list))
            let script = Array(try await output(Command(program, ["-L", list, "-f", "-", path])).utf8)
            let statements = try SQLLexer.split(script, file: part.object).map {
                String(decoding: script[$0.range], as: UTF8.self)
            }
            .filter { sql in
                tables.contains {
                    sql.hasPrefix("ALTER TABLE ONLY \($0.path)\n") || sql.hasPrefix("ALTER TABLE \($0.path)\n")
                }
            }
            return ForeignKeys(statements: statements)
        }
    }

    /// The foreign keys of the tables.
    private struct ForeignKeys: Sendable {
        var statements: [String] = []
        /// Whether there are some that point to where the tables were, which have gone elsewhere.
        var areLeftOut = false
    }

    private func output(_ command: Command) async throws -> String {
        String(decoding: try await Pipeline([command]).output(), as: UTF8.self)
    }

    private func move(_ tables: [Table], in place: ConnectionSettings) async throws -> [Table] {
        guard let schema = selection.intoSchema else { return tables }
        return try await Connection.opened(place) { connection in
            try await connection.with { connection in
                try connection.execute("CREATE SCHEMA IF NOT EXISTS \(quoteIdentifier(schema))")
                for table in tables where table.schema != schema {
                    try connection.execute("ALTER TABLE \(table.path) SET SCHEMA \(quoteIdentifier(schema))")
                }
                return tables.map { Table(schema: schema, name: $0.name) }
            }
        }
    }

    // MARK: Into the target

    /// Looks, before anything is written, whether there is room for the tables, and whether their roles are there.
    private func check(_ tables: [Table], _ place: ConnectionSettings, _ target: ConnectionSettings) async throws {
        let names = tables.map(\.path)
        let roles: [String] = try await Connection.opened(place) { connection in
            try await connection.with { connection in
                try connection.query(
                    """
                    SELECT DISTINCT r.rolname::text FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
                    WHERE d.refclassid = 'pg_authid'::regclass AND d.classid = 'pg_class'::regclass AND d.objid IN
                        (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                            WHERE format('%I.%I', n.nspname, c.relname) = ANY ($1::text[]))
                    """, [names]
                ).map { try $0.get(0) }
            }
        }
        let (there, known) = try await Connection.opened(target.named("reeve restore")) { connection in
            try await connection.with { connection in
                let there: [String] = try connection.query(
                    """
                    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n
                        ON n.oid = c.relnamespace WHERE format('%I.%I', n.nspname, c.relname) = ANY ($1::text[])
                    """, [names]
                ).map { try $0.get(0) }
                return (
                    there,
                    try connection.query("SELECT rolname::text FROM pg_roles").map { try $0.get(0, as: String.self) }
                )
            }
        }
        if !there.isEmpty { throw BackupError.targetHas(there) }
        let lacking = Set(roles).subtracting(known).sorted()
        if !lacking.isEmpty { throw BackupError.targetLacks(lacking.map { "the role \($0)" }) }
    }

    private func copy(
        _ tables: [Table], from place: ConnectionSettings, to target: ConnectionSettings, _ tools: BackupTools
    ) async throws {
        let schemas = Set(tables.map(\.schema)).union(selection.intoSchema.map { [$0] } ?? selection.schemas)
        try await Connection.opened(target.named("reeve restore")) { connection in
            try await connection.with { connection in
                try connection.transaction {
                    try Confinement.during(on: connection) {
                        for schema in schemas.sorted() {
                            try connection.execute("CREATE SCHEMA IF NOT EXISTS \(quoteIdentifier(schema))")
                        }
                    }
                }
            }
        }
        // Whole schemas go with their functions, types and views; of tables' own schemas only the tables.
        let whole = selection.intoSchema == nil ? selection.schemas : []
        let single = tables.filter { !whole.contains($0.schema) }
        if !single.isEmpty { try await copy(single.map { "--table=\($0.pattern)" }, place, target, tools) }
        if !whole.isEmpty {
            // Contents only; the schemas exist.
            try await copy(
                whole.map { "--schema=\(quotePattern($0))" }, contentsOf: whole, place, target, tools)
        }
    }

    private func copy(
        _ options: [String], contentsOf schemas: [String] = [], _ place: ConnectionSettings,
        _ target: ConnectionSettings, _ tools: BackupTools
    ) async throws {
        let dump = try tools.command("pg_dump", ["-Fc", "-Z0", "--no-sync"] + options, on: place)
        let script = Command(
            tools.programs.path("pg_restore"),
            ["--no-tablespaces", "-Fc", "-f", "-"] + schemas.map { "--schema=\($0)" })
        // In one transaction, in which functions of the target run with their owners' rights.
        let isConfined = try await Confinement.isSuperuser(in: target)
        let confinement = Confinement()
        let (first, last) =
            isConfined ? ("SET LOCAL lock_timeout = '60s'; \(confinement.begin)", confinement.end) : ("", "")
        let restore = try tools.command(
            "psql",
            [
                "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "--single-transaction", "-c", first, "-f", "-",
                "-c", last,
            ], on: target)
        try await Pipeline([dump, script, restore]).run { _ in }
    }

    /// - Returns: the keys that the target cannot have, in words.
    private func addKeys(_ keys: ForeignKeys, to target: ConnectionSettings) async throws -> [String] {
        if keys.areLeftOut { return ["foreign keys are left out, for they point to where the tables were"] }
        return try await Connection.opened(target.named("reeve restore")) { connection in
            try await connection.with { connection in
                keys.statements.compactMap { key in
                    do {
                        try connection.transaction {
                            try Confinement.during(on: connection) { _ = try connection.execute(key) }
                        }
                        return nil
                    } catch {
                        return "left out: \(key.split(whereSeparator: \.isWhitespace).joined(separator: " ")): \(error)"
                    }
                }
            }
        }
    }
}

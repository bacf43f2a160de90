import Catalog
import Foundation
import Postgres
import Processes
import SQL

/// Rebuilds tables of a backup in a scratch server.
struct ScratchRebuild: Sendable {
    let restorer: Restorer
    let selection: PartialRestore.Selection
    let scratch: ConnectionSettings
    let reader: PartReader
    let tools: BackupTools
    let trust: CodeTrust
    /// Throws if the scratch server has less free space than this number of bytes.
    let checkRoom: @Sendable (Int) async throws -> Void
    private var manifest: Manifest { restorer.manifest }

    struct Result: Sendable {
        /// The tables under their names in the scratch server, before `move`.
        let tables: [FetchedTable]
        let constraints: LateConstraints
        /// The tables whose rows have to be read from the backup; nil if the scratch server has the rows.
        let stored: [StoredTable]?
    }

    func run(_ confinement: Confinement, _ progress: @escaping Restorer.Progress) async throws -> Result {
        let tables = try await define(confinement)
        let known = Set(tables)
        let stored = try await Connection.opened(scratch) { connection in
            try await connection.with { try StoredTable.read(tables, on: $0) }
        }
        // Masks are applied by statements that run in the scratch server, so the rows are restored there first.
        let needsRows =
            !restorer.settings.masking.isEmpty || !RowSource.canName(stored, encoding: manifest.locale.encoding)
        let settings = restorer.settings
        if needsRows {
            try refuseRouted(known)
            try await checkRoom(manifest.estimatedBytes(of: known))
        }
        let scope: RestorePlan.Scope = needsRows ? .tables(known) : .definitions(of: known)
        let plan = RestorePlan(scope, of: manifest, jobs: settings.jobs, masking: settings.masking)
        let steps = plan.contents + plan.last
        let counting = needsRows ? PartReader(restorer, parts: RestorePlan.parts(of: steps), progress) : reader
        try await RestoreRun(manifest, target: scratch, tools: tools, reader: counting, trust: trust).perform(
            steps, under: confinement)
        if needsRows { try await checkRows(tables) }
        return Result(
            tables: tables, constraints: try await lateConstraints(of: known), stored: needsRows ? nil : stored)
    }

    /// Restores all definitions, and resolves the selection to tables.
    private func define(_ confinement: Confinement) async throws -> [FetchedTable] {
        let run = RestoreRun(manifest, target: scratch, tools: tools, reader: reader, trust: trust)
        try await run.perform(RestorePlan.definitions(of: manifest), under: confinement)
        let selection = selection
        return try await Connection.opened(scratch) { connection in
            try await connection.with { try TableSelection.read(on: $0).resolve(selection) }
        }
    }

    /// Refuses partitions without their root, if the scratch server distributes their rows anew, so that it does not
    /// know any more which of them a row was in.
    ///
    /// - Throws: `BackupError.routed`.
    private func refuseRouted(_ tables: Set<FetchedTable>) throws {
        let paths = Set(tables.map { ExactText($0.path) })
        for table in manifest.tables where paths.contains(ExactText(table.path)) {
            if let root = table.root, !paths.contains(ExactText(root)) {
                throw BackupError.routed(table: table.path, root: root)
            }
        }
    }

    /// Checks that the tables have as many rows as the manifest records, because pg_restore skips a name that it does
    /// not find. Partitions whose rows are distributed anew are counted together.
    ///
    /// - Throws: `BackupError.part`.
    private func checkRows(_ tables: [FetchedTable]) async throws {
        let known = Set(tables.map { ExactText($0.path) })
        let families = Dictionary(grouping: manifest.tables.filter { known.contains(ExactText($0.path)) }) {
            ExactText($0.root ?? $0.path)
        }
        try await Connection.opened(scratch) { connection in
            try await connection.with { connection in
                for (head, family) in families.sorted(by: { $0.key < $1.key }) {
                    let rows = family.reduce(0) { $0 + $1.rows }
                    let found = try family.reduce(0) { sum, table in
                        sum + (try connection.query("SELECT count(*) FROM ONLY \(table.path)").first?.get(0) ?? 0)
                    }
                    if found != rows {
                        throw BackupError.part(
                            object: manifest.prefix,
                            reason: "only \(found) of the \(rows) rows of \(head.text) were restored")
                    }
                }
            }
        }
    }

    /// Returns the late constraints of the tables as statements. They are not made in the scratch server, because it
    /// lacks the rows that foreign keys refer to.
    private func lateConstraints(of tables: Set<FetchedTable>) async throws -> LateConstraints {
        var late = try await reader.lateConstraints(of: tables, tools)
        if selection.intoSchema != nil { late = LateConstraints(moved: late.constraints) }
        return late
    }

    /// Describes how the rebuilt tables differ from the backup's definitions. To be called after the confinement has
    /// ended, because the confinement suspends CHECK constraints.
    func differences(_ rebuilt: Result) async throws -> [String] {
        guard let part = manifest.parts.first(where: { $0.kind == .catalog }) else { return [] }
        let expected = try SchemaSnapshot.parse(try await reader.text(of: part), file: part.object).catalog
        let found = try await Connection.opened(scratch) { connection in
            try await connection.with { try DatabaseContent.schema(nil, on: $0) }
        }
        return TableComparison(tables: rebuilt.tables, late: rebuilt.constraints).notes(
            expected: expected, found: try SchemaSnapshot.parse(found, file: "the scratch server").catalog)
    }

    /// Moves the tables to the schema that the selection names, if it names one. Returns the tables under their new
    /// names.
    func move(_ tables: [FetchedTable]) async throws -> [FetchedTable] {
        guard let schema = selection.intoSchema else { return tables }
        return try await Connection.opened(scratch) { connection in
            try await connection.with { connection in
                try connection.execute("CREATE SCHEMA IF NOT EXISTS \(quoteIdentifier(schema))")
                for table in tables where table.schema != schema {
                    try connection.execute("ALTER TABLE \(table.path) SET SCHEMA \(quoteIdentifier(schema))")
                }
                return tables.map { FetchedTable(schema: schema, name: $0.name) }
            }
        }
    }
}

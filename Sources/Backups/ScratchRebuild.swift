import Catalog
import Foundation
import Postgres
import Processes

/// Puts tables of a backup together in a scratch server.
struct ScratchRebuild: Sendable {
    let restorer: Restorer
    let selection: PartialRestore.Selection
    let scratch: ConnectionSettings
    let reader: PartReader
    let tools: BackupTools
    private var manifest: Manifest { restorer.manifest }

    struct Result: Sendable {
        /// Where they are in the scratch server now.
        let tables: [FetchedTable]
        let keys: ForeignKeys
        /// What is not there as it was, in words.
        let notes: [String]
    }

    func run(_ confinement: Confinement, _ progress: @escaping Restorer.Progress) async throws -> Result {
        let run = RestoreRun(target: scratch, tools: tools, reader: reader)
        try await run.perform(RestorePlan.definitions(of: manifest), under: confinement)
        let selection = selection
        let tables = try await Connection.opened(scratch) { connection in
            try await connection.with { try TableSelection.read(on: $0).resolve(selection) }
        }
        let known = Set(tables)
        let settings = restorer.settings
        let plan = RestorePlan(.tables(known), of: manifest, jobs: settings.jobs, masking: settings.masking)
        let steps = plan.contents + plan.last
        let counting = PartReader(restorer, parts: RestorePlan.parts(of: steps), progress)
        try await RestoreRun(target: scratch, tools: tools, reader: counting).perform(steps, under: confinement)
        let keys = try await foreignKeys(of: known)
        let notes = try await differences(tables)
        return Result(tables: try await move(tables), keys: keys, notes: notes)
    }

    /// The foreign keys of the tables, as statements: in the scratch server the rows they refer to are missing.
    private func foreignKeys(of tables: Set<FetchedTable>) async throws -> ForeignKeys {
        guard let part = manifest.parts.first(where: { $0.kind == .after }) else { return ForeignKeys() }
        return try await reader.withFile(part) { path in
            let foreign = RestorePlan.Entries.only(RestorePlan.foreignKeys).of(
                try await reader.contents(of: path, tools))
            if selection.intoSchema != nil || foreign.entries.isEmpty {
                return ForeignKeys(areLeftOut: !foreign.entries.isEmpty)
            }
            let script = try await reader.script(of: foreign, at: path, tools)
            return try ForeignKeys.read(script, of: tables, file: part.object)
        }
    }

    /// How the tables differ from what the backup says of them.
    private func differences(_ tables: [FetchedTable]) async throws -> [String] {
        guard let part = manifest.parts.first(where: { $0.kind == .catalog }) else { return [] }
        let expected = try SchemaSnapshot.parse(try await reader.text(of: part), file: part.object).catalog
        let found = try await Connection.opened(scratch) { connection in
            try await connection.with { try DatabaseContent.schema(nil, on: $0) }
        }
        return TableComparison(tables: tables).notes(
            expected: expected, found: try SchemaSnapshot.parse(found, file: "the scratch server").catalog)
    }

    private func move(_ tables: [FetchedTable]) async throws -> [FetchedTable] {
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

import Catalog
import Foundation
import Postgres
import Processes

/// Puts tables of a backup together in a scratch server.
struct ScratchRebuild: Sendable {
    let restorer: Restorer
    let selection: PartialRestore.Selection
    let place: ConnectionSettings
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
        for part in manifest.parts where part.kind == .before { try await reader.restore(part, into: place, tools) }
        let selection = selection
        let tables = try await Connection.opened(place) { connection in
            try await connection.with { try TableSelection.read(on: $0).resolve(selection) }
        }
        let known = Set(tables)
        try await confinement.suspendChecks()
        try await fetch(known, progress)
        // Before there are triggers, which would see what is masked, and could keep it.
        if let mask = masking(for: known) {
            try await Connection.opened(place) { connection in
                try await connection.with { try mask.apply(on: $0) }
            }
        }
        for part in manifest.parts where part.kind == .sequences { try await reader.restore(part, into: place, tools) }
        let keys = try await restoreAfter(known)
        let notes = try await differences(tables)
        return Result(tables: try await move(tables), keys: keys, notes: notes)
    }

    private func masking(for tables: Set<FetchedTable>) -> MaskingRules? {
        var rules = restorer.settings.masking.rules
        for (schema, masks) in rules {
            rules[schema] = masks.filter { tables.contains(FetchedTable(schema: schema, name: $0.key)) }
        }
        rules = rules.filter { !$0.value.isEmpty }
        return rules.isEmpty ? nil : MaskingRules(rules)
    }

    /// The rows, from the parts that hold them and no others.
    private func fetch(_ tables: Set<FetchedTable>, _ progress: @escaping Restorer.Progress) async throws {
        let wanted = Set(
            manifest.tables.filter { tables.contains(FetchedTable(schema: $0.schema, name: $0.name)) }.map {
                ExactText($0.path)
            })
        let parts = manifest.parts.filter {
            $0.kind == .data && !wanted.isDisjoint(with: $0.tables.map(ExactText.init))
        }
        let reader = PartReader(restorer, parts: parts, progress)
        // Names of one schema may be those of another: more than is wanted does no harm here.
        let options =
            Set(tables.map { ExactText($0.schema) }).map { "--schema=\($0.text)" }.sorted()
            + Set(tables.map { ExactText($0.name) }).map { "--table=\($0.text)" }.sorted()
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

    /// What is of no use for single tables, or comes later.
    private static let useless: Set<String> = [
        "FK CONSTRAINT", "EVENT TRIGGER", "PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA",
        "SUBSCRIPTION", "SUBSCRIPTION TABLE", "MATERIALIZED VIEW DATA",
    ]

    /// Indexes, constraints, triggers and policies; foreign keys would look for rows that are not here.
    ///
    /// - Returns: the foreign keys.
    private func restoreAfter(_ tables: Set<FetchedTable>) async throws -> ForeignKeys {
        guard let part = manifest.parts.first(where: { $0.kind == .after }) else { return ForeignKeys() }
        return try await reader.withFile(part) { path in
            let contents = try await reader.contents(of: path, tools)
            try await reader.restore(
                contents.without(contents.entries(of: Self.useless)), of: part, at: path, into: place, tools, jobs: 1)
            let foreign = contents.entries(of: ["FK CONSTRAINT"])
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
        let found = try await Connection.opened(place) { connection in
            try await connection.with { try DatabaseContent.schema(nil, on: $0) }
        }
        return TableComparison(tables: tables).notes(
            expected: expected, found: try SchemaSnapshot.parse(found, file: "the scratch server").catalog)
    }

    private func move(_ tables: [FetchedTable]) async throws -> [FetchedTable] {
        guard let schema = selection.intoSchema else { return tables }
        return try await Connection.opened(place) { connection in
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

import Catalog
import Foundation
import Postgres
import SQL
import Telemetry

/// Finds a table in the backups of a database: how many rows it has in each, which backups have rows that match a
/// condition, and what changed between two backups.
///
/// The numbers of rows are read from the manifests. For everything else, the rows of the table are loaded into a
/// scratch server, into a table of built-in types. So no definition and no code of a backup is restored.
public struct TableFinder: Sendable {
    /// The backups of a database, oldest first, each with the repository that it is read from.
    let backups: [(repository: Repository, manifest: Manifest)]
    private let settings: Restorer.Settings
    private let folder: String
    private let beside: ConnectionSettings?
    private let logger: Logger

    /// - Parameters:
    ///   - repositories: the repositories to search, with the manifests in them.
    ///   - settings: the identity is required for encrypted backups, unless only the manifests are read.
    ///   - folder: the folder for scratch clusters.
    ///   - beside: the server in which a scratch database is made if no server programs are installed.
    public init(
        _ repositories: [(repository: Repository, manifests: [Manifest])], settings: Restorer.Settings, folder: String,
        beside: ConnectionSettings?, logger: Logger = .silent
    ) {
        var known: Set<String> = []
        backups = repositories.flatMap { one in one.manifests.map { (one.repository, $0) } }.filter {
            known.insert($0.1.id).inserted
        }.sorted { ($0.1.began, $0.1.id) < ($1.1.began, $1.1.id) }.map { (repository: $0.0, manifest: $0.1) }
        self.settings = settings
        self.folder = folder
        self.beside = beside
        self.logger = logger
    }

    // MARK: History

    /// Returns the numbers of rows of a table in all backups.
    ///
    /// - Throws: `BackupError.notInAnyBackup`; if the table may be partitioned, the errors of reading the catalogs of
    ///   the backups, such as `.needsIdentity`.
    public func history(of name: String) async throws -> TableHistory {
        let manifests = backups.map(\.manifest)
        let plain = manifests.flatMap(\.tables).map { FetchedTable(schema: $0.schema, name: $0.name) }
        if plain.contains(where: { $0.spellings.contains(ExactText(name)) }) {
            return try TableHistory(of: name, in: manifests, names: plain) { table, manifest in
                manifest.tables.contains { FetchedTable(schema: $0.schema, name: $0.name) == table } ? [table] : []
            }
        }
        // A partitioned table has no rows of its own, so only the catalogs contain it.
        let catalogs = try await catalogs()
        let names = catalogs.values.flatMap { catalog in
            catalog.objects.keys.filter { $0.kind == .table }.compactMap { identity in
                identity.schema.map { FetchedTable(schema: $0, name: identity.name) }
            }
        }
        return try TableHistory(of: name, in: manifests, names: names) { table, manifest in
            catalogs[manifest.catalog].flatMap { CatalogTable(table, in: $0) }?.members.map(\.table) ?? []
        }
    }

    /// Returns the catalogs of all backups, by their hashes.
    private func catalogs() async throws -> [String: SchemaCatalog] {
        var catalogs: [String: SchemaCatalog] = [:]
        for (repository, manifest) in backups where catalogs[manifest.catalog] == nil {
            catalogs[manifest.catalog] = try await catalog(of: manifest, in: repository)
        }
        return catalogs
    }

    private func catalog(of manifest: Manifest, in repository: Repository) async throws -> SchemaCatalog {
        let restorer = restorer(manifest, repository)
        if !manifest.recipients.isEmpty, settings.identity == nil { throw BackupError.needsIdentity(id: manifest.id) }
        guard let part = manifest.parts.first(where: { $0.kind == .catalog }) else {
            throw BackupError.part(object: manifest.prefix, reason: "it has no catalog")
        }
        return try SchemaSnapshot.parse(try await restorer.text(of: part), file: part.object).catalog
    }

    private func restorer(_ manifest: Manifest, _ repository: Repository) -> Restorer {
        Restorer(repository: repository, manifest: manifest, settings: settings, logger: logger)
    }

    // MARK: Rows

    /// Counts the rows that match a condition in each backup that has the table. Equal contents are loaded only once.
    ///
    /// - Parameter condition: an SQL condition on the columns that are not generated. Columns with types that are not
    ///   built in, such as enums, are texts.
    /// - Returns: the numbers of rows, by the ID of the backup.
    /// - Throws: `PostgresError` if the condition is not valid; `BackupError`, `PipelineError`, `StorageError`.
    public func matches(
        _ condition: String, of history: TableHistory, progress: @escaping Restorer.Progress = { _, _ in }
    ) async throws -> [String: Int] {
        let contents = history.entries.compactMap { entry in entry.content.map { (backup: entry.backup, $0) } }
        guard let newest = backups.last?.manifest else { return [:] }
        let loads = try await loads(of: contents.map(\.backup), history)
        let server = server(newest)
        let counts = try await server.with(roomFor: 0) { scratch, isOwn in
            var counts: [[String]: Int] = [:]
            for (backup, content) in contents where counts[content] == nil {
                guard let load = loads[backup] else { continue }
                if isOwn { try await server.checkRoom(for: load.estimatedBytes) }
                try await load.fill(scratch, isTyped: true, progress: progress)
                counts[content] = try await load.count(condition, in: scratch)
                try await load.clear(scratch)
            }
            return counts
        }
        return Dictionary(contents.compactMap { one in counts[one.1].map { (one.backup, $0) } }) { one, _ in one }
    }

    /// Compares the rows of a table in two backups.
    ///
    /// - Throws: `BackupError.notInBackup` if one of the backups lacks the table; `.unknown` if there is no such
    ///   backup; `PipelineError`, `StorageError`, `PostgresError`.
    public func difference(
        from first: String, to second: String, of history: TableHistory,
        progress: @escaping Restorer.Progress = { _, _ in }
    ) async throws -> RowDifference {
        for id in [first, second] {
            guard let entry = history.entries.first(where: { $0.backup == id }) else {
                throw BackupError.unknown(id: id, known: backups.map(\.manifest.id))
            }
            if entry.content == nil { throw BackupError.notInBackup("table \(history.table) (\(id))") }
        }
        let loads = try await loads(of: [first, second], history)
        guard let before = loads[first], let after = loads[second], let newest = backups.last?.manifest else {
            throw BackupError.notInBackup("table \(history.table)")
        }
        let server = server(newest)
        return try await server.with(roomFor: 0) { scratch, isOwn in
            if isOwn { try await server.checkRoom(for: before.estimatedBytes + after.estimatedBytes) }
            try await before.fill(scratch, isTyped: false, progress: progress)
            if first == second { return try await RowDifference.read(from: before, to: before, in: scratch) }
            try await after.fill(scratch, isTyped: false, progress: progress)
            return try await RowDifference.read(from: before, to: after, in: scratch)
        }
    }

    private func server(_ manifest: Manifest) -> ScratchServer {
        ScratchServer(manifest: manifest, folder: folder, beside: beside, logger: logger)
    }

    private func loads(of ids: [String], _ history: TableHistory) async throws -> [String: RowLoad] {
        var catalogs: [String: SchemaCatalog] = [:]
        var loads: [String: RowLoad] = [:]
        for (repository, manifest) in backups where ids.contains(manifest.id) {
            if catalogs[manifest.catalog] == nil {
                catalogs[manifest.catalog] = try await catalog(of: manifest, in: repository)
            }
            guard let catalog = catalogs[manifest.catalog], let table = CatalogTable(history.found, in: catalog) else {
                continue
            }
            loads[manifest.id] = RowLoad(
                restorer: restorer(manifest, repository), table: table, number: loads.count + 1)
        }
        return loads
    }
}

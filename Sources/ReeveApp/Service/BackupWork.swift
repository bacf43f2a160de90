import Backups
import Foundation
import Ledger
import Postgres
import Scheduling
import Storage
import Telemetry

/// The settings of backups from the configuration.
enum BackupSettings {
    /// - Throws: `ConfigurationError` where no repository is named.
    static func repository(_ configuration: Configuration) throws -> Repository {
        guard let path = configuration.store.text("backup.repository") else {
            throw ConfigurationError(
                "backup.repository", nil, "no repository is configured",
                hint: "set backup.repository, or REEVE_BACKUP_REPOSITORY, to a folder on another disk")
        }
        return Repository(
            FolderStore(configuration.resolve(path, from: configuration.store.origin("backup.repository"))))
    }

    static func maker(_ configuration: Configuration) throws -> BackupMaker.Settings {
        var settings = BackupMaker.Settings()
        let store = configuration.store
        settings.isUnencryptedAllowed = store.text("backup.encryption") == "none"
        settings.recipients = settings.isUnencryptedAllowed ? [] : store.values("backup.recipients")
        settings.jobs = store.integer("backup.jobs") ?? 2
        settings.version = ReeveProgram.version
        return settings
    }

    static func retention(_ configuration: Configuration) -> RetentionPolicy {
        var policy = RetentionPolicy()
        let store = configuration.store
        policy.daily = store.integer("backup.keep.daily") ?? policy.daily
        policy.weekly = store.integer("backup.keep.weekly") ?? policy.weekly
        policy.monthly = store.integer("backup.keep.monthly") ?? policy.monthly
        policy.atLeast = store.integer("backup.keep.at_least") ?? policy.atLeast
        return policy
    }

    static func restorer(_ configuration: Configuration, identity: String?) -> Restorer.Settings {
        var settings = Restorer.Settings()
        let store = configuration.store
        settings.identity =
            identity
            ?? store.text("backup.identity").map { configuration.resolve($0, from: store.origin("backup.identity")) }
        settings.jobs = store.integer("backup.jobs") ?? 2
        settings.temporaryFolder = NSTemporaryDirectory()
        return settings
    }
}

/// Backups of one database of the estate, with what the ledger remembers of them.
struct BackupWork: Sendable {
    let open: OpenDatabase
    let configuration: Configuration
    let logger: Logger

    static var person: String { "\(NSUserName())@\(ProcessInfo.processInfo.hostName)" }

    var repository: Repository {
        get throws { try BackupSettings.repository(configuration) }
    }

    func create(
        _ settings: BackupMaker.Settings, actor: String,
        progress: @escaping @Sendable (String, Int) -> Void = { _, _ in }
    ) async throws -> Manifest {
        let repository = try repository
        let maker = BackupMaker(
            database: open.database, name: open.name, repository: repository, settings: settings, logger: logger)
        let manifest = try await maker.make(progress: progress)
        try await remember { connection in
            try BackupLedger.record(
                id: manifest.id, place: repository.store.place, bytes: manifest.bytes, startedAt: manifest.startedAt,
                finishedAt: manifest.finishedAt, actor: actor, on: connection)
        }
        return manifest
    }

    func test(
        _ manifest: Manifest, identity: String?, actor: String,
        progress: @escaping @Sendable (String) -> Void = { _ in }
    ) async throws -> Proof {
        let repository = try repository
        let test = RestoreTest(
            repository: repository, manifest: manifest,
            settings: BackupSettings.restorer(configuration, identity: identity),
            folder: "\(configuration.stateFolder)/scratch", checks: try checks(), logger: logger)
        let proof = try await test.run(progress: progress)
        try await remember { connection in
            try BackupLedger.prove(
                id: manifest.id, place: repository.store.place, restoreSeconds: proof.restoreSeconds,
                differences: proof.differences.count,
                mismatchedTables: Set(proof.differences.filter { $0.kind == "table" }.map(\.object)).count,
                actor: actor,
                on: connection)
        }
        return proof
    }

    /// What the policy says of each backup.
    func decisions() throws -> [RetentionPolicy.Decision] {
        let repository = try repository
        let candidates = try repository.manifests(of: open.name).compactMap { manifest -> RetentionPolicy.Candidate? in
            guard let time = try? Timestamp.fromPostgres(manifest.finishedAt) else { return nil }
            let proof = try Proof.read(manifest, in: repository)
            return RetentionPolicy.Candidate(
                id: manifest.id, finishedAt: Date(timeIntervalSince1970: Double(time.microseconds) / 1_000_000),
                isProven: proof?.isProved == true)
        }
        return BackupSettings.retention(configuration).decide(candidates)
    }

    /// Removes what the policy does not keep, judged anew once no backup is being made.
    ///
    /// - Returns: how many backups went, and the bytes that were freed.
    func prune(actor: String) async throws -> (removed: Int, freed: Int) {
        let repository = try repository
        return try await open.database.withDirectConnection(named: "reeve backup") { connection in
            try await Repository.lock(on: connection, wait: .seconds(60))
            let leaving = Set(try decisions().filter { !$0.stays }.map(\.id))
            let freed = try repository.remove(leaving, of: open.name)
            try await connection.with { connection in
                try LedgerSchema.install(on: connection)
                for id in leaving.sorted() {
                    try BackupLedger.forget(id: id, place: repository.store.place, actor: actor, on: connection)
                }
            }
            return (leaving.count, freed)
        }
    }

    func restore(
        _ manifest: Manifest, into target: ConnectionSettings, identity: String?, makesRoles: Bool,
        progress: @escaping @Sendable (String) -> Void
    ) async throws {
        var settings = BackupSettings.restorer(configuration, identity: identity)
        settings.makesRoles = makesRoles
        try await Restorer(repository: try repository, manifest: manifest, settings: settings, logger: logger)
            .restore(into: target, progress: progress)
    }

    /// The checks of the systems: `backups/checks/SYSTEM/*.sql` beside the shipped migrations, or `checks` in a system's
    /// own folder.
    private func checks() throws -> [(name: String, sql: String)] {
        try open.systems.flatMap { system -> [(name: String, sql: String)] in
            let shipped = URL(fileURLWithPath: system.folder).deletingLastPathComponent().deletingLastPathComponent()
                .appendingPathComponent("backups/checks/\(system.name)").path
            return try ["\(system.folder)/checks", shipped].flatMap { folder -> [(name: String, sql: String)] in
                let files = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
                return try files.filter { $0.hasSuffix(".sql") }.sorted().map { file in
                    let sql = try String(contentsOfFile: "\(folder)/\(file)", encoding: .utf8)
                    return ("\(system.name)/\(file)", sql.replacing("%schema%", with: quoteIdentifier(system.schema)))
                }
            }
        }
    }

    private func remember(_ body: @Sendable (isolated Connection) throws -> Void) async throws {
        try await open.database.withDirectConnection(named: "reeve backup") { connection in
            try await connection.with { connection in
                try LedgerSchema.install(on: connection)
                try body(connection)
            }
        }
    }
}

/// The task that backs the database up.
enum BackupTask {
    static func run(_ open: OpenDatabase, _ configuration: Configuration, _ context: TaskContext) async throws -> String
    {
        let work = BackupWork(open: open, configuration: configuration, logger: context.logger)
        let manifest = try await work.create(try BackupSettings.maker(configuration), actor: ServiceInstance.name)
        return "\(manifest.id): \(manifest.tables.count) tables, \(BackupText.size(manifest.bytes))"
    }
}

/// The task that removes the backups that the policy does not keep.
enum PruneTask {
    static func run(_ open: OpenDatabase, _ configuration: Configuration, _ context: TaskContext) async throws -> String
    {
        let work = BackupWork(open: open, configuration: configuration, logger: context.logger)
        let (removed, freed) = try await work.prune(actor: ServiceInstance.name)
        return "removed \(removed) backups, \(BackupText.size(freed)) freed"
    }
}

/// The task that proves that the newest backup restores.
enum RestoreTestTask {
    static func run(_ open: OpenDatabase, _ configuration: Configuration, _ context: TaskContext) async throws -> String
    {
        let work = BackupWork(open: open, configuration: configuration, logger: context.logger)
        let manifest = try work.repository.manifest("latest", of: open.name)
        let proof = try await work.test(manifest, identity: nil, actor: ServiceInstance.name)
        guard proof.isProved else { throw RestoreTestFailed(text: BackupText.text(proof)) }
        return BackupText.text(proof)
    }

    /// The backup does not restore to what it was: the run has failed.
    struct RestoreTestFailed: Error, CustomStringConvertible {
        let text: String
        var description: String { text }
    }
}

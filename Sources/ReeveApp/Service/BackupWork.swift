import Backups
import Foundation
import Ledger
import Migrations
import Postgres
import Storage
import Telemetry

/// Backups of one database of the estate, with what the ledger remembers of them.
struct BackupWork: Sendable {
    let open: OpenDatabase
    let configuration: Configuration
    let logger: Logger
    let repositories: [Repository]

    /// - Throws: `ConfigurationError` where no repository is named.
    init(open: OpenDatabase, configuration: Configuration, logger: Logger) throws {
        self.open = open
        self.configuration = configuration
        self.logger = logger
        repositories = try BackupSettings.repositories(configuration)
    }

    static var person: String { "\(NSUserName())@\(ProcessInfo.processInfo.hostName)" }

    /// The one that is named, or the first.
    ///
    /// - Throws: `UsageError` for one that is not configured.
    func repository(_ place: String?) throws -> Repository {
        guard let place else { return repositories[0] }
        if let found = repositories.first(where: { $0.store.place == place }) { return found }
        throw UsageError(
            "'\(place)' is no repository of the configuration",
            hint: "configured: \(repositories.map(\.store.place).joined(separator: ", "))")
    }

    /// A backup, in the repository that is named, or in the first that has it.
    func find(_ id: String, in place: String?) throws -> (Repository, Manifest) {
        if place != nil {
            let repository = try repository(place)
            return (repository, try repository.manifest(id, of: open.name))
        }
        return try Self.find(id, of: open.name, in: repositories)
    }

    /// A backup, in the first repository that has it.
    static func find(_ id: String, of database: String, in repositories: [Repository]) throws -> (Repository, Manifest)
    {
        var first: (any Error)?
        for repository in repositories {
            do { return (repository, try repository.manifest(id, of: database)) } catch { first = first ?? error }
        }
        throw first ?? BackupError.unknown(id: id)
    }

    // MARK: Making

    func create(
        _ settings: BackupMaker.Settings, actor: String,
        progress: @escaping @Sendable (String, Int) -> Void = { _, _ in }
    ) async throws -> BackupMaker.Result {
        let maker = BackupMaker(
            database: open.database, name: open.name, repositories: repositories, settings: settings, logger: logger)
        let places = repositories.map(\.store.place)
        let attempts = try await remember { try BackupLedger.begin(places: places, on: $0) }
        var values = ["REEVE_DATABASE": open.name]
        do {
            try await BackupHook.run("before", configuration, values)
            let result = try await maker.make(progress: progress)
            let manifest = result.manifest
            let failed = Dictionary(result.failed.map { ($0.place, "\($0.error)") }) { one, _ in one }
            await rememberMade { connection in
                for place in result.places {
                    try BackupLedger.record(
                        id: manifest.id, place: place, bytes: manifest.bytes, startedAt: manifest.startedAt,
                        finishedAt: manifest.finishedAt, actor: actor, on: connection)
                }
                for (attempt, place) in zip(attempts, places) {
                    try BackupLedger.finish(attempt, failure: failed[place], on: connection)
                }
            }
            await AuditWork.anchor(after: "the backup", open, configuration, logger)
            values["REEVE_BACKUP_ID"] = manifest.id
            values["REEVE_BACKUP_BYTES"] = "\(manifest.bytes)"
            values["REEVE_BACKUP_STATE"] = failed.isEmpty ? "done" : "failed"
            try await BackupHook.run("after", configuration, values)
            return result
        } catch {
            // A task of its own, for this one may be cancelled.
            await Task { [values] in
                try? await remember { connection in
                    for attempt in attempts { try BackupLedger.finish(attempt, failure: "\(error)", on: connection) }
                }
                if values["REEVE_BACKUP_STATE"] == nil {
                    let failed = values.merging(["REEVE_BACKUP_STATE": "failed"]) { _, new in new }
                    try? await BackupHook.run("after", configuration, failed)
                }
            }.value
            throw error
        }
    }

    // MARK: Testing and restoring

    func test(
        _ manifest: Manifest, in repository: Repository, identity: String?, actor: String,
        progress: @escaping Restorer.Progress = { _, _ in }
    ) async throws -> Proof {
        let test = RestoreTest(
            repository: repository, manifest: manifest,
            settings: BackupSettings.restorer(configuration, identity: identity), folder: scratchFolder,
            beside: open.database.direct, checks: try BackupSettings.checks(open.systems), logger: logger)
        let proof = try await test.run(progress: progress)
        try await remember { connection in
            try BackupLedger.prove(
                id: manifest.id, place: repository.store.place, restoreSeconds: proof.restoreSeconds,
                differences: proof.differences.count,
                mismatchedTables: Set(proof.differences.filter { $0.kind == "table" }.map(\.object)).count,
                actor: actor, on: connection)
        }
        return proof
    }

    /// Where scratch clusters are made.
    var scratchFolder: String { "\(configuration.stateFolder)/scratch" }

    /// What a restore is to do.
    struct RestoreOrder: Sendable {
        var identity: String?
        var makesRoles = false
        var isMasked = false
        /// Whether what is in the target may be put aside.
        var replaces = false
        var selection = PartialRestore.Selection()
    }

    /// - Returns: what there is to say about it.
    func restore(
        _ manifest: Manifest, from repository: Repository, into target: ConnectionSettings, _ order: RestoreOrder,
        progress: @escaping Restorer.Progress
    ) async throws -> [String] {
        var settings = BackupSettings.restorer(configuration, identity: order.identity)
        settings.makesRoles = order.makesRoles
        if order.isMasked {
            settings.masking = try BackupSettings.masking(open.systems)
            guard !settings.masking.isEmpty else {
                throw UsageError(
                    "no system says what is to be masked",
                    hint: "write 'mask:' into its system.yaml, or name the systems")
            }
        }
        let restorer = Restorer(repository: repository, manifest: manifest, settings: settings, logger: logger)
        if !order.selection.isEmpty {
            return try await PartialRestore(
                restorer, order.selection, folder: scratchFolder, beside: open.database.direct
            ).restore(into: target, progress: progress)
        }
        guard order.replaces else {
            try await restorer.restore(into: target, progress: progress)
            return []
        }
        let former = try await Replacement(of: target, like: manifest).replace {
            try await restorer.restore(into: $0, progress: progress)
        }
        return ["what was there is in the database '\(former)' now; drop it when it is not needed"]
    }

    // MARK: Expiry

    /// What the policy says of each backup in a repository.
    func decisions(_ repository: Repository) throws -> [RetentionPolicy.Decision] {
        let candidates = try repository.manifests(of: open.name).compactMap { manifest -> RetentionPolicy.Candidate? in
            guard let time = try? Timestamp.fromPostgres(manifest.finishedAt) else { return nil }
            let proof = try Proof.read(manifest, in: repository)
            return RetentionPolicy.Candidate(
                id: manifest.id, finishedAt: time.date, isProven: proof?.isProved == true)
        }
        return BackupSettings.retention(configuration).decide(candidates, now: Date())
    }

    /// Removes what the policy does not keep, judged anew once no backup is being made.
    ///
    /// - Returns: how many backups went, and the bytes that were freed.
    func prune(actor: String) async throws -> (removed: Int, freed: Int) {
        try await open.database.withDirectConnection(named: "reeve backup") { connection in
            try await Repository.locked(on: connection, wait: .seconds(60)) {
                try await prune(actor: actor, on: connection)
            }
        }
    }

    private func prune(actor: String, on connection: Connection) async throws -> (removed: Int, freed: Int) {
        try await connection.with { try LedgerSchema.install(on: $0) }
        var sum = (removed: 0, freed: 0)
        var failure: StorageError?
        for repository in repositories {
            do {
                let leaving = Set(try decisions(repository).filter { !$0.stays }.map(\.id))
                sum.freed += try repository.remove(leaving, of: open.name)
                sum.removed += leaving.count
                try await connection.with { connection in
                    for id in leaving.sorted() {
                        try BackupLedger.forget(id: id, place: repository.store.place, actor: actor, on: connection)
                    }
                }
            } catch let error as StorageError {
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
        return sum
    }

    // MARK: Keys

    /// Encrypts all backups for the recipients that are configured now.
    func rewrap(identity: String?, progress: @escaping @Sendable (String) -> Void) async throws -> Int {
        let settings = BackupSettings.maker(configuration)
        guard !settings.recipients.isEmpty else { throw BackupError.noRecipients }
        guard let identity = BackupSettings.identity(configuration, given: identity) else {
            throw BackupError.needsIdentity(id: "of every age")
        }
        return try await open.database.withDirectConnection(named: "reeve backup") { connection in
            try await Repository.locked(on: connection, wait: .seconds(60)) {
                var count = 0
                for repository in repositories {
                    count += try await repository.rewrap(
                        database: open.name, identity: identity, recipients: settings.recipients, progress: progress)
                }
                return count
            }
        }
    }

    /// Tells the ledger of a backup that is whole; that does not depend on whether the ledger hears of it.
    private func rememberMade(_ body: @Sendable (isolated Connection) throws -> Void) async {
        for attempt in 1...5 {
            do { return try await remember(body) } catch {
                logger.warning(
                    "the ledger does not know of the backup", [LogField("attempt", attempt), LogField("error", error)])
                guard (try? await Task.sleep(for: .seconds(attempt))) != nil else { return }
            }
        }
    }

    @discardableResult
    func remember<T: Sendable>(_ body: @Sendable (isolated Connection) throws -> T) async throws -> T {
        try await open.database.withDirectConnection(named: "reeve backup") { connection in
            try await connection.with { connection in
                try LedgerSchema.install(on: connection)
                return try body(connection)
            }
        }
    }
}

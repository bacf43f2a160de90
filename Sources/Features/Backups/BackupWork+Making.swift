import Auditing
import Backups
import Kernel
import Ledger
import Postgres
import Telemetry

/// The creation of backups.
extension BackupWork {
    func create(
        _ settings: BackupMaker.Settings, actor: String,
        progress: @escaping @Sendable (String, Int) -> Void = { _, _ in }
    ) async throws -> BackupMaker.Result {
        var settings = settings
        settings.signingKeys = keys
        let maker = BackupMaker(
            database: open.database, name: open.name, repositories: repositories, settings: settings, logger: logger)
        let places = repositories.map(\.store.place)
        let attempts = try await withLedger { try BackupLedger.begin(places: places, on: $0) }
        let result = try await make(maker, attempts, progress)
        let manifest = result.manifest
        let failed = Dictionary(result.failed.map { ($0.place, "\($0.error)") }) { one, _ in one }
        let entry = try Self.entry(of: manifest, sha256: result.sha256)
        let adopts = settings.adopts
        await tellLedger { connection in
            if adopts {
                for place in result.places { try BackupLedger.forgetOthers(than: place, actor: actor, on: connection) }
            }
            try BackupLedger.record(entry, places: result.places, actor: actor, on: connection)
            for (attempt, place) in zip(attempts, places) {
                try BackupLedger.finish(attempt, failure: failed[place], on: connection)
            }
        }
        for repository in repositories { await tellLedger(of: repository, actor) }
        if adopts {
            await tellLedger { connection in
                for place in result.places {
                    try BackupLedger.adopt(place: place.address, actor: actor, on: connection)
                }
            }
        }
        await AuditWork.anchor(after: "the backup", open, configuration, logger)
        do {
            try await BackupHook.after.run(
                configuration,
                [
                    "REEVE_DATABASE": open.name, "REEVE_BACKUP_ID": manifest.id,
                    "REEVE_BACKUP_BYTES": "\(manifest.bytes)",
                    "REEVE_BACKUP_STATE": failed.isEmpty ? "done" : "failed",
                ])
        } catch BackupError.hook(_, let reason) {
            throw BackupError.hookAfter(id: manifest.id, reason: reason)
        }
        return result
    }

    /// Runs the hook `before` and makes the backup. If either fails, records the failure in the ledger and runs the
    /// hook `after`.
    private func make(
        _ maker: BackupMaker, _ attempts: [Int], _ progress: @escaping @Sendable (String, Int) -> Void
    ) async throws -> BackupMaker.Result {
        do {
            try await BackupHook.before.run(configuration, ["REEVE_DATABASE": open.name])
            return try await maker.make(progress: progress)
        } catch {
            // This runs in a separate task, because the current task may be cancelled.
            await Task {
                try? await withLedger { connection in
                    for attempt in attempts { try BackupLedger.finish(attempt, failure: "\(error)", on: connection) }
                }
                try? await BackupHook.after.run(
                    configuration, ["REEVE_DATABASE": open.name, "REEVE_BACKUP_STATE": "failed"])
            }.value
            throw error
        }
    }

    /// Compares the ledger with a repository (`compare`). If the repository or the ledger cannot be reached now, the
    /// next backup does this.
    private func tellLedger(of repository: Repository, _ actor: String) async {
        do {
            try await open.database.withDirectConnection(named: "reeve backup") { connection in
                try await compare(with: repository, actor: actor, on: connection)
            }
        } catch {
            logger.warning(
                "the backups in a repository could not be compared with the ledger",
                [LogField("repository", repository.store.place), LogField("error", error)])
        }
    }

    /// Records a complete backup in the ledger. The backup is valid even if this fails.
    private func tellLedger(_ body: @Sendable (isolated Connection) throws -> Void) async {
        for attempt in 1...5 {
            do { return try await withLedger(body) } catch {
                logger.warning(
                    "the backup could not be recorded in the ledger",
                    [LogField("attempt", attempt), LogField("error", error)])
                guard (try? await Task.sleep(for: .seconds(attempt))) != nil else { return }
            }
        }
    }
}

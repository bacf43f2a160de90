import Backups
import Ledger
import Postgres
import Telemetry

/// Backups are made.
extension BackupWork {
    func create(
        _ settings: BackupMaker.Settings, actor: String,
        progress: @escaping @Sendable (String, Int) -> Void = { _, _ in }
    ) async throws -> BackupMaker.Result {
        let maker = BackupMaker(
            database: open.database, name: open.name, repositories: repositories, settings: settings, logger: logger)
        let places = repositories.map(\.store.place)
        let attempts = try await withLedger { try BackupLedger.begin(places: places, on: $0) }
        var values = ["REEVE_DATABASE": open.name]
        do {
            try await BackupHook.run("before", configuration, values)
            let result = try await maker.make(progress: progress)
            let manifest = result.manifest
            let failed = Dictionary(result.failed.map { ($0.place, "\($0.error)") }) { one, _ in one }
            await tellLedger { connection in
                try BackupLedger.record(
                    id: manifest.id, places: result.places, bytes: manifest.bytes, startedAt: manifest.startedAt,
                    finishedAt: manifest.finishedAt, actor: actor, on: connection)
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
                try? await withLedger { connection in
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

    /// Tells the ledger of a backup that is whole; that does not depend on whether the ledger hears of it.
    private func tellLedger(_ body: @Sendable (isolated Connection) throws -> Void) async {
        for attempt in 1...5 {
            do { return try await withLedger(body) } catch {
                logger.warning(
                    "the ledger does not know of the backup", [LogField("attempt", attempt), LogField("error", error)])
                guard (try? await Task.sleep(for: .seconds(attempt))) != nil else { return }
            }
        }
    }
}

import Backups
import Kernel
import Ledger
import Postgres
import Telemetry

/// The synchronization of the ledger with the repositories.
extension BackupWork {
    /// Returns what the ledger records about a backup.
    ///
    /// - Throws: `BackupError.badManifest` if the times in the manifest are not valid.
    static func entry(of manifest: Manifest) throws -> BackupLedger.Entry {
        do {
            return BackupLedger.Entry(
                id: manifest.id, bytes: manifest.bytes, startedAt: try Timestamp.fromPostgres(manifest.startedAt),
                finishedAt: try Timestamp.fromPostgres(manifest.finishedAt))
        } catch is PostgresError {
            throw BackupError.badManifest(
                object: "\(manifest.database)/\(manifest.id)",
                reason: "its times are implausible: \(manifest.startedAt) to \(manifest.finishedAt)")
        }
    }

    /// If a repository contains backups that the ledger lacks, records these backups in the ledger. The process that
    /// made such a backup was killed after it had written the manifest, or could not reach the ledger. The backups
    /// count as unproven.
    ///
    /// - Throws: `StorageError`; `LedgerError`; `PostgresError`.
    func findUnknown(in repository: Repository, actor: String, on connection: Connection) async throws {
        let known = try await knownBackups(in: repository, on: connection)
        for id in try await repository.ids(of: open.name).subtracting(known).sorted() {
            do {
                let entry = try Self.entry(of: try await repository.manifest(id, of: open.name))
                try await connection.with {
                    try BackupLedger.find(entry, place: repository.store.place, actor: actor, on: $0)
                }
                logger.notice("recorded a backup that was missing from the ledger", [LogField("backup", id)])
            } catch let error as BackupError {
                logger.warning("a backup is ignored", [LogField("error", error)])
            }
        }
    }

    /// Makes the ledger's records equal to the backups in a repository. Call this only under the lock that `alone`
    /// acquires.
    ///
    /// - Throws: `BackupError.foreign` if the backups belong to another database; the errors of `findUnknown`.
    func reconcile(_ repository: Repository, actor: String, on connection: Connection) async throws {
        try await repository.claim(open.name, on: connection)
        try await findUnknown(in: repository, actor: actor, on: connection)
        // Forget the backups that only the ledger has. The removal of such a backup was interrupted, or another program
        // has removed the backup.
        let known = try await knownBackups(in: repository, on: connection)
        for id in known.subtracting(try await repository.ids(of: open.name)).sorted() {
            try await connection.with {
                try BackupLedger.forget(
                    id: id, place: repository.store.place, isMissed: true, actor: actor, on: $0)
            }
            logger.warning(
                "a backup is no longer in the repository, and was removed from the ledger",
                [LogField("backup", id), LogField("repository", repository.store.place)])
        }
    }

    private func knownBackups(in repository: Repository, on connection: Connection) async throws -> Set<String> {
        let place = repository.store.place
        return try await connection.with { connection in
            Set(try BackupLedger.records(on: connection).filter { $0.place == place }.map(\.id))
        }
    }
}

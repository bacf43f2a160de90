import Backups
import Foundation
import Kernel
import Ledger
import Postgres
import Storage
import Telemetry

/// The removal of backups.
extension BackupWork {
    /// Returns the policy's decision about each backup in a repository.
    ///
    /// Any user who can write to the repository can store false backups and proofs there, so that the policy would keep
    /// these and remove real backups. Therefore a backup counts as proven only if the ledger records it as proven, and
    /// a backup with a time in the future is ignored.
    ///
    /// - Parameter damaged: called for each manifest that cannot be read, or whose times are not valid.
    /// - Throws: `LedgerError` or `PostgresError` if the database cannot be queried; `StorageError`.
    func decisions(
        _ repository: Repository, damaged: (BackupError) -> Void = { _ in }
    ) async throws -> [RetentionPolicy.Decision] {
        _ = try await repository.store.requireMark()
        let (proven, now) = try await evidence(of: repository.store.place)
        var candidates: [RetentionPolicy.Candidate] = []
        for manifest in try await repository.manifests(of: open.name, damaged: damaged) {
            let times = [manifest.startedAt, manifest.finishedAt].map { try? Timestamp.fromPostgres($0) }
            // A difference of one hour is allowed, because the clocks of machines differ a little.
            guard let began = times[0], let finished = times[1], max(began, finished) - .seconds(3600) <= now else {
                damaged(
                    .badManifest(
                        object: "\(open.name)/\(manifest.id)",
                        reason: "its times are implausible: \(manifest.startedAt) to \(manifest.finishedAt)"))
                continue
            }
            candidates.append(
                RetentionPolicy.Candidate(
                    id: manifest.id, finishedAt: finished, isProven: proven.contains(manifest.id)))
        }
        return BackupSettings.retention(configuration).decide(candidates, now: now)
    }

    /// Returns the backups in a repository that the ledger records as proven, and the time of the database's clock.
    private func evidence(of place: String) async throws -> (proven: Set<String>, now: Timestamp) {
        try await open.database.withDirectConnection(named: "reeve backup") { connection in
            try await connection.with { connection in
                let now: Timestamp? = try connection.query("SELECT clock_timestamp()").first?.get(0)
                guard let now else { throw PostgresError(.badValue, "the server did not return its time") }
                guard try LedgerSchema.isInstalled(on: connection) else { return ([], now) }
                let proven = try BackupLedger.records(on: connection).filter { $0.place == place && $0.provenAt != nil }
                return (Set(proven.map(\.id)), now)
            }
        }
    }

    /// Updates the ledger from the content of the repositories. Throws `BackupError.foreign` if the backups under this
    /// database's name in a repository belong to another database, because this database's policy must not be applied
    /// to them. A repository that does not answer is skipped; the next access to it reports the error.
    ///
    /// - Throws: `BackupError.foreign`, `.locked`; `PostgresError`.
    func reconcile(actor: String) async throws {
        try await alone { connection, _ in
            for repository in repositories {
                do {
                    try await reconcile(repository, actor: actor, on: connection)
                } catch is StorageError {}
            }
        }
    }

    /// Removes the backups that the policy does not keep. Applies the policy again under the lock, while no other
    /// process changes the backups.
    ///
    /// - Returns: the number of removed backups, and of freed bytes.
    func prune(actor: String) async throws -> (removed: Int, freed: Int) {
        try await alone { try await prune(actor: actor, on: $0, $1) }
    }

    /// Removes the objects that no manifest lists, which a killed process has left behind.
    ///
    /// - Returns: the number of freed bytes.
    func removeOrphans() async throws -> Int {
        try await alone { _, lock in
            var freed = 0
            var failure: StorageError?
            for repository in repositories {
                do {
                    freed += try await repository.removeOrphans(of: open.name, under: lock)
                } catch let error as StorageError {
                    failure = failure ?? error
                }
            }
            if let failure { throw failure }
            return freed
        }
    }

    private func prune(
        actor: String, on connection: Connection, _ lock: BackupLock
    ) async throws -> (removed: Int, freed: Int) {
        var sum = (removed: 0, freed: 0)
        var failure: StorageError?
        for repository in repositories {
            do {
                try await reconcile(repository, actor: actor, on: connection)
                let decided = try await decisions(repository) {
                    logger.warning("a backup is ignored", [LogField("error", $0)])
                }
                let leaving = Set(decided.filter { !$0.stays }.map(\.id))
                try await connection.with {
                    try BackupLedger.excuse(ids: leaving, place: repository.store.place, on: $0)
                }
                // A removal that was interrupted has left parts behind.
                sum.freed += try await repository.removeOrphans(of: open.name, under: lock)
                sum.freed += try await repository.remove(leaving, of: open.name, under: lock) { id in
                    sum.removed += 1
                    try await connection.with {
                        try BackupLedger.forget(id: id, place: repository.store.place, actor: actor, on: $0)
                    }
                }
            } catch let error as StorageError {
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
        return sum
    }
}

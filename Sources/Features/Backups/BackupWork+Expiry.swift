import Backups
import Foundation
import Kernel
import Ledger
import Postgres
import Storage
import Telemetry

/// Backups are removed.
extension BackupWork {
    /// What the policy says of each backup in a repository.
    ///
    /// Whoever may write to the repository can invent backups and proofs, and push out with them those that are there. So
    /// those are proven that the ledger knows as proven, and what says that it was made in the future does not count.
    ///
    /// - Parameter damaged: gets the manifests that cannot be read, or cannot be.
    /// - Throws: `LedgerError`, `PostgresError` where the database cannot be asked; `StorageError`.
    func decisions(
        _ repository: Repository, damaged: (BackupError) -> Void = { _ in }
    ) async throws -> [RetentionPolicy.Decision] {
        let (proven, now) = try await evidence(of: repository.store.place)
        var candidates: [RetentionPolicy.Candidate] = []
        for manifest in try await repository.manifests(of: open.name, damaged: damaged) {
            let times = [manifest.startedAt, manifest.finishedAt].map { try? Timestamp.fromPostgres($0) }
            // The clocks of machines differ a little.
            guard let began = times[0], let finished = times[1], max(began, finished) - .seconds(3600) <= now else {
                damaged(
                    .badManifest(
                        object: "\(open.name)/\(manifest.id)",
                        reason: "it says that it was made from \(manifest.startedAt) to \(manifest.finishedAt)"))
                continue
            }
            candidates.append(
                RetentionPolicy.Candidate(
                    id: manifest.id, finishedAt: finished, isProven: proven.contains(manifest.id)))
        }
        return BackupSettings.retention(configuration).decide(candidates, now: now)
    }

    /// The backups in a repository that the ledger knows as proven, and the time of the database's clock.
    private func evidence(of place: String) async throws -> (proven: Set<String>, now: Timestamp) {
        try await open.database.withDirectConnection(named: "reeve backup") { connection in
            try await connection.with { connection in
                let now: Timestamp? = try connection.query("SELECT clock_timestamp()").first?.get(0)
                guard let now else { throw PostgresError(.badValue, "the server's clock has no time") }
                guard try LedgerSchema.isInstalled(on: connection) else { return ([], now) }
                let proven = try BackupLedger.records(on: connection).filter { $0.place == place && $0.provenAt != nil }
                return (Set(proven.map(\.id)), now)
            }
        }
    }

    /// Brings the ledger up to what the repositories hold. Refuses to go on where the name in one belongs to another
    /// database, whose backups would be judged by this one's policy. A repository that does not answer is left to whoever
    /// asks it next.
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

    /// Removes what the policy does not keep, judged anew once no backup is being made.
    ///
    /// - Returns: how many backups went, and the bytes that were freed.
    func prune(actor: String) async throws -> (removed: Int, freed: Int) {
        try await alone { try await prune(actor: actor, on: $0, $1) }
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
                    logger.warning("a backup does not count", [LogField("error", $0)])
                }
                let leaving = Set(decided.filter { !$0.stays }.map(\.id))
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

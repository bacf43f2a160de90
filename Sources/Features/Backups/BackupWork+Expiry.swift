import Backups
import Foundation
import Kernel
import Ledger
import Postgres
import Storage

/// Backups are removed.
extension BackupWork {
    /// What the policy says of each backup in a repository.
    ///
    /// - Parameter damaged: gets the manifests that cannot be read.
    func decisions(
        _ repository: Repository, damaged: (BackupError) -> Void = { _ in }
    ) async throws -> [RetentionPolicy.Decision] {
        var candidates: [RetentionPolicy.Candidate] = []
        for manifest in try await repository.manifests(of: open.name, damaged: damaged) {
            guard let time = try? Timestamp.fromPostgres(manifest.finishedAt) else { continue }
            let proof = try await Proof.read(manifest, in: repository)
            candidates.append(
                RetentionPolicy.Candidate(
                    id: manifest.id, finishedAt: time.date, isProven: proof?.isProved == true))
        }
        return BackupSettings.retention(configuration).decide(candidates, now: Date())
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
                try await repository.claim(open.name, on: connection)
                let leaving = Set(try await decisions(repository).filter { !$0.stays }.map(\.id))
                sum.freed += try await repository.remove(leaving, of: open.name, under: lock)
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
}

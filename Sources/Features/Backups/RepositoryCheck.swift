import Backups
import Foundation
import Kernel
import Postgres
import Processes
import Reporting
import Storage

/// The check of one repository: its mark, its backups against the ledger, their age and proofs, the identities that
/// open them, and the room that the next backup and the next restore test need.
struct RepositoryCheck {
    let repository: Repository
    let name: String
    let identities: [String]
    let evidence: RepositoryReview.Evidence
    let scratchFolder: String

    /// How old the newest backup may be. Backups are daily by default.
    private static let backupAge: TimeInterval = 36 * 3600
    /// How old the newest proof may be. Restore tests are weekly by default.
    private static let proofAge: TimeInterval = 8 * 86400

    func findings() async -> [Finding] {
        do {
            let contents = try await repository.contents(of: name)
            let review = RepositoryReview(of: contents, against: evidence)
            var findings = review.problems.map { finding(.error, $0.description, $0.hint) }
            if contents.mark == nil { return findings }
            findings += review.unrecorded.sorted().map {
                let problem = RepositoryProblem.unrecorded(id: $0)
                return finding(.warning, problem.description, problem.hint)
            }
            findings += try await access()
            let manifests = contents.manifests.map(\.manifest)
            guard let newest = manifests.last else {
                let isTold = review.problems.contains { if case .emptied = $0 { true } else { false } }
                return findings
                    + (isTold ? [] : [finding(.error, "there are no backups", "make one with 'reeve backup create'")])
            }
            findings += age(of: newest)
            findings += try await proofs()
            findings += try await room(for: newest)
            findings += try await openings(manifests)
            return findings
        } catch {
            return [finding(.error, "\(error)", ErrorReport(error).hint ?? "check that the repository can be read")]
        }
    }

    private func finding(_ severity: Finding.Severity, _ evidence: String, _ mend: String) -> Finding {
        Finding("backups of \(name) in \(repository.store.place)", severity, evidence, mend: mend)
    }

    private func access() async throws -> [Finding] {
        let place = repository.store.place
        guard place.hasPrefix("/") else { return [] }
        let mayWrite = try await BoundedThreads.named(place).call(limit: .seconds(10)) {
            Foundation.access(place, W_OK) == 0
        }
        return mayWrite
            ? [] : [finding(.error, "this account may not write to it", "change the owner or the mode of the folder")]
    }

    private func age(of newest: Manifest) -> [Finding] {
        guard let time = try? Timestamp.fromPostgres(newest.finishedAt),
            time.date.timeIntervalSinceNow < -Self.backupAge
        else { return [] }
        return [
            finding(
                .warning, "the newest backup is more than 36 hours old: it was finished at \(newest.finishedAt)",
                "look for the reason in 'reeve task history --task backup'")
        ]
    }

    private func proofs() async throws -> [Finding] {
        guard let (manifest, proof) = try await repository.lastProven(of: name, against: evidence) else {
            return [
                finding(.error, "no backup has been proven by a restore test", "prove one with 'reeve backup test'")
            ]
        }
        guard let time = try? Timestamp.fromPostgres(proof.testedAt), time.date.timeIntervalSinceNow < -Self.proofAge
        else { return [] }
        return [
            finding(
                .warning,
                "the newest proof is more than 8 days old: backup \(manifest.id) was tested at \(proof.testedAt)",
                "prove the newest backup with 'reeve backup test'")
        ]
    }

    /// Finds places with less room than the last backup has needed.
    private func room(for newest: Manifest) async throws -> [Finding] {
        var findings: [Finding] = []
        let needed = max(newest.ownBytes, newest.bytes / 10)
        if let free = try await repository.store.freeBytes(), free < needed {
            findings.append(
                finding(
                    .error, "\(free >> 20) MiB are free, and a backup needs about \(needed >> 20) MiB",
                    "free some space, or remove old backups with 'reeve backup prune'"))
        }
        let folder = scratchFolder
        let free = try await BoundedThreads.named(folder).call(limit: .seconds(10)) { FolderStore(folder).freeBytes }
        if let free, free < newest.databaseBytes {
            findings.append(
                finding(
                    .warning,
                    "\(folder) has \(free >> 20) MiB free, and a restore test needs about "
                        + "\(newest.databaseBytes >> 20) MiB",
                    "set 'state' to a folder with more space"))
        }
        return findings
    }

    private func openings(_ manifests: [Manifest]) async throws -> [Finding] {
        let present = identities.filter { FileManager.default.fileExists(atPath: $0) }
        if present.isEmpty { return [] }
        let closed = try await repository.trials(manifests, identities: present).filter { $0.opening?.isEmpty == true }
        if closed.isEmpty { return [] }
        return [
            finding(
                .error, "none of the given identities opens \(closed.map(\.backup).joined(separator: ", "))",
                "'reeve backup show' lists the recipients of a backup: find the identity of one of its recipients; "
                    + "then encrypt the backups for the configured recipients with 'reeve backup key rewrap'")
        ]
    }
}

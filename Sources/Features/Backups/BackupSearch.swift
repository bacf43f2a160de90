import Backups
import Kernel
import Postgres
import Storage

/// A backup and the repository in which it was found.
struct FoundBackup: Sendable {
    let repository: Repository
    let stored: StoredManifest
    var manifest: Manifest { stored.manifest }
    fileprivate var order: (Timestamp, String) { (manifest.began, manifest.id) }
}

/// Finds a backup in several repositories, and refuses one that cannot be relied on.
struct BackupSearch {
    /// What is used although something speaks against it.
    struct Allowance: OptionSet, Sendable {
        let rawValue: Int
        /// An older backup than the newest one that is known.
        static let older = Allowance(rawValue: 1)
        /// A backup that is not the one that the ledger records, is not signed, or is of another database.
        static let unverified = Allowance(rawValue: 2)
    }

    let database: String
    let repositories: [Repository]
    let evidence: RepositoryReview.Evidence
    let allowing: Allowance
    let note: BackupWork.Note

    /// - Parameter id: the ID of the backup, or `latest`.
    /// - Throws: `BackupError.unknown`; `.review` for a backup that cannot be relied on; `.older`; `StorageError`.
    func find(_ id: String) async throws -> FoundBackup {
        if id == "latest" { return try await newest(id) }
        var first: (any Error)?
        for repository in repositories {
            do {
                return FoundBackup(repository: repository, stored: try await sound(id, in: repository))
            } catch BackupError.unknown {
                continue
            } catch {
                first = first ?? error
            }
        }
        if let first { throw first }
        var known: Set<String> = []
        for repository in repositories { known.formUnion((try? await repository.ids(of: database)) ?? []) }
        throw BackupError.unknown(id: id, known: known.sorted())
    }

    private func sound(_ id: String, in repository: Repository) async throws -> StoredManifest {
        let stored = try await repository.stored(id, of: database)
        let contents = RepositoryReview.Contents(
            place: repository.store.place, mark: try await repository.store.mark()?.id, manifests: [stored])
        let review = RepositoryReview(of: contents, against: evidence)
        guard review.sound.isEmpty, let problem = review.problems.first(where: { $0.id == id || $0.id == nil }) else {
            if !review.unrecorded.isEmpty { note("warning: \(RepositoryProblem.unrecorded(id: id))") }
            return stored
        }
        if allowing.contains(.unverified) {
            note("warning: \(repository.store.place): \(problem)")
            return stored
        }
        throw BackupError.review(place: repository.store.place, problem)
    }

    /// Returns the newest backup of all repositories that answer.
    ///
    /// - Parameters:
    ///   - wanted: the name by which the backup was requested, for the error.
    ///   - time: if given, only backups that began at or before this time are considered.
    /// - Throws: `BackupError.older` if a newer backup is known; `.unknown` if no repository has a backup;
    ///   `StorageError` instead if a repository could not be searched, and no other repository has a backup.
    func newest(_ wanted: String, by time: Timestamp? = nil) async throws -> FoundBackup {
        var found: FoundBackup?
        var reviewed: [RepositoryReview.Reviewed] = []
        var failure: StorageError?
        for repository in repositories {
            do {
                let one = RepositoryReview.Reviewed(try await repository.contents(of: database), against: evidence)
                reviewed.append(one)
                for problem in one.review.problems {
                    note("warning: \(repository.store.place): \(problem)")
                }
                let usable = allowing.contains(.unverified) ? one.contents.manifests : one.review.usable
                guard let last = usable.last(where: { one in time.map { one.manifest.began <= $0 } ?? true }) else {
                    continue
                }
                let new = FoundBackup(repository: repository, stored: last)
                if let found, new.order <= found.order { continue }
                found = new
            } catch let error as StorageError {
                failure = failure ?? error
                note("warning: \(repository.store.place) could not be searched, and may have a newer backup: \(error)")
            }
        }
        // If no repository can be relied on, its own problem says more than its backups.
        if found == nil, let one = reviewed.first(where: { $0.review.problems.first.map { $0.id == nil } == true }),
            let problem = one.review.problems.first
        {
            throw BackupError.review(place: one.contents.place, problem)
        }
        let unrecorded = Set(reviewed.flatMap(\.review.unrecorded))
        if found == nil, let last = unrecorded.max(), let one = reviewed.first {
            throw BackupError.review(place: one.contents.place, .unrecorded(id: last))
        }
        for id in unrecorded.sorted() { note("warning: \(RepositoryProblem.unrecorded(id: id))") }
        if let newer = RepositoryReview.newer(than: found?.manifest, in: reviewed, evidence, by: time) {
            let error = BackupError.older(found: found?.manifest.id, known: newer)
            guard allowing.contains(.older), found != nil else { throw error }
            note("warning: \(error)")
        }
        if let found { return found }
        throw failure ?? BackupError.unknown(id: wanted)
    }
}

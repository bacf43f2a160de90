import Foundation
import Processes
import Storage

/// The result of a verification of backups.
public struct Verification: Sendable {
    /// The number of parts that the manifests refer to.
    public fileprivate(set) var parts = 0
    /// The number of parts that were read to their end.
    public fileprivate(set) var read = 0
    /// The number of parts that were read but not decrypted, because no age identity was given. Only their hashes were
    /// compared.
    public fileprivate(set) var unopened = 0
    /// The number of bytes that were read.
    public fileprivate(set) var bytes = 0
    /// Missing or damaged parts and manifests, and failed repositories.
    public fileprivate(set) var problems: [BackupError] = []
    /// The errors of parts that could not be checked, for example because a program was killed. Such an error does not
    /// show whether the part is damaged.
    public fileprivate(set) var untried: [BackupError] = []
    /// Objects that no manifest refers to. They belong to an interrupted backup, or to a running one. They are not
    /// problems: the next backup removes the objects of interrupted backups.
    public fileprivate(set) var orphans: [String] = []

    fileprivate mutating func add(_ other: Verification) {
        parts += other.parts
        read += other.read
        unopened += other.unopened
        bytes += other.bytes
        problems += other.problems
        untried += other.untried
        orphans += other.orphans
    }
}

/// Verifies the backups of a database in several repositories. A failed repository is reported as a problem; the others
/// are still verified.
public struct BackupVerifier: Sendable {
    /// Which backups are verified.
    public enum Selection: Sendable {
        case all
        /// The backup with this ID, or, for `latest`, the newest backup of each repository.
        case one(String)
    }

    private let repositories: [Repository]
    private let database: String
    /// The backups that are verified.
    public var selection = Selection.all
    /// The share of the parts that are read, between 0 and 1. At least one part of each backup is read.
    public var share = 1.0
    /// The file with the age identity. Without it, encrypted parts are not decrypted.
    public var identity: String?
    /// What is known about the backups from elsewhere.
    public var evidence = RepositoryReview.Evidence()

    public init(_ repositories: [Repository], of database: String) {
        self.repositories = repositories
        self.database = database
    }

    /// - Throws: `BackupError.unknown` if one backup is selected and no repository has it; `CancellationError`.
    public func verify() async throws -> Verification {
        var result = Verification()
        var lacking: [BackupError] = []
        for repository in repositories {
            do {
                result.problems += try await review(repository)
                result.add(
                    try await repository.verify(
                        try await manifests(in: repository), of: database, share: share, identity: identity))
            } catch let error as BackupError {
                switch error {
                case .unknown:
                    lacking.append(error)
                    result.problems.append(.noBackup(place: repository.store.place))
                // Continue, because the other repositories may have a valid copy of the manifest.
                case .badManifest: result.problems.append(error)
                default: throw error
                }
            } catch let error as StorageError {
                result.problems.append(.unreachable(place: repository.store.place, reason: "\(error)"))
            }
        }
        if lacking.count == repositories.count, let error = lacking.first { throw error }
        return result
    }

    /// Returns what is wrong with the repository as a whole. Damaged manifests are found by the verification itself.
    private func review(_ repository: Repository) async throws -> [BackupError] {
        let problems = RepositoryReview(of: try await repository.contents(of: database), against: evidence).problems
        return problems.compactMap { problem in
            if case .damaged = problem { return nil }
            return .review(place: repository.store.place, problem)
        }
    }

    private func manifests(in repository: Repository) async throws -> [Manifest] {
        switch selection {
        case .all: try await repository.manifests(of: database)
        case .one(let id): [try await repository.manifest(id, of: database)]
        }
    }
}

extension Repository {
    /// Checks that each part of the backups exists and has the recorded size. Reads all parts, or a sample of them, to
    /// compare their hashes and to unpack them.
    ///
    /// - Parameters:
    ///   - share: the share of the parts that are read, between 0 and 1; at least one part of each backup.
    ///   - identity: the file with the age identity. Without it, encrypted parts are not decrypted: only their hashes
    ///     are compared.
    /// - Throws: `StorageError` if the store does not answer.
    func verify(
        _ manifests: [Manifest], of database: String, share: Double = 1, identity: String? = nil
    ) async throws -> Verification {
        var result = Verification()
        var damaged: [BackupError] = []
        let known = try await self.manifests(of: database) { damaged.append($0) }
        let objects = try await store.list("\(database)/")
        let sizes = Dictionary(objects.map { ($0.name, $0.bytes) }) { one, _ in one }
        result.problems = damaged
        var seen: Set<String> = []
        for manifest in manifests {
            let parts = manifest.parts.filter { seen.insert($0.object).inserted }
            let sample = Set(
                parts.shuffled().prefix(max(1, Int((Double(parts.count) * share).rounded(.up)))).map(\.object))
            for part in parts {
                result.parts += 1
                do {
                    guard try await isThere(part, of: manifest, sizes), sample.contains(part.object) else { continue }
                    let isEncrypted = !manifest.recipients.isEmpty
                    try await read(part, of: manifest, identity)
                    result.bytes += part.bytes
                    result.read += 1
                    if isEncrypted, identity == nil { result.unopened += 1 }
                } catch let error as BackupError {
                    if case .notRestored = error { result.untried.append(error) } else { result.problems.append(error) }
                }
            }
        }
        result.orphans = Self.orphans(objects, known)
        return result
    }

    /// Returns the objects that no manifest refers to. Manifests, test results next to a manifest, and `owner.json` are
    /// not included, and neither are files that Reeve has not written.
    static func orphans(_ objects: [StoredObject], _ manifests: [Manifest]) -> [String] {
        let parts = Set(manifests.flatMap { $0.parts.map(\.object) })
        let names = objects.map(\.name)
        let beside = ([Manifest.name] + Proof.objects).map { "/\($0)" }
        let folders = names.filter { $0.hasSuffix(beside[0]) }.map { $0.dropLast(beside[0].count) }
        let kept = Set(folders.flatMap { folder in beside.map { folder + $0 } })
        let isOwner = { (name: String) in
            name.split(separator: "/").count == 2 && name.hasSuffix("/\(RepositoryOwner.name)")
        }
        return names.filter {
            !parts.contains($0) && !kept.contains($0[...]) && !isOwner($0) && Repository.isOurs($0)
        }
    }

    /// Checks that the store's listing contains a part, with the recorded size. A part that is not listed also passes
    /// if it has been rewritten as another object since the listing.
    ///
    /// - Returns: false if the part's backup has been removed since the listing.
    /// - Throws: `BackupError.part`; `StorageError`.
    private func isThere(_ part: Manifest.Part, of manifest: Manifest, _ sizes: [String: Int]) async throws -> Bool {
        if sizes[part.object] == nil {
            guard let now = try await current(part, of: manifest) else { return false }
            if now.object != part.object { return true }
        }
        try checkSize(part, sizes[part.object])
        return true
    }

    /// Checks that each part of a backup exists and has the recorded size.
    ///
    /// - Throws: `BackupError.part`; `StorageError`.
    func checkPresence(_ manifest: Manifest) async throws {
        let sizes = Dictionary(try await store.list("\(manifest.database)/").map { ($0.name, $0.bytes) }) { one, _ in
            one
        }
        for part in manifest.parts { try checkSize(part, sizes[part.object]) }
    }

    private func checkSize(_ part: Manifest.Part, _ size: Int?) throws {
        guard let size else { throw BackupError.part(object: part.object, reason: "it is missing") }
        guard size == part.bytes else {
            throw BackupError.part(object: part.object, reason: "it has \(size) bytes, not \(part.bytes)")
        }
    }

    private func read(_ part: Manifest.Part, of manifest: Manifest, _ identity: String?) async throws {
        let isEncrypted = !manifest.recipients.isEmpty
        if isEncrypted, identity == nil { return try await reading(part, of: manifest) { try await $0.readRest() } }
        let check = FormatCheck(part.format)
        do {
            try await reading(part, of: manifest) {
                try await $0.run(BackupTools.unpacking(identity, isEncrypted: isEncrypted)) { check.take($0) }
            }
        } catch let error as PipelineError {
            throw BackupError(for: error, part)
        }
        if let problem = check.problem() {
            throw BackupError.part(object: part.object, reason: "when unpacked, \(problem)")
        }
    }
}

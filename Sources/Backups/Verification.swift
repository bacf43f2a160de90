import Foundation
import Processes
import Storage

/// What the verification of backups found.
public struct Verification: Sendable {
    /// The parts that the manifests name.
    public fileprivate(set) var parts = 0
    /// The parts that were read to their end.
    public fileprivate(set) var read = 0
    /// The parts that were read, but not opened, for lack of an identity: only their bytes were compared.
    public fileprivate(set) var unopened = 0
    /// The bytes that were read.
    public fileprivate(set) var bytes = 0
    /// Missing or damaged parts and manifests, and failed repositories.
    public fileprivate(set) var problems: [BackupError] = []
    /// Parts that could not be tried, as where a program was killed: that says nothing of them.
    public fileprivate(set) var untried: [BackupError] = []
    /// Objects that no manifest names: those of an interrupted backup, or of one that is being made. They are not
    /// problems: the next backup removes the orphans of interrupted ones.
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

/// Verifies the backups of a database in several repositories. A failed repository is a problem; the others are still
/// verified.
public struct BackupVerifier: Sendable {
    /// Which backups are verified.
    public enum Selection: Sendable {
        case all
        /// The one with this ID, or, with `latest`, the newest of each repository.
        case one(String)
    }

    private let repositories: [Repository]
    private let database: String
    /// Which backups are verified.
    public var selection = Selection.all
    /// The share of the parts that are read, between 0 and 1; at least one part of each backup.
    public var share = 1.0
    /// The file with the age identity. Without it the contents of encrypted parts are not opened.
    public var identity: String?

    public init(_ repositories: [Repository], of database: String) {
        self.repositories = repositories
        self.database = database
    }

    /// - Throws: `BackupError.unknown` when no repository has the one backup; `CancellationError`.
    public func verify() async throws -> Verification {
        var result = Verification()
        var lacking: [BackupError] = []
        for repository in repositories {
            do {
                result.add(
                    try await repository.verify(
                        try await manifests(in: repository), of: database, share: share, identity: identity))
            } catch let error as BackupError {
                switch error {
                case .unknown:
                    lacking.append(error)
                    result.problems.append(.noBackup(place: repository.store.place))
                // The others may have it whole.
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

    private func manifests(in repository: Repository) async throws -> [Manifest] {
        switch selection {
        case .all: try await repository.manifests(of: database)
        case .one(let id): [try await repository.manifest(id, of: database)]
        }
    }
}

extension Repository {
    /// Looks whether each part of the backups is there and of its size, and reads them, or a sample, to compare the hash and
    /// to unpack them.
    ///
    /// - Parameters:
    ///   - share: of the parts that are read, between 0 and 1; at least one of each backup.
    ///   - identity: opens what is encrypted; without it only the hashes of that are compared.
    /// - Throws: `StorageError` where the store does not answer.
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

    /// Objects that no manifest names: neither parts nor what lies beside a manifest.
    static func orphans(_ objects: [StoredObject], _ manifests: [Manifest]) -> [String] {
        let parts = Set(manifests.flatMap { $0.parts.map(\.object) })
        let names = objects.map(\.name)
        let beside = ["/\(Manifest.name)", "/\(Proof.name)", "/\(Proof.reportName)"]
        let folders = names.filter { $0.hasSuffix(beside[0]) }.map { $0.dropLast(beside[0].count) }
        let kept = Set(folders.flatMap { folder in beside.map { folder + $0 } })
        let isOwner = { (name: String) in
            name.split(separator: "/").count == 2 && name.hasSuffix("/\(RepositoryOwner.name)")
        }
        return names.filter { !parts.contains($0) && !kept.contains($0[...]) && !isOwner($0) }
    }

    /// Looks whether a part is among the objects that were listed, of its size, or was written anew since.
    ///
    /// - Returns: false where its backup was removed since.
    /// - Throws: `BackupError.part`; `StorageError`.
    private func isThere(_ part: Manifest.Part, of manifest: Manifest, _ sizes: [String: Int]) async throws -> Bool {
        if sizes[part.object] == nil {
            guard let now = try await current(part, of: manifest) else { return false }
            if now.object != part.object { return true }
        }
        try checkSize(part, sizes[part.object])
        return true
    }

    /// Looks whether each part of a backup is there and of its size.
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
            throw BackupError.part(object: part.object, reason: "decompressed, \(problem)")
        }
    }
}

import Foundation
import Hashing
import Processes
import Storage

/// The repositories that one backup is written to concurrently. A repository that fails is skipped from then on; if the
/// last one fails, the backup fails.
final class Destinations: @unchecked Sendable {
    // `failures` is under the lock.
    private let repositories: [Repository]
    private let throttle: Throttle?
    private let lock = NSLock()
    private var failures: [Int: any Error] = [:]

    init(_ repositories: [Repository], bytesPerSecond: Int?) {
        self.repositories = repositories
        throttle = bytesPerSecond.map(Throttle.init)
    }

    /// The repositories that have not failed.
    var live: [Repository] {
        lock.withLock { repositories.indices.filter { failures[$0] == nil }.map { repositories[$0] } }
    }

    /// The repositories that have failed, and their errors.
    var failed: [(place: String, error: any Error)] {
        lock.withLock { failures.sorted { $0.key < $1.key }.map { (repositories[$0.key].store.place, $0.value) } }
    }

    /// The repositories for which another attempt is worth the time: all except those that have failed because they did
    /// not answer.
    var answering: [Repository] {
        lock.withLock {
            repositories.indices.filter { index in
                switch failures[index] as? StorageError {
                case .late, .hung: false
                default: true
                }
            }.map { repositories[$0] }
        }
    }

    func hasFailed(_ index: Int) -> Bool { lock.withLock { failures[index] != nil } }

    /// Runs an operation concurrently on all repositories that have not failed, so that a repository that hangs does
    /// not delay the others.
    ///
    /// - Throws: the error of the repository that fails last, if all have failed; `CancellationError`.
    func each(_ body: @escaping @Sendable (Repository) async throws -> Void) async throws {
        try await each(repositories.indices.map { $0 }) { [repositories] in try await body(repositories[$0]) }
    }

    fileprivate func each(_ indices: [Int], _ body: @escaping @Sendable (Int) async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in indices where !hasFailed(index) {
                group.addTask { [self] in
                    do { try await body(index) } catch { try fail(index, error) }
                }
            }
            for try await _ in group {}
        }
    }

    /// Records the failure of a repository.
    ///
    /// - Throws: the error, if all repositories have failed now, or if it is a `CancellationError`.
    func fail(_ index: Int, _ error: any Error) throws {
        if error is CancellationError { throw error }
        let isLast = lock.withLock {
            failures[index] = failures[index] ?? error
            return failures.count == repositories.count
        }
        if isLast { throw error }
    }

    /// Begins a part in each repository that has not failed.
    func open(_ object: String) throws -> PartSink {
        var writers: [Int: StreamWriter] = [:]
        for index in repositories.indices where !hasFailed(index) {
            do { writers[index] = try repositories[index].store.writer(of: object) } catch { try fail(index, error) }
        }
        return PartSink(self, writers, throttle)
    }

    /// Returns the newest backup that any repository has, and that can be relied on. A new backup refers to its parts,
    /// and vouches for them.
    ///
    /// - Throws: the error of the last repository, if all have failed.
    func newest(of database: String, against evidence: RepositoryReview.Evidence) async throws -> StoredManifest? {
        let found = Gathered<StoredManifest>()
        try await each { repository in
            let review = RepositoryReview(of: try await repository.contents(of: database), against: evidence)
            if let last = review.usable.last { found.add([last]) }
        }
        return found.all.max { ($0.manifest.began, $0.manifest.id) < ($1.manifest.began, $1.manifest.id) }
    }

    /// Returns the names of those parts of an earlier backup that may be reused. A part may be reused if every
    /// repository has it, and if the backup that wrote the part has not failed its last test in any repository. If
    /// `manifest` itself has failed its last test in a repository, no part may be reused.
    func common(_ manifest: Manifest) async throws -> Set<String> {
        let parts = manifest.parts
        // The parts are grouped by the backup that has written them.
        let makers = Dictionary(grouping: parts.map(\.object)) {
            $0.split(separator: "/").dropLast().joined(separator: "/")
        }
        let there = Gathered<Set<String>>()
        try await each { repository in
            let sizes = Dictionary(
                try await repository.store.list("\(manifest.database)/").map { ($0.name, $0.bytes) }
            ) { one, _ in one }
            var good = Set(parts.filter { sizes[$0.object] == $0.bytes }.map(\.object))
            for (maker, objects) in makers where sizes["\(maker)/\(Proof.name)"] != nil {
                if try await Proof.isRefuted(maker, in: repository) { good.subtract(objects) }
            }
            // Reuse nothing if the backup cannot be restored, because any of its parts may be the damaged one.
            if try await Proof.isRefuted(manifest.prefix, in: repository) { good = [] }
            there.add([good])
        }
        return there.all.reduce(Set(parts.map(\.object))) { $0.intersection($1) }
    }
}

extension Proof {
    /// Whether the newest test of a backup has shown that the backup cannot be restored, or has left a result that
    /// cannot be read.
    ///
    /// - Parameter prefix: the prefix of the backup's objects, `DATABASE/ID`.
    fileprivate static func isRefuted(_ prefix: String, in repository: Repository) async throws -> Bool {
        do {
            let bytes = try await repository.store.bytes(of: "\(prefix)/\(name)")
            return (try? JSONDecoder().decode(Proof.self, from: Data(bytes)))?.isProved != true
        } catch StorageError.missing {
            return false
        }
    }
}

/// Writes an object to each repository, and computes its hash.
final class PartSink: @unchecked Sendable {
    // Only the pipeline's thread uses the mutable state until that thread has ended.
    private let destinations: Destinations
    private let writers: [Int: StreamWriter]
    private let throttle: Throttle?
    private var digest: Digest? = Digest()
    private var count = 0

    fileprivate init(_ destinations: Destinations, _ writers: [Int: StreamWriter], _ throttle: Throttle?) {
        self.destinations = destinations
        self.writers = writers
        self.throttle = throttle
    }

    /// Runs `body`, which calls `take`. If this task is cancelled, the thread that waits in `take` is released.
    func letGoOnCancel(_ body: () async throws -> Void) async throws {
        try await withTaskCancellationHandler {
            try await body()
        } onCancel: {
            for writer in writers.values { writer.letGo() }
        }
    }

    /// Writes bytes. Blocks the calling thread, which must be a dedicated one.
    func take(_ bytes: UnsafeRawBufferPointer) throws {
        throttle?.pass(bytes.count * writers.count)
        for (index, writer) in writers where !destinations.hasFailed(index) {
            do { try writer.push(bytes) } catch { try destinations.fail(index, error) }
        }
        digest?.update(bytes)
        count += bytes.count
    }

    /// Completes the object in each repository that has not failed.
    ///
    /// - Returns: the object's size and SHA-256.
    func commit() async throws -> (bytes: Int, sha256: String) {
        let writers = writers
        try await destinations.each(writers.keys.sorted()) { try await writers[$0]?.commit() }
        // Leave nothing in repositories that have failed in the meantime.
        for (index, writer) in writers where destinations.hasFailed(index) { await writer.discard() }
        guard let digest = digest.take() else { return (count, "") }
        return (count, Digest.hex(digest.finish()))
    }

    func discard() async {
        await withTaskGroup(of: Void.self) { group in
            for writer in writers.values { group.addTask { await writer.discard() } }
        }
    }
}

/// Limits the bytes per second of all callers together.
final class Throttle: @unchecked Sendable {
    // `free` is under the lock.
    private let bytesPerSecond: Int
    private var free = ContinuousClock.now
    private let lock = NSLock()

    init(_ bytesPerSecond: Int) { self.bytesPerSecond = bytesPerSecond }

    /// Waits until the bytes may be written.
    func pass(_ bytes: Int) {
        let wait = lock.withLock {
            let now = ContinuousClock.now
            free = max(free, now) + .seconds(1) * (Double(bytes) / Double(bytesPerSecond))
            return free - now
        }
        if wait > .milliseconds(1) { Thread.sleep(forTimeInterval: wait / .seconds(1)) }
    }
}

import Foundation
import Hashing
import Processes
import Storage

/// The repositories that one backup is written into at the same time. One that fails is left alone from then on; when the
/// last one fails, the backup does.
final class Destinations: @unchecked Sendable {
    // The failures are under the lock.
    private let repositories: [Repository]
    private let throttle: Throttle?
    private let lock = NSLock()
    private var failures: [Int: any Error] = [:]

    init(_ repositories: [Repository], bytesPerSecond: Int?) {
        self.repositories = repositories
        throttle = bytesPerSecond.map(Throttle.init)
    }

    /// Those that have not failed.
    var live: [Repository] {
        lock.withLock { repositories.indices.filter { failures[$0] == nil }.map { repositories[$0] } }
    }

    /// Where the backup is not, and why.
    var failed: [(place: String, error: any Error)] {
        lock.withLock { failures.sorted { $0.key < $1.key }.map { (repositories[$0.key].store.place, $0.value) } }
    }

    /// Those that are not known to be away, so that trying them once more is worth the time.
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

    /// Does something with each that has not failed, with all at once: one that hangs holds up no other.
    ///
    /// - Throws: the last one's error when none is left; `CancellationError`.
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

    /// - Throws: the error, if no repository is left, or if the repository did not cause it.
    func fail(_ index: Int, _ error: any Error) throws {
        if error is CancellationError { throw error }
        let isLast = lock.withLock {
            failures[index] = failures[index] ?? error
            return failures.count == repositories.count
        }
        if isLast { throw error }
    }

    /// Begins a part in each.
    func open(_ object: String) throws -> PartSink {
        var writers: [Int: StreamWriter] = [:]
        for index in repositories.indices where !hasFailed(index) {
            do { writers[index] = try repositories[index].store.writer(of: object) } catch { try fail(index, error) }
        }
        return PartSink(self, writers, throttle)
    }

    /// The newest backup of the first that tells, where it is one for these recipients.
    func newest(of database: String, for recipients: [String]) async throws -> Manifest? {
        for index in repositories.indices where !hasFailed(index) {
            do {
                let last = try await repositories[index].manifests(of: database).last
                return last?.recipients == recipients ? last : nil
            } catch {
                try fail(index, error)
            }
        }
        return nil
    }

    /// The parts of an earlier backup that every one of them has, by object; none of a backup whose last test has shown
    /// anywhere that it does not restore.
    func common(_ manifest: Manifest) async throws -> Set<String> {
        let parts = manifest.parts
        // By the backup that has written them.
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
            // Any of its parts may be the damaged one.
            if try await Proof.isRefuted(manifest.prefix, in: repository) { good = [] }
            there.add([good])
        }
        return there.all.reduce(Set(parts.map(\.object))) { $0.intersection($1) }
    }
}

extension Proof {
    /// Whether the newest test of a backup has shown that it does not restore, or has left what cannot be read.
    ///
    /// - Parameter prefix: of the backup's objects.
    fileprivate static func isRefuted(_ prefix: String, in repository: Repository) async throws -> Bool {
        do {
            let bytes = try await repository.store.bytes(of: "\(prefix)/\(name)")
            return (try? JSONDecoder().decode(Proof.self, from: Data(bytes)))?.isProved != true
        } catch StorageError.missing {
            return false
        }
    }
}

/// Writes an object into each repository, and hashes what is written.
final class PartSink: @unchecked Sendable {
    // What changes is used by the pipeline's thread alone until that has ended.
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

    /// Does what calls `take`, and lets go of the thread that waits in there when this task is cancelled.
    func letGoOnCancel(_ body: () async throws -> Void) async throws {
        try await withTaskCancellationHandler {
            try await body()
        } onCancel: {
            for writer in writers.values { writer.letGo() }
        }
    }

    /// Blocks the calling thread, which must be the caller's own.
    func take(_ bytes: UnsafeRawBufferPointer) throws {
        throttle?.pass(bytes.count * writers.count)
        for (index, writer) in writers where !destinations.hasFailed(index) {
            do { try writer.push(bytes) } catch { try destinations.fail(index, error) }
        }
        digest?.update(bytes)
        count += bytes.count
    }

    /// - Returns: the object's size and SHA-256.
    func commit() async throws -> (bytes: Int, sha256: String) {
        let writers = writers
        try await destinations.each(writers.keys.sorted()) { try await writers[$0]?.commit() }
        // Nothing remains in repositories that have failed meanwhile.
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

/// Lets so many bytes a second pass, over all who ask together.
final class Throttle: @unchecked Sendable {
    // The time is under the lock.
    private let bytesPerSecond: Int
    private var free = ContinuousClock.now
    private let lock = NSLock()

    init(_ bytesPerSecond: Int) { self.bytesPerSecond = bytesPerSecond }

    /// Waits until the bytes may go.
    func pass(_ bytes: Int) {
        let wait = lock.withLock {
            let now = ContinuousClock.now
            free = max(free, now) + .seconds(1) * (Double(bytes) / Double(bytesPerSecond))
            return free - now
        }
        if wait > .milliseconds(1) { Thread.sleep(forTimeInterval: wait / .seconds(1)) }
    }
}

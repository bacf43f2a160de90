import Foundation
import Hashing
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

    /// Does something with each that has not failed.
    ///
    /// - Throws: the last one's error when none is left.
    func each(_ body: (Repository) throws -> Void) throws {
        for index in repositories.indices where lock.withLock({ failures[index] == nil }) {
            do { try body(repositories[index]) } catch { try fail(index, error) }
        }
    }

    func fail(_ index: Int, _ error: any Error) throws {
        let isLast = lock.withLock {
            failures[index] = failures[index] ?? error
            return failures.count == repositories.count
        }
        if isLast { throw error }
    }

    /// Begins a part in each.
    func open(_ object: String) throws -> PartSink {
        var writers: [Int: any ObjectWriter] = [:]
        for index in repositories.indices where lock.withLock({ failures[index] == nil }) {
            do { writers[index] = try repositories[index].store.write(object) } catch { try fail(index, error) }
        }
        return PartSink(self, writers, throttle)
    }

    /// The parts of an earlier backup that every one of them has, by object.
    func common(_ parts: [Manifest.Part], of database: String) throws -> Set<String> {
        var common = Set(parts.map(\.object))
        try each { repository in
            let there = Dictionary(try repository.store.list("\(database)/").map { ($0.name, $0.bytes) }) { one, _ in
                one
            }
            common.formIntersection(parts.filter { there[$0.object] == $0.bytes }.map(\.object))
        }
        return common
    }
}

/// Writes an object into each repository, and hashes what is written.
final class PartSink: @unchecked Sendable {
    // Used by the pipeline's thread alone until that has ended.
    private let destinations: Destinations
    private var writers: [Int: any ObjectWriter]
    private let throttle: Throttle?
    private var digest: Digest? = Digest()
    private var count = 0

    init(_ destinations: Destinations, _ writers: [Int: any ObjectWriter], _ throttle: Throttle?) {
        self.destinations = destinations
        self.writers = writers
        self.throttle = throttle
    }

    func take(_ bytes: UnsafeRawBufferPointer) throws {
        throttle?.pass(bytes.count * writers.count)
        try each { try $0.write(bytes) }
        digest?.update(bytes)
        count += bytes.count
    }

    /// - Returns: the object's size and SHA-256.
    func commit() throws -> (bytes: Int, sha256: String) {
        try each { try $0.commit() }
        guard let digest = digest.take() else { return (count, "") }
        return (count, Digest.hex(digest.finish()))
    }

    func discard() { for writer in writers.values { writer.discard() } }

    private func each(_ body: (any ObjectWriter) throws -> Void) throws {
        for (index, writer) in writers {
            do {
                try body(writer)
            } catch {
                writer.discard()
                writers[index] = nil
                try destinations.fail(index, error)
            }
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

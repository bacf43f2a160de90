import Foundation
import Processes

/// Writes one object on a thread of its own, a little behind. Without `commit` there is nothing of it.
///
/// `push` waits on the calling thread, which is one's own: a pipeline's.
public final class StreamWriter: @unchecked Sendable {
    // What changes is under the lock.
    private let store: any ObjectStore
    private let name: String
    private let object: String
    private let limits: BoundedStore.Limits
    private let lane: BoundedThreads.Lane
    private let stop: StopFlag
    private let feed = ByteFeed()
    /// What is told of it: it has committed, or why not.
    private let outcome = Settlement<Void>()
    /// The end of the thread, which may come after that.
    private let ended = Settlement<Void>()
    private let lock = NSLock()
    private var hasBegun = false
    private var mayCommit = false
    private var failure: (any Error)?

    /// How long the thread of what is not wanted any more may take to end.
    private static let patience: Duration = .seconds(3)

    private struct NotCommitted: Error {}

    init(
        _ store: any ObjectStore, _ name: String, _ object: String, _ limits: BoundedStore.Limits,
        _ lane: BoundedThreads.Lane, _ stop: StopFlag
    ) {
        self.store = store
        self.name = name
        self.object = object
        self.limits = limits
        self.lane = lane
        self.stop = stop
    }

    /// Takes a piece, and waits while too much lies before it.
    ///
    /// - Throws: what writing has thrown; `StorageError.late`; `CancellationError` once it is let go.
    public func push(_ bytes: UnsafeRawBufferPointer) throws {
        begin()
        do {
            try feed.push(bytes, within: limits.stall)
        } catch is ByteFeed.Late {
            let late = StorageError.late(operation: "write", object: object, limit: limits.stall)
            giveUp(late)
            throw late
        } catch is ByteFeed.Closed {
            throw lock.withLock { failure } ?? CancellationError()
        }
    }

    /// Makes the object durable and visible at once.
    public func commit() async throws {
        lock.withLock { mayCommit = true }
        begin()
        feed.finish()
        let limit = limits.stall
        Deadline.after(limit) { [weak self] in
            guard let self else { return }
            giveUp(StorageError.late(operation: "write", object: object, limit: limit))
        }
        try await withTaskCancellationHandler {
            try await outcome.value()
        } onCancel: {
            giveUp(CancellationError())
        }
    }

    /// Lets go of who pushes; `discard` comes after.
    public func letGo() { feed.close() }

    /// Removes what there is of it, unless it was committed; waits for that a moment, also when it was given up: its thread
    /// may be about to rename the object into place.
    public func discard() async {
        guard lock.withLock({ hasBegun }) else { return }
        feed.close()
        Deadline.after(Self.patience) { [weak self] in
            guard let self else { return }
            giveUp(CancellationError())
            ended.settle(.success(()))
        }
        _ = try? await ended.value()
    }

    /// Leaves the thread to itself.
    private func giveUp(_ error: any Error) {
        // At once, for the thread looks at it before it commits.
        guard
            lock.withLock({
                guard outcome.settle(.failure(error)) else { return false }
                failure = failure ?? error
                return true
            })
        else { return }
        feed.close()
        stop.raise()
        lane.leave()
    }

    private func begin() {
        let isFirst = lock.withLock {
            defer { hasBegun = true }
            return !hasBegun
        }
        guard isFirst else { return }
        let thread = Thread { [self] in work() }
        thread.name = "write"
        thread.start()
    }

    private func work() {
        var writer: (any ObjectWriter)?
        do {
            let opened = try store.write(name)
            writer = opened
            while let piece = try feed.next() { try piece.withUnsafeBytes { try opened.write($0) } }
            // Not what was given up meanwhile, and told as failed.
            guard lock.withLock({ mayCommit && failure == nil }) else { throw NotCommitted() }
            try opened.commit()
            // What was given up in that moment was told as failed.
            if !outcome.settle(.success(())) { try store.stopping(by: StopFlag()).delete(name) }
        } catch {
            writer?.discard()
            lock.withLock { failure = failure ?? error }
            feed.close()
            outcome.settle(.failure(error))
        }
        lane.end()
        ended.settle(.success(()))
    }
}

import Processes
import Synchronization

/// Writes one object on a separate thread, while the caller continues. If the writer is not committed, the object does
/// not exist.
///
/// `push` blocks the calling thread, which must be a thread of a pipeline and not of Swift's cooperative pool.
public final class StreamWriter: Sendable {
    private let store: any ObjectStore
    private let name: String
    private let thread: StreamThread
    /// The result of `commit`. The thread may still be running when the result is set.
    private let outcome = Settlement<Void>()
    private let mayCommit = Mutex(false)

    /// How long `discard` waits for the thread to end.
    private static let patience: Duration = .seconds(3)

    private struct NotCommitted: Error {}

    /// - Parameter thread: a thread for this object only, not started yet.
    init(_ store: any ObjectStore, _ name: String, _ thread: StreamThread) {
        self.store = store
        self.name = name
        self.thread = thread
    }

    /// Queues a piece. Waits while too many bytes are queued before it.
    ///
    /// - Throws: the error of an earlier write; `StorageError.late`; `CancellationError` after `letGo`.
    public func push(_ bytes: UnsafeRawBufferPointer) throws {
        thread.begin { [self] in work() }
        try thread.exchange { feed, limit in
            try feed.push(bytes, within: limit)
        } giveUp: { late in
            giveUp(late)
        }
    }

    /// Makes the object durable and visible in one step.
    public func commit() async throws {
        mayCommit.withLock { $0 = true }
        thread.begin { [self] in work() }
        thread.feed.finish()
        Deadline.after(thread.limit) { [weak self] in
            guard let self else { return }
            giveUp(thread.late)
        }
        try await withTaskCancellationHandler {
            try await outcome.value()
        } onCancel: {
            giveUp(CancellationError())
        }
    }

    /// Ends a call of `push` that is waiting, with an error. `discard` must be called after that.
    public func letGo() { thread.feed.close() }

    /// Removes the object, unless it was committed. Waits a short time for the thread to end, even if the thread was
    /// abandoned, because it may be about to rename the object to its final name.
    public func discard() async {
        guard thread.hasBegun else { return }
        letGo()
        await thread.end(within: Self.patience) { [weak self] in self?.giveUp(CancellationError()) }
    }

    /// Fails the write and stops waiting for the thread.
    private func giveUp(_ error: any Error) {
        // The outcome and the failure are set together, because the thread checks the failure before it commits.
        guard thread.fail(error, if: { outcome.settle(.failure(error)) }) else { return }
        thread.leave()
    }

    private func work() {
        var writer: (any ObjectWriter)?
        do {
            let opened = try store.write(name)
            writer = opened
            while let piece = try thread.feed.next() { try piece.withUnsafeBytes { try opened.write($0) } }
            // A write that was abandoned was reported as failed, so it must not be committed.
            guard mayCommit.withLock({ $0 }), thread.failure == nil else { throw NotCommitted() }
            try opened.commit()
            // A write that was abandoned during the commit was reported as failed, so the object is deleted.
            if !outcome.settle(.success(())) { try store.stopping(by: StopFlag()).delete(name) }
        } catch {
            writer?.discard()
            thread.fail(error)
            outcome.settle(.failure(error))
        }
    }
}

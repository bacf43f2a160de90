import Processes
import Synchronization

/// Writes one object on a thread of its own, a little behind. Without `commit` nothing of it remains.
///
/// `push` blocks the calling thread, which must not be one of the cooperative pool: it is a pipeline's.
public final class StreamWriter: Sendable {
    private let store: any ObjectStore
    private let name: String
    private let thread: StreamThread
    /// What the caller is told: it was committed, or why not. The thread may end later.
    private let outcome = Settlement<Void>()
    private let mayCommit = Mutex(false)

    /// How long the thread may take to end once the object is not wanted any more.
    private static let patience: Duration = .seconds(3)

    private struct NotCommitted: Error {}

    /// - Parameter thread: one for this object, not begun yet.
    init(_ store: any ObjectStore, _ name: String, _ thread: StreamThread) {
        self.store = store
        self.name = name
        self.thread = thread
    }

    /// Takes a piece, and waits while too many bytes are queued before it.
    ///
    /// - Throws: what writing has thrown; `StorageError.late`; `CancellationError` once it is let go.
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

    /// Releases the caller of `push`; `discard` comes after.
    public func letGo() { thread.feed.close() }

    /// Removes what there is of the object, unless it was committed. Waits a moment for that, also when it was given up:
    /// the thread may be about to rename the object into place.
    public func discard() async {
        guard thread.hasBegun else { return }
        letGo()
        await thread.end(within: Self.patience) { [weak self] in self?.giveUp(CancellationError()) }
    }

    /// Leaves the thread to itself.
    private func giveUp(_ error: any Error) {
        // The outcome and the failure change together, since the thread checks the failure before it commits.
        guard thread.fail(error, if: { outcome.settle(.failure(error)) }) else { return }
        thread.leave()
    }

    private func work() {
        var writer: (any ObjectWriter)?
        do {
            let opened = try store.write(name)
            writer = opened
            while let piece = try thread.feed.next() { try piece.withUnsafeBytes { try opened.write($0) } }
            // Not if it was given up meanwhile, and reported as failed.
            guard mayCommit.withLock({ $0 }), thread.failure == nil else { throw NotCommitted() }
            try opened.commit()
            // If it was given up during the commit, it was reported as failed.
            if !outcome.settle(.success(())) { try store.stopping(by: StopFlag()).delete(name) }
        } catch {
            writer?.discard()
            thread.fail(error)
            outcome.settle(.failure(error))
        }
    }
}

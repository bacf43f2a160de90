import Foundation
import Processes
import Synchronization

/// What readers and writers of streams have in common: a thread that makes the calls to the store, which may hang; a feed
/// between it and the caller; and a limit on how long the caller waits for the other side.
final class StreamThread: Sendable {
    private struct State {
        var hasBegun = false
        var failure: (any Error)?
    }

    let feed = ByteFeed()
    /// How long the stream may stand still.
    let limit: Duration
    private let operation: String
    private let object: String
    private let lane: BoundedThreads.Lane
    private let stop: StopFlag
    private let state = Mutex(State())
    private let ended = Settlement<Void>()

    /// - Parameters:
    ///   - operation: what is done with the object, for messages.
    ///   - stop: raised when nobody waits for the thread any more.
    init(
        _ operation: String, _ object: String, limit: Duration, _ lane: BoundedThreads.Lane, _ stop: StopFlag
    ) {
        self.operation = operation
        self.object = object
        self.limit = limit
        self.lane = lane
        self.stop = stop
    }

    var hasBegun: Bool { state.withLock { $0.hasBegun } }

    /// Why the stream failed; the first reason counts.
    var failure: (any Error)? { state.withLock { $0.failure } }

    /// The error about a stream that stood still for longer than the limit.
    var late: StorageError { .late(operation: operation, object: object, limit: limit) }

    /// Starts the thread, unless it was started before.
    func begin(_ body: @escaping @Sendable () -> Void) {
        let isFirst = state.withLock { state in
            defer { state.hasBegun = true }
            return !state.hasBegun
        }
        guard isFirst else { return }
        let thread = Thread { [lane, ended] in
            body()
            lane.end()
            ended.settle(.success(()))
        }
        thread.name = operation
        thread.start()
    }

    /// Takes a piece from the feed, or adds one to it, on the caller's thread.
    ///
    /// - Parameter giveUp: called when the other side is late.
    /// - Throws: `StorageError.late`; why the stream failed; `CancellationError` once it is closed.
    func exchange<T>(
        _ piece: (_ feed: ByteFeed, _ limit: Duration) throws -> T, giveUp: (StorageError) -> Void
    ) throws -> T {
        do {
            return try piece(feed, limit)
        } catch is ByteFeed.Late {
            giveUp(late)
            throw late
        } catch is ByteFeed.Closed {
            throw failure ?? CancellationError()
        }
    }

    /// Ends the stream with an error.
    ///
    /// - Parameter isEnd: decides whether it ends; called before anybody can see the failure.
    /// - Returns: what `isEnd` returned.
    @discardableResult
    func fail(_ error: any Error, if isEnd: () -> Bool = { true }) -> Bool {
        let ends = state.withLock { state in
            guard isEnd() else { return false }
            state.failure = state.failure ?? error
            return true
        }
        if ends { feed.close() }
        return ends
    }

    /// Leaves the thread to itself, and releases the caller that waits for it.
    func leave() {
        feed.close()
        stop.raise()
        if hasBegun { lane.leave() }
    }

    /// Waits for the end of the thread, which may come after it was left to itself.
    ///
    /// - Parameters:
    ///   - patience: how long.
    ///   - giveUp: called after that, whether or not the thread has ended.
    func end(within patience: Duration, giveUp: @escaping @Sendable () -> Void) async {
        Deadline.after(patience) { [ended] in
            giveUp()
            ended.settle(.success(()))
        }
        _ = try? await ended.value()
    }
}

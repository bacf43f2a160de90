import Foundation
import Processes
import Synchronization

/// The common part of `StreamReader` and `StreamWriter`: a thread that calls the store and may hang, a `ByteFeed`
/// between that thread and the caller, and a limit on how long the caller waits for the thread.
final class StreamThread: Sendable {
    private struct State {
        var hasBegun = false
        var failure: (any Error)?
    }

    let feed = ByteFeed()
    /// How long the stream may make no progress.
    let limit: Duration
    private let operation: String
    private let object: String
    private let lane: BoundedThreads.Lane
    private let stop: StopFlag
    private let state = Mutex(State())
    private let ended = Settlement<Void>()

    /// - Parameters:
    ///   - operation: the operation on the object, for messages.
    ///   - stop: raised when no caller waits for the thread any longer.
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

    /// The first error of the stream.
    var failure: (any Error)? { state.withLock { $0.failure } }

    /// The error of a stream that made no progress within the limit.
    var late: StorageError { .late(operation: operation, object: object, limit: limit) }

    /// Starts the thread, unless it was already started.
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

    /// Calls `piece`, which takes a piece from the feed or adds a piece to it, on the caller's thread.
    ///
    /// - Parameter giveUp: called when the other side of the feed exceeds the limit.
    /// - Throws: `StorageError.late`; the error that ended the stream; `CancellationError` if the stream was closed
    ///   without an error.
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
    /// - Parameter isEnd: decides whether the stream ends; called before any other thread can see the failure.
    /// - Returns: the result of `isEnd`.
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

    /// Abandons the thread, which may continue to run. A caller that waits for the thread stops waiting.
    func leave() {
        feed.close()
        stop.raise()
        if hasBegun { lane.leave() }
    }

    /// Waits until the thread ends, also after `leave`.
    ///
    /// - Parameters:
    ///   - patience: the longest time to wait.
    ///   - giveUp: called when that time is over, whether or not the thread has ended.
    func end(within patience: Duration, giveUp: @escaping @Sendable () -> Void) async {
        Deadline.after(patience) { [ended] in
            giveUp()
            ended.settle(.success(()))
        }
        _ = try? await ended.value()
    }
}

import Foundation
import Processes

/// Reads one object on a thread of its own, a little ahead.
///
/// `next` waits on the calling thread, which is one's own: a pipeline's.
public final class StreamReader: @unchecked Sendable {
    // The one flag is under the lock; all else is constant.
    private let store: any ObjectStore
    private let name: String
    private let object: String
    private let limits: BoundedStore.Limits
    private let lane: BoundedThreads.Lane
    private let stop: StopFlag
    private let feed = ByteFeed()
    private let lock = NSLock()
    private var hasBegun = false

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

    /// The next piece; nil at the end.
    ///
    /// - Throws: `StorageError.missing`, `.late`; `CancellationError` once it is closed.
    public func next() throws -> [UInt8]? {
        begin()
        do {
            return try feed.next(within: limits.stall)
        } catch is ByteFeed.Late {
            close()
            throw StorageError.late(operation: "read", object: object, limit: limits.stall)
        } catch is ByteFeed.Closed {
            throw CancellationError()
        }
    }

    /// Lets go of the object, and of who waits for a piece of it.
    public func close() {
        feed.close()
        stop.raise()
        if lock.withLock({ hasBegun }) { lane.leave() }
    }

    private func begin() {
        let isFirst = lock.withLock {
            defer { hasBegun = true }
            return !hasBegun
        }
        guard isFirst else { return }
        let (store, name, feed, lane) = (store, name, feed, lane)
        let thread = Thread {
            do {
                let reader = try store.read(name)
                while let piece = try reader.next() { try feed.push(piece) }
                feed.finish()
            } catch {
                feed.finish(error)
            }
            lane.end()
        }
        thread.name = "read"
        thread.start()
    }
}

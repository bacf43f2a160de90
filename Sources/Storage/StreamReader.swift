import Processes

/// Reads one object on a separate thread, ahead of the caller.
///
/// `next` blocks the calling thread, which must be a thread of a pipeline and not of Swift's cooperative pool.
public final class StreamReader: Sendable {
    private let store: any ObjectStore
    private let name: String
    private let thread: StreamThread

    /// - Parameter thread: a thread for this object only, not started yet.
    init(_ store: any ObjectStore, _ name: String, _ thread: StreamThread) {
        self.store = store
        self.name = name
        self.thread = thread
    }

    /// Returns the next piece; nil at the end.
    ///
    /// - Throws: `StorageError.missing`, `.late`; `CancellationError` if the reader was closed.
    public func next() throws -> [UInt8]? {
        thread.begin { [store, name, feed = thread.feed] in
            do {
                let reader = try store.read(name)
                while let piece = try reader.next() { try feed.push(piece) }
                feed.finish()
            } catch {
                feed.finish(error)
            }
        }
        return try thread.exchange { feed, limit in
            try feed.next(within: limit)
        } giveUp: { _ in
            close()
        }
    }

    /// Stops reading the object. A call of `next` that is waiting ends with an error.
    public func close() { thread.leave() }
}

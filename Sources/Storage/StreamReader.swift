import Processes

/// Reads one object on a thread of its own, a little ahead.
///
/// `next` blocks the calling thread, which must not be one of the cooperative pool: it is a pipeline's.
public final class StreamReader: Sendable {
    private let store: any ObjectStore
    private let name: String
    private let thread: StreamThread

    /// - Parameter thread: one for this object, not begun yet.
    init(_ store: any ObjectStore, _ name: String, _ thread: StreamThread) {
        self.store = store
        self.name = name
        self.thread = thread
    }

    /// The next piece; nil at the end.
    ///
    /// - Throws: `StorageError.missing`, `.late`; `CancellationError` once it is closed.
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

    /// Releases the object, and the caller that waits for a piece of it.
    public func close() { thread.leave() }
}

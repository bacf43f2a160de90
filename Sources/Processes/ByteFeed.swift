import Foundation

/// Hands bytes from one thread to another, a few pieces ahead: what one side pushes, the other side pulls.
///
///     let feed = ByteFeed()
///     async let packed: Void = pipeline.run(source: { try feed.next() }, take: write)
///     try await connection.with { try $0.copyOut(sql) { try feed.push($0) } }
///     feed.finish()
public final class ByteFeed: @unchecked Sendable {
    // All under the condition.
    private var pieces: [[UInt8]] = []
    private var isFinished = false
    private var isClosed = false
    private var error: (any Error)?
    private let condition = NSCondition()
    private let capacity = 4

    /// Nobody pulls any more.
    public struct Closed: Error {}

    public init() {}

    /// Waits until there is room.
    ///
    /// - Throws: `Closed`.
    public func push(_ bytes: UnsafeRawBufferPointer) throws {
        let piece = Array(bytes)
        try condition.withLock {
            while pieces.count >= capacity, !isClosed { condition.wait() }
            if isClosed { throw Closed() }
            pieces.append(piece)
            condition.broadcast()
        }
    }

    /// Says that nothing more comes, or why.
    public func finish(_ error: (any Error)? = nil) {
        condition.withLock {
            isFinished = true
            self.error = self.error ?? error
            condition.broadcast()
        }
    }

    /// Lets go of whoever pushes: the bytes are not wanted any more.
    public func close() {
        condition.withLock {
            isClosed = true
            condition.broadcast()
        }
    }

    /// Waits for the next piece; nil at the end.
    ///
    /// - Throws: what `finish` was given.
    public func next() throws -> [UInt8]? {
        try condition.withLock {
            while pieces.isEmpty, !isFinished, !isClosed { condition.wait() }
            if !pieces.isEmpty {
                defer { condition.broadcast() }
                return pieces.removeFirst()
            }
            if let error { throw error }
            return nil
        }
    }
}

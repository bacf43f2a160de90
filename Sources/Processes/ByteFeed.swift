import Foundation

/// Passes bytes from one thread to another through a small buffer. One side pushes pieces, and the other side pulls
/// them.
///
///     let feed = ByteFeed()
///     async let packed: Void = pipeline.run(source: { try feed.next() }, letGo: feed.close, take: write)
///     try await connection.with { try $0.copyOut(sql) { try feed.push($0) } }
///     feed.finish()
public final class ByteFeed: @unchecked Sendable {
    // The variables are accessed only while `condition` is locked.
    private var pieces: [[UInt8]] = []
    private var bytes = 0
    private var isFinished = false
    private var isClosed = false
    private var error: (any Error)?
    private let condition = NSCondition()
    private let capacity: Int

    /// The feed was closed, because the bytes are no longer wanted.
    public struct Closed: Error {}

    /// The other side did not push or pull in time.
    public struct Late: Error {}

    /// - Parameter capacity: the maximum number of bytes in the buffer. A single piece may be larger.
    public init(capacity: Int = 256 << 10) { self.capacity = capacity }

    /// Waits until the buffer has space, and adds the bytes.
    ///
    /// - Parameter limit: how long to wait; nil: no limit.
    /// - Throws: `Closed`, `Late`.
    public func push(_ bytes: UnsafeRawBufferPointer, within limit: Duration? = nil) throws {
        try push(Array(bytes), within: limit)
    }

    public func push(_ piece: [UInt8], within limit: Duration? = nil) throws {
        try condition.withLock {
            try wait(limit) { bytes < capacity || isClosed }
            if isClosed { throw Closed() }
            bytes += piece.count
            // Small pieces, such as rows that are pushed one by one, are joined and pulled together.
            if let last = pieces.last, last.count < 32 << 10, piece.count < 32 << 10 {
                pieces[pieces.count - 1] += piece
            } else {
                pieces.append(piece)
            }
            condition.broadcast()
        }
    }

    /// Marks the end of the bytes. `error` is the reason if they are incomplete.
    public func finish(_ error: (any Error)? = nil) {
        condition.withLock {
            isFinished = true
            self.error = self.error ?? error
            condition.broadcast()
        }
    }

    /// Ends the waiting of both sides, because the bytes are no longer wanted.
    public func close() {
        condition.withLock {
            isClosed = true
            condition.broadcast()
        }
    }

    /// Waits for the next piece. Returns nil at the end.
    ///
    /// - Parameter limit: how long to wait; nil: no limit.
    /// - Throws: the error that was passed to `finish`; `Closed` if the feed was closed before `finish`; `Late`.
    public func next(within limit: Duration? = nil) throws -> [UInt8]? {
        try condition.withLock {
            try wait(limit) { !pieces.isEmpty || isFinished || isClosed }
            if isClosed, !isFinished { throw Closed() }
            if !pieces.isEmpty {
                defer { condition.broadcast() }
                let piece = pieces.removeFirst()
                bytes -= piece.count
                return piece
            }
            if let error { throw error }
            return nil
        }
    }

    private func wait(_ limit: Duration?, until isTrue: () -> Bool) throws {
        let end = limit.map { ContinuousClock.now + $0 }
        while !isTrue() {
            guard let end else {
                condition.wait()
                continue
            }
            let left = ContinuousClock.now.duration(to: end)
            if left <= .zero { throw Late() }
            _ = condition.wait(until: Date(timeIntervalSinceNow: left / .seconds(1)))
        }
    }
}

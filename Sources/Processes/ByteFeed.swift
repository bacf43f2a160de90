import Foundation

/// Hands bytes from one thread to another, a few pieces ahead: what one side pushes, the other side pulls.
///
///     let feed = ByteFeed()
///     async let packed: Void = pipeline.run(source: { try feed.next() }, letGo: feed.close, take: write)
///     try await connection.with { try $0.copyOut(sql) { try feed.push($0) } }
///     feed.finish()
public final class ByteFeed: @unchecked Sendable {
    // All under the condition.
    private var pieces: [[UInt8]] = []
    private var bytes = 0
    private var isFinished = false
    private var isClosed = false
    private var error: (any Error)?
    private let condition = NSCondition()
    private let capacity: Int

    /// Nobody pulls any more, or what is pulled is not wanted.
    public struct Closed: Error {}

    /// The other side has not moved in time.
    public struct Late: Error {}

    /// - Parameter capacity: the bytes that wait at most; a single piece may be larger.
    public init(capacity: Int = 256 << 10) { self.capacity = capacity }

    /// Waits until there is room.
    ///
    /// - Parameter limit: how long; nil: as long as it takes.
    /// - Throws: `Closed`, `Late`.
    public func push(_ bytes: UnsafeRawBufferPointer, within limit: Duration? = nil) throws {
        try push(Array(bytes), within: limit)
    }

    public func push(_ piece: [UInt8], within limit: Duration? = nil) throws {
        try condition.withLock {
            try wait(limit) { bytes < capacity || isClosed }
            if isClosed { throw Closed() }
            bytes += piece.count
            // Rows come one by one, and go on together.
            if let last = pieces.last, last.count < 32 << 10, piece.count < 32 << 10 {
                pieces[pieces.count - 1] += piece
            } else {
                pieces.append(piece)
            }
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

    /// Lets go of both sides: what is pushed or pulled now is not wanted any more.
    public func close() {
        condition.withLock {
            isClosed = true
            condition.broadcast()
        }
    }

    /// Waits for the next piece; nil at the end.
    ///
    /// - Parameter limit: how long; nil: as long as it takes.
    /// - Throws: what `finish` was given; `Closed` before the end; `Late`.
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

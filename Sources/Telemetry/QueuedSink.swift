import Foundation

/// Accepts log lines without blocking, even if their reader is slow. A bounded queue holds the lines, and a separate
/// thread writes them.
///
/// If the queue is full, lines are dropped. A line with their number is logged when there is space again.
public final class QueuedSink: LogSink, @unchecked Sendable {  // mutable state is accessed only under `condition`
    private let sink: any LogSink
    private let limit: Int
    private let condition = NSCondition()
    private var lines: [LogLine] = []
    /// The size of the lines that are queued or being written, in bytes.
    private var held = 0
    private var dropped = 0
    private var isWriting = false
    private var isEnding = false

    /// - Parameter limit: the approximate maximum size of the waiting lines, in bytes.
    public init(_ sink: any LogSink, limit: Int = 4 << 20) {
        self.sink = sink
        self.limit = limit
        let thread = Thread { [self] in work() }
        thread.name = "log"
        thread.start()
    }

    /// Queues a line. Never waits for a reader.
    public func write(_ line: LogLine) {
        condition.lock()
        defer { condition.unlock() }
        guard held + Self.cost(line) <= limit else {
            dropped += 1
            return
        }
        queueTally()
        queue(line)
        condition.broadcast()
    }

    /// Waits until the queued lines have been written. Later lines are not written.
    ///
    /// - Parameter limit: how long to wait for the reader.
    /// - Returns: whether all queued lines were written.
    @discardableResult
    public func finish(within limit: Duration) -> Bool {
        let end = Date(timeIntervalSinceNow: limit.inSeconds)
        condition.lock()
        defer { condition.unlock() }
        isEnding = true
        condition.broadcast()
        while isWriting || !lines.isEmpty || dropped > 0 {
            guard condition.wait(until: end) else { return false }
        }
        return true
    }

    private func work() {
        condition.lock()
        defer { condition.unlock() }
        while true {
            if lines.isEmpty { queueTally() }
            if lines.isEmpty {
                if isEnding { return }
                condition.wait()
                continue
            }
            let batch = lines
            lines = []
            isWriting = true
            for line in batch {
                condition.unlock()
                sink.write(line)
                condition.lock()
                held -= Self.cost(line)
            }
            isWriting = false
            condition.broadcast()
        }
    }

    private func queue(_ line: LogLine) {
        lines.append(line)
        held += Self.cost(line)
    }

    /// Queues a line with the number of dropped lines, if any were dropped.
    private func queueTally() {
        guard dropped > 0 else { return }
        let count = LogField("count", dropped)
        dropped = 0
        queue(
            LogLine(
                time: Date(), level: .warning,
                message: "log lines were dropped, because the reader of the log was too slow", fields: [count])
        )
    }

    private static func cost(_ line: LogLine) -> Int {
        line.fields.reduce(200 + line.message.utf8.count) { $0 + $1.key.utf8.count + $1.value.utf8.count }
    }
}

import CMicrohttpd
import Foundation

/// Runs handlers in tasks while their connections are suspended, and resumes the connections.
///
/// Each connection is resumed exactly once: by the task when it has an outcome, or by `abandon` or `stop`, which do not
/// wait for the task any longer. After that, libmicrohttpd may free the connection at any time, so a task that ends
/// later does not use the connection.
// @unchecked: the mutable state is accessed only while `condition` is locked.
final class HandlerTasks: @unchecked Sendable {
    enum Rejection {
        /// The maximum number of tasks is running.
        case busy
        case stopping
    }

    private let condition = NSCondition()
    private let limit: Int
    private var suspended: [ObjectIdentifier: Exchange] = [:]
    /// The number of running tasks, including abandoned tasks that ignore cancellation.
    private var running = 0
    private var isStopping = false

    /// - Parameter limit: how many tasks may run at a time.
    init(limit: Int) { self.limit = limit }

    /// Suspends the connection and starts a task. Call this only on libmicrohttpd's thread.
    ///
    /// - Returns: nil if the task was started; otherwise the reason why not.
    func start(_ exchange: Exchange, _ work: @escaping @Sendable () async -> Exchange.Outcome) -> Rejection? {
        condition.withLock {
            if isStopping { return .stopping }
            guard running < limit else { return .busy }
            running += 1
            exchange.outcome = nil
            suspended[ObjectIdentifier(exchange)] = exchange
            // The connection is suspended before the task starts. A task that ends immediately waits in `finish` until
            // this function has released the lock.
            MHD_suspend_connection(exchange.connection)
            exchange.task = Task {
                let outcome = await work()
                self.finish(exchange, outcome)
            }
            return nil
        }
    }

    private func finish(_ exchange: Exchange, _ outcome: Exchange.Outcome) {
        condition.withLock {
            running -= 1
            resume(exchange, outcome)
            condition.broadcast()
        }
    }

    /// Resumes a suspended connection without waiting for its task, and cancels the task. Does nothing if the task
    /// already has an outcome.
    func abandon(_ exchange: Exchange, _ outcome: Exchange.Outcome) {
        let task = condition.withLock {
            let task = exchange.task
            return resume(exchange, outcome) ? task : nil
        }
        // The task is cancelled without the lock, because `cancel` runs cancellation handlers.
        task?.cancel()
    }

    /// Resumes a connection with an outcome. Call this only while `condition` is locked. Otherwise `stop` could return,
    /// and the daemon be freed, before this function ends.
    ///
    /// - Returns: false if the connection was already resumed.
    @discardableResult
    private func resume(_ exchange: Exchange, _ outcome: Exchange.Outcome) -> Bool {
        guard suspended.removeValue(forKey: ObjectIdentifier(exchange)) != nil else { return false }
        exchange.outcome = outcome
        exchange.task = nil
        MHD_resume_connection(exchange.connection)
        return true
    }

    /// Returns the outcome of a resumed exchange; nil after the first call.
    func takeOutcome(_ exchange: Exchange) -> Exchange.Outcome? {
        condition.withLock {
            defer { exchange.outcome = nil }
            return exchange.outcome
        }
    }

    /// Cancels all tasks and waits for them up to a limit. After this call no connection is suspended, and `start`
    /// suspends no further connection.
    func stop(within limit: Duration) {
        let tasks = condition.withLock {
            isStopping = true
            return suspended.values.compactMap(\.task)
        }
        for task in tasks { task.cancel() }
        let end = Date(timeIntervalSinceNow: limit / .seconds(1))
        condition.withLock {
            while running > 0, condition.wait(until: end) {}
            for exchange in suspended.values {
                resume(exchange, .answer(.unavailable("the server is stopping")))
            }
        }
    }
}

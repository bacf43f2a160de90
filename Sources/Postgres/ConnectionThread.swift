import Foundation

/// The thread on which the actor of one connection runs. A blocking wait on the connection's socket blocks no other
/// work.
final class ConnectionThread: SerialExecutor {
    private let queue: JobQueue

    init(name: String) {
        let queue = JobQueue()
        self.queue = queue
        let thread = Thread { queue.work() }
        thread.name = name
        thread.start()
    }

    // The thread refers only to the queue. It ends when the last reference to the executor is released.
    deinit { queue.stop() }

    func enqueue(_ job: consuming ExecutorJob) {
        queue.add(UnownedJob(job), on: asUnownedSerialExecutor())
    }

    func asUnownedSerialExecutor() -> UnownedSerialExecutor {
        UnownedSerialExecutor(ordinary: self)
    }

    func isIsolatingCurrentContext() -> Bool? { queue.isCurrentThread }
}

// @unchecked: `jobs`, `stopped` and `thread` are accessed only while `condition` is locked.
private final class JobQueue: @unchecked Sendable {
    private let condition = NSCondition()
    private var jobs: [(UnownedJob, UnownedSerialExecutor)] = []
    private var stopped = false
    private var thread: Thread?

    var isCurrentThread: Bool {
        condition.withLock { thread === Thread.current }
    }

    func add(_ job: UnownedJob, on executor: UnownedSerialExecutor) {
        condition.withLock {
            jobs.append((job, executor))
            condition.signal()
        }
    }

    func stop() {
        condition.withLock {
            stopped = true
            condition.signal()
        }
    }

    func work() {
        condition.withLock { thread = Thread.current }
        while let batch = next() {
            for (job, executor) in batch { job.runSynchronously(on: executor) }
        }
    }

    private func next() -> [(UnownedJob, UnownedSerialExecutor)]? {
        condition.withLock {
            while jobs.isEmpty, !stopped { condition.wait() }
            defer { jobs = [] }
            return jobs.isEmpty ? nil : jobs
        }
    }
}

import Foundation
import Testing

/// Runs tests on threads of their own, since their clients block. The server's handlers need the few threads of the
/// cooperative pool.
struct OwnThread: TestTrait, SuiteTrait, TestScoping {
    let isRecursive = true

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        try await withTaskExecutorPreference(ThreadExecutor.shared) { try await function() }
    }
}

extension Trait where Self == OwnThread {
    static var ownThread: OwnThread { OwnThread() }
}

private final class ThreadExecutor: TaskExecutor {
    static let shared = ThreadExecutor()

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        Thread { job.runSynchronously(on: self.asUnownedTaskExecutor()) }.start()
    }
}

/// Counts events, so that tests can wait for them.
final class Events: @unchecked Sendable {
    private let condition = NSCondition()
    private var number = 0

    func happen() {
        condition.withLock {
            number += 1
            condition.broadcast()
        }
    }

    var count: Int { condition.withLock { number } }

    /// - Returns: whether the count is reached within 20 s.
    func wait(for count: Int = 1) -> Bool {
        let end = Date(timeIntervalSinceNow: 20)
        return condition.withLock {
            while number < count { guard condition.wait(until: end) else { return number >= count } }
            return true
        }
    }
}

/// Holds tasks until it is opened, even if they are cancelled.
final class Gate: @unchecked Sendable {
    private let lock = NSLock()
    private var isOpen = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    func pass() async {
        await withCheckedContinuation { continuation in
            let passes = lock.withLock {
                if !isOpen { waiting.append(continuation) }
                return isOpen
            }
            if passes { continuation.resume() }
        }
    }

    func open() {
        let all = lock.withLock {
            isOpen = true
            defer { waiting = [] }
            return waiting
        }
        for one in all { one.resume() }
    }
}

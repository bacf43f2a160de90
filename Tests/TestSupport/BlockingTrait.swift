import Dispatch
import Testing

/// Tests whose calls block run on threads of their own, and hold up no others.
public struct BlockingTrait: TestTrait, SuiteTrait, TestScoping {
    public var isRecursive: Bool { true }

    public func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        guard testCase != nil else { return try await function() }
        try await withTaskExecutorPreference(ThreadExecutor.shared) { try await function() }
    }

    private final class ThreadExecutor: TaskExecutor {
        static let shared = ThreadExecutor()
        private let queue = DispatchQueue(label: "blocking tests", attributes: .concurrent)

        func enqueue(_ job: consuming ExecutorJob) {
            let job = UnownedJob(job)
            queue.async { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
        }
    }
}

extension Trait where Self == BlockingTrait {
    public static var blocking: BlockingTrait { BlockingTrait() }
}

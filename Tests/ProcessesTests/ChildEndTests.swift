import Foundation
import Testing

@testable import Processes

/// Children whose end no descriptor tells, as where this process has too many open.
@Suite(.timeLimit(.minutes(1)))
struct ChildEndTests {
    private func run(_ script: String, limit: Duration, cancelling: Bool = false) async throws -> CommandOutcome {
        let wake = try WakeUp()
        if cancelling { wake.raise() }
        return try await onOwnThread(named: "child") {
            try ChildRun(
                Command("sh", ["-c", script]), limit: limit, grace: .seconds(5), outputLimit: 1000, wake: wake,
                watch: { _ in -1 }
            ).finish()
        }
    }

    @Test func `a child that ended well is told so, with all that it said`() async throws {
        let outcome = try await run("echo out; exit 3", limit: .seconds(30))
        #expect(outcome.ending == .exited(3))
        #expect(outcome.output == "out\n")
    }

    @Test func `one that is asked to end does so within its grace, and is not told as killed`() async throws {
        let began = ContinuousClock.now
        await #expect(throws: CommandError.self) {
            try await run("trap 'exit 0' TERM; while :; do sleep 0.05; done", limit: .milliseconds(300))
        }
        #expect(ContinuousClock.now - began < .seconds(4))
        let pid = try Command("sh", ["-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done"])
            .spawn(output: -1, error: -1, newSession: false)
        // Once its trap is set, which it says to nobody, it sleeps in a child of its own.
        while (try? String(contentsOfFile: "/proc/\(pid)/task/\(pid)/children", encoding: .utf8))?.isEmpty != false {
            try await Task.sleep(for: .milliseconds(5))
        }
        let endings = try await onOwnThread(named: "child") {
            ChildProcess.endGroups([pid], grace: .seconds(20), { _ in -1 })
        }
        #expect(endings == [.exited(5)])
    }

    @Test func `waiting for the ends of a pipeline can be cancelled`() async throws {
        let wake = try WakeUp()
        // The output is closed at once, and the program goes on.
        let pipeline = Pipeline([Command("sh", ["-c", "exec >&- 2>&-; sleep 60"])])
        let ended = Task {
            try await onOwnThread(named: "pipeline") {
                try PipelineRun(
                    pipeline, source: nil, letGo: {}, wake: wake,
                    watch: { _ in
                        wake.raise()
                        return -1
                    }
                ).finish { _ in }
            }
        }
        let began = ContinuousClock.now
        await #expect(throws: CancellationError.self) { try await ended.value }
        #expect(ContinuousClock.now - began < .seconds(20))
    }
}

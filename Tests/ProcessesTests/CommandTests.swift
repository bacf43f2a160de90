import Foundation
import Processes
import Testing

@Suite(.timeLimit(.minutes(1)))
struct CommandTests {
    @Test func `output, error and status come back`() async throws {
        let outcome = try await Command("sh", ["-c", "echo out; echo err >&2; exit 3"]).run()
        #expect(outcome.output == "out\n")
        #expect(outcome.errorOutput == "err\n")
        #expect(outcome.ending == .exited(3))
        #expect(!outcome.succeeded)
    }

    @Test func `arguments are never read by a shell, and the environment and folder are given`() async throws {
        let outcome = try await Command(
            "sh", ["-c", "printf '%s|' \"$@\" \"$A\" \"$PWD\"", "-", "$(x); y", "*"],
            environment: ["A": "b", "PATH": "/usr/bin:/bin"], directory: "/"
        ).run()
        #expect(outcome.output == "$(x); y|*|b|/|")
    }

    @Test func `a child that takes too long is asked, then killed, with its own children`() async throws {
        let began = ContinuousClock.now
        await #expect(throws: CommandError.self) {
            try await Command("sh", ["-c", "trap '' TERM; sleep 60 & wait; sleep 60"]).run(
                limit: .milliseconds(200), grace: .milliseconds(200))
        }
        #expect(ContinuousClock.now - began < .seconds(20))
    }

    @Test func `a cancelled caller's child is stopped`() async throws {
        let work = Task { try await Command("sleep", ["60"]).run() }
        work.cancel()
        await #expect(throws: CancellationError.self) { try await work.value }
    }

    @Test func `output beyond the limit is dropped and does not block`() async throws {
        let outcome = try await Command("sh", ["-c", "head -c 5000000 /dev/zero | tr '\\0' x"]).run(outputLimit: 1000)
        #expect(outcome.output.count == 1000)
        #expect(outcome.succeeded)
    }

    @Test func `a program that is not there is an error`() async throws {
        let error = await #expect(throws: CommandError.self) { try await Command("no-such-program-here").run() }
        #expect(error?.description.contains("no-such-program-here") == true)
    }

    @Test func `a child has no descriptors beyond the standard ones, and answers to signals`() async throws {
        let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: "/etc/passwd"))
        let outcome = try await Command("sh", ["-c", "ls /proc/self/fd | wc -l; grep SigBlk /proc/self/status"]).run()
        try file.close()
        // 0, 1, 2 and the one with which ls reads the folder
        #expect(outcome.output.hasPrefix("4\n"))
        #expect(outcome.output.contains("0000000000000000"))
    }

    @Test func `a killed child says by which signal`() async throws {
        let outcome = try await Command("sh", ["-c", "kill -9 $$"]).run()
        #expect(outcome.ending == .killed(signal: 9))
    }
}

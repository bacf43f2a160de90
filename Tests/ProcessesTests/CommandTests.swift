import Foundation
import Testing

@testable import Processes

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

    /// The priority is set just after the start, so the child looks until it has it.
    @Test func `a program in the background is behind everything else, with its children`() async throws {
        let script = """
            while [ "$(cut -d' ' -f19 /proc/$$/stat)" != 7 ] || [ "$(cat /proc/$$/oom_score_adj)" != 500 ]; do sleep 0.01; done
            sh -c 'cut -d" " -f19 /proc/self/stat; ionice -p $$; cat /proc/self/oom_score_adj'
            """
        let outcome = try await ChildPriority.$current.withValue(.background(nice: 7)) {
            try await Command("sh", ["-c", script]).run(limit: .seconds(20))
        }
        #expect(outcome.output == "7\nidle\n500\n", "\(outcome)")
        let plain = try await Command("sh", ["-c", "cut -d' ' -f19 /proc/self/stat"]).run()
        #expect(plain.output != "7\n")
    }

    @Test func `a child that takes too long is asked, then killed, with its own children`() async throws {
        let began = ContinuousClock.now
        await #expect(throws: CommandError.self) {
            try await Command("sh", ["-c", "trap '' TERM; sleep 60 & wait; sleep 60"]).run(
                limit: .milliseconds(200), grace: .milliseconds(200))
        }
        #expect(ContinuousClock.now - began < .seconds(20))
    }

    /// As posix_spawn does where the program lies on a file system that hangs.
    @Test func `a child whose start hangs holds up neither the end of the others nor that of the process`() throws {
        let (children, hung) = (LiveChildren(), StopFlag())
        let began = StopFlag()
        let sleeper = try children.adding(outlivesParent: false) { try Command("sleep", ["60"]).spawnAlone() }
        let thread = Thread {
            _ = try? children.adding(outlivesParent: false) {
                began.raise()
                while !hung.sleep(for: .seconds(3600)) {}
                throw CommandError.notStarted(program: "hung", reason: "")
            }
        }
        thread.start()
        while !began.sleep(for: .seconds(1)) {}
        let ended = StopFlag()
        let ending = Thread {
            children.killAll()
            ended.raise()
        }
        ending.start()
        #expect(ended.sleep(for: .seconds(20)), "it does not wait for the one that hangs")
        #expect(children.reap(sleeper) & 0x7f == SIGKILL)
        // One that was started too late to be seen ends as well.
        let late = try children.adding(outlivesParent: false) { try Command("sleep", ["60"]).spawnAlone() }
        #expect(children.reap(late) & 0x7f == SIGKILL)
        hung.raise()
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

extension Command {
    /// A child that no register knows of.
    fileprivate func spawnAlone() throws -> pid_t { try spawn(output: -1, error: -1, newSession: true) }
}

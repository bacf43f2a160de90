import Foundation
import Processes
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(2)))
struct PipelineTests {
    @Test func bytesFlowThrough() async throws {
        let pieces = Mutex([Array("a\n".utf8), Array(repeating: UInt8(ascii: "x"), count: 300_000)])
        let count = Mutex(0)
        try await Pipeline([Command("cat"), Command("cat")]).run(
            source: { pieces.withLock { $0.isEmpty ? nil : $0.removeFirst() } },
            take: { bytes in count.withLock { $0 += bytes.count } })
        #expect(count.withLock { $0 } == 300_002)
    }

    @Test(arguments: [0, 1, 2]) func whichProgramFailedIsTold(_ place: Int) async throws {
        var commands = [Command("cat"), Command("cat"), Command("cat")]
        commands[place] = Command("sh", ["-c", "cat >/dev/null; echo oh no >&2; exit 7"])
        let pipeline = Pipeline(commands)
        let error = await #expect(throws: PipelineError.self) { try await pipeline.run { _ in } }
        #expect(error?.program == "sh" && error?.ending == .exited(7) && error?.errorOutput == "oh no\n")
    }

    @Test func whoReadsOnlyABeginningIsAskedFor() async throws {
        let endless = [Command("sh", ["-c", "trap - PIPE; exec yes"]), Command("sh", ["-c", "head -n 1"])]
        try await Pipeline(endless, lastMayStopEarly: true).run { _ in }
        let error = await #expect(throws: PipelineError.self) { try await Pipeline(endless).run { _ in } }
        #expect(error?.ending == .killed(signal: SIGPIPE))
        let failing = [endless[0], Command("sh", ["-c", "head -n 1; exit 3"])]
        let other = await #expect(throws: PipelineError.self) {
            try await Pipeline(failing, lastMayStopEarly: true).run { _ in }
        }
        #expect(other?.ending == .exited(3))
    }

    @Test func whatQuotesRowsIsLeftOut() {
        let said = """
            pg_restore: warning: mind
            pg_restore: error: COPY failed for table "t": ERROR:  new row violates check constraint "c"
            DETAIL:  Failing row contains (1, secret

            ERROR:  secret).
            CONTEXT:  COPY t, line 1: "secret"
            Command was: COPY t FROM stdin;
            """
        #expect(
            programMessage(said.utf8) == """
                pg_restore: warning: mind
                pg_restore: error: COPY failed for table "t": ERROR:  new row violates check constraint "c"
                Command was: COPY t FROM stdin;
                """)
    }

    /// Also a program that is stopped, and so hears no SIGTERM.
    @Test func cancelledItEndsEveryProgram() async throws {
        let started = AsyncStream<Void>.makeStream()
        let work = Task {
            try await Pipeline([Command("sh", ["-c", "echo here; kill -STOP $$; echo never"]), Command("cat")]).run {
                _ in
                started.continuation.yield()
            }
        }
        for await _ in started.stream { break }
        work.cancel()
        await #expect(throws: CancellationError.self) { try await work.value }
    }

    /// It has closed its output, and is stopped then.
    @Test func cancelledItEndsAProgramThatOnlyDoesNotEnd() async throws {
        let ready = "/tmp/reeve-ready-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: ready) }
        let work = Task {
            try await Pipeline([Command("sh", ["-c", "exec >&-; echo $$ >\(ready); kill -STOP $$; sleep 600"])]).run {
                _ in
            }
        }
        while !FileManager.default.fileExists(atPath: ready) { try await Task.sleep(for: .milliseconds(5)) }
        work.cancel()
        await #expect(throws: CancellationError.self) { try await work.value }
        let pid = try #require(pid_t(try String(contentsOfFile: ready, encoding: .utf8).dropLast()))
        #expect(kill(pid, 0) != 0)
    }

    /// More than a pipe holds, after the output's end.
    @Test func whatIsSaidAfterTheOutputsEndBlocksNobody() async throws {
        let script = "exec >&-; head -c 300000 /dev/zero | tr '\\0' x >&2; exit 4"
        let error = await #expect(throws: PipelineError.self) {
            try await Pipeline([Command("sh", ["-c", script])]).run { _ in }
        }
        #expect(error?.ending == .exited(4) && error?.errorOutput.count == 65536)
    }

    /// A child of its own keeps the pipes open, and reads nothing.
    @Test func aGrandchildThatStaysHoldsUpNobody() async throws {
        let began = ContinuousClock.now
        let pieces = Gathered<Int>()
        try await Pipeline([Command("sh", ["-c", "sleep 20 >/dev/null & exit 0"])]).run(
            source: {
                pieces.add([1])
                return pieces.all.count > 100 ? nil : [UInt8](repeating: 0, count: 65536)
            }, take: { _ in })
        #expect(ContinuousClock.now - began < .seconds(15))
    }

    @Test func aSourceThatWaitsIsLetGoWhenTheProgramFails() async throws {
        let feed = ByteFeed()
        let error = await #expect(throws: PipelineError.self) {
            try await Pipeline([Command("sh", ["-c", "echo no >&2; exit 5"])]).run(
                source: { try feed.next() }, letGo: { feed.close() }, take: { _ in })
        }
        #expect(error?.ending == .exited(5))
    }
}

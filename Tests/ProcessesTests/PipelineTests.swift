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
}

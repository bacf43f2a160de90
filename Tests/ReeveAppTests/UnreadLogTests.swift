import Foundation
import Kernel
import Processes
import TestSupport
import Testing

/// Standard error as a pipe that is full, and that nobody reads.
private func fullPipe() throws -> (reading: Int32, writing: Int32) {
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    for end in ends { try #require(fcntl(end, F_SETFD, FD_CLOEXEC) == 0) }
    try #require(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0)
    let filling = [UInt8](repeating: 10, count: 4096)
    while write(ends[1], filling, filling.count) > 0 {}
    try #require(fcntl(ends[1], F_SETFL, 0) == 0)
    return (ends[0], ends[1])
}

/// Whoever collects the log may stop reading it; the work goes on.
@Suite(.database, .timeLimit(.minutes(3)))
struct UnreadLogTests {
    @Test func `a log that nobody reads stops neither the schedule nor the end`() async throws {
        let database = try TestDatabase.current
        let (reading, writing) = try fullPipe()
        defer { close(reading) }
        let socket = "/tmp/reeve-serve-\(UUID().uuidString.prefix(8))"
        let child = try ChildProcess(
            Command(
                ReeveBinary.path, ["serve"],
                environment: ReeveBinary.environment(
                    database.settings,
                    [
                        "REEVE_HTTP_LISTEN": "unix:\(socket)", "REEVE_SYSTEMS": "publisher", "REEVE_DRAIN": "2s",
                        "REEVE_LOG_LEVEL": "debug", "REEVE_TASKS_ANALYZE_EVERY": "1s",
                    ]), directory: "/tmp"), error: writing)
        close(writing)
        defer { child.signal(SIGKILL) }
        try await waitUntil("it answers") { UnixHTTP.get("/livez", from: socket)?.contains("200") == true }
        try await waitUntil("three occurrences ran") {
            (try? await database.value(
                "SELECT count(*) FROM reeve.runs WHERE task = 'analyze' AND state = 'succeeded'")) ?? 0 >= 3
        }
        #expect(UnixHTTP.get("/livez", from: socket)?.contains("200") == true)
        child.signal(SIGTERM)
        try await waitUntil("it ends", limit: .seconds(15)) { child.ending != nil }
        #expect(child.ending == .exited(0))
    }

    @Test func `a service that cannot work ends though nobody reads why`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE SCHEMA reeve", "CREATE FUNCTION reeve.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        let (reading, writing) = try fullPipe()
        defer { close(reading) }
        let child = try ChildProcess(
            Command(
                ReeveBinary.path, ["serve"],
                environment: ReeveBinary.environment(
                    database.settings, ["REEVE_HTTP_LISTEN": "off", "REEVE_DRAIN": "2s"]), directory: "/tmp"),
            error: writing)
        close(writing)
        defer { child.signal(SIGKILL) }
        try await waitUntil("it ends", limit: .seconds(25)) { child.ending != nil }
        #expect(child.ending == .exited(4))
    }
}

/// Results for a reader that is slow.
@Suite(.timeLimit(.minutes(1)))
struct SlowReaderTests {
    @Test func `nothing is lost on a descriptor that another process has made non-blocking`() async throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        let (reader, writer) = (ends[0], ends[1])
        for end in ends { #expect(fcntl(end, F_SETFD, FD_CLOEXEC) == 0) }
        #expect(fcntl(writer, F_SETFL, O_NONBLOCK) == 0)
        // More than a pipe holds.
        let text = String(repeating: "a line of the result\n", count: 50_000)
        async let written: Void = onOwnThread(named: "writer") {
            Console.write(text, to: writer)
            close(writer)
        }
        let read = try await onOwnThread(named: "reader") {
            var (count, buffer) = (0, [UInt8](repeating: 0, count: 4096))
            while count < text.utf8.count {
                let piece = Foundation.read(reader, &buffer, buffer.count)
                if piece <= 0 { break }
                count += piece
            }
            return count
        }
        try await written
        close(reader)
        #expect(read == text.utf8.count)
    }
}

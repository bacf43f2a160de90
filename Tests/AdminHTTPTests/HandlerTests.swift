import Foundation
import Testing

@testable import AdminHTTP

/// Handlers that run while the connection is suspended.
@Suite(.ownThread, .serialized, .timeLimit(.minutes(2)))
struct HandlerTests {
    private let started = Events()
    private let cancelled = Events()
    private let ended = Events()
    private let gate = Gate()

    private struct Secret: Error, CustomStringConvertible { let description = "host db1 does not answer" }

    /// `/slow` ends when it is cancelled, `/deaf` does not; `/short` and `/shortdeaf` have short deadlines.
    private var routes: [Route] {
        let (started, cancelled, ended, gate) = (started, cancelled, ended, gate)
        @Sendable func slow(_: AdminRequest) async throws -> AdminResponse {
            started.happen()
            do {
                try await Task.sleep(for: .seconds(600))
            } catch {
                cancelled.happen()
                throw error
            }
            return .text("slow\n")
        }
        @Sendable func deaf(_: AdminRequest) async throws -> AdminResponse {
            started.happen()
            await withTaskCancellationHandler {
                await gate.pass()
            } onCancel: {
                cancelled.happen()
            }
            ended.happen()
            return .text("deaf\n")
        }
        return [
            .livez,
            Route("GET", "/slow", access: .open, handle: slow),
            Route("GET", "/deaf", access: .open, handle: deaf),
            Route("GET", "/short", access: .open, deadline: .milliseconds(300), handle: slow),
            Route("GET", "/shortdeaf", access: .open, deadline: .milliseconds(300), handle: deaf),
            Route("GET", "/fail", access: .open) { _ in throw Secret() },
            Route("GET", "/quick", access: .open) { _ in
                await Task.yield()
                return .text("quick\n")
            },
        ]
    }

    @Test func `after the deadline the answer is 503, even if the handler does not end`() throws {
        let server = try TestServer(routes)
        defer { server.server.stop() }
        let began = ContinuousClock.now
        for path in ["/short", "/shortdeaf"] {
            let answer = try server.get(path)
            #expect(answer.status == 503 && answer.contains("application/problem+json"), "\(answer)")
        }
        let time = ContinuousClock.now - began
        #expect(time > .milliseconds(600) && time < .seconds(10), "\(time)")
        #expect(cancelled.wait(for: 2) && ended.count == 0)
        gate.open()
    }

    @Test func `the answer does not contain the error of a handler`() throws {
        let server = try TestServer(routes)
        defer { server.server.stop() }
        let answer = try server.get("/fail")
        #expect(
            answer.status == 500 && answer.contains("application/problem+json") && !answer.contains("db1"), "\(answer)")
    }

    @Test func `a handler is cancelled when its client disconnects`() throws {
        let server = try TestServer(routes)
        defer { server.server.stop() }
        var client: TestClient? = try server.client("GET", "/slow")
        #expect(started.wait() && cancelled.count == 0)
        withExtendedLifetime(client) {}
        client = nil
        #expect(cancelled.wait())
        let half = try server.client("GET", "/slow")
        #expect(started.wait(for: 2))
        half.finishSending()
        #expect(cancelled.wait(for: 2))
        #expect(half.readToEnd() == "")
        #expect(try server.isAlive())
    }

    @Test func `pipelined requests are answered in order`() throws {
        let server = try TestServer(routes)
        defer { server.server.stop() }
        let client = try TestClient(port: server.port)
        let head = " HTTP/1.1\r\nHost: localhost\r\n"
        client.send(
            "GET /quick\(head)\r\nGET /livez\(head)\r\nGET /quick\(head)\r\nGET /fail\(head)Connection: close\r\n\r\n")
        let answers = try #require(client.readToEnd()).components(separatedBy: "HTTP/1.1 ")
        #expect(answers.dropFirst().map { $0.prefix(3) } == ["200", "200", "200", "500"])
        #expect(answers.dropFirst().prefix(3).map(\.answerBody) == ["quick\n", "ok\n", "quick\n"])
    }

    @Test func `two hundred slow requests do not delay livez, and all are answered`() throws {
        let server = try TestServer(routes) {
            $0.connections = 300
            $0.perPeer = 300
        }
        defer { server.server.stop() }
        let clients = try (0..<200).map { _ in try server.client("GET", "/deaf") }
        #expect(started.wait(for: 200))
        for _ in 0..<20 { #expect(try server.isAlive()) }
        gate.open()
        for client in clients { #expect(client.readToEnd()?.hasSuffix("deaf\n") == true) }
    }

    @Test func `the oldest requests over a peer's limit are cancelled`() throws {
        let server = try TestServer(routes)
        defer { server.server.stop() }
        var clients: [TestClient] = []
        for _ in 0..<200 {
            clients.append(try server.client("GET", "/slow"))
            if clients.count.isMultiple(of: 20) { #expect(try server.isAlive()) }
        }
        #expect(cancelled.wait(for: 200 - 128))
        for _ in 0..<20 { #expect(try server.isAlive()) }
        #expect(clients.count { !$0.isClosed } <= 128)
        #expect(clients.suffix(100).allSatisfy { !$0.isClosed })
    }

    @Test func `tasks over the limit are refused, and abandoned ones count`() throws {
        let server = try TestServer(routes) { $0.tasks = 4 }
        defer { server.server.stop() }
        var clients = try (0..<4).map { _ in try server.client("GET", "/deaf") }
        #expect(started.wait(for: 4))
        let busy = try server.get("/quick")
        #expect(busy.status == 503 && busy.contains("Retry-After: 1\r\n"), "\(busy)")
        for client in clients { client.finishSending() }
        for client in clients { #expect(client.readToEnd() == "") }
        clients = []
        #expect(try server.get("/quick").status == 503)
        #expect(try server.isAlive())
        gate.open()
        #expect(ended.wait(for: 4))
        var status = 503
        let began = ContinuousClock.now
        // The task ends shortly after the handler.
        while status == 503, ContinuousClock.now - began < .seconds(20) { status = try server.get("/quick").status }
        #expect(status == 200)
    }

    @Test func `an immediate route answers while the cooperative pool is blocked`() throws {
        let (started, blocked) = (started, DispatchSemaphore(value: 0))
        let server = try TestServer([
            .livez,
            Route("GET", "/block", access: .open, deadline: .milliseconds(300)) { _ in
                started.happen()
                Self.block(blocked)
                return .text("blocked\n")
            },
        ])
        defer { server.server.stop() }
        let count = ProcessInfo.processInfo.activeProcessorCount + 2
        let clients = try (0..<count).map { _ in try server.client("GET", "/block") }
        #expect(started.wait())
        #expect(try server.isAlive())
        for client in clients { #expect(client.readToEnd()?.status == 503) }
        #expect(try server.isAlive())
        for _ in 0..<count { blocked.signal() }
    }

    private static func block(_ semaphore: DispatchSemaphore) { semaphore.wait() }

    // MARK: Stopping

    @Test func `stopping cancels handlers and waits for them`() throws {
        let server = try TestServer(routes)
        let clients = try (0..<20).map { _ in try server.client("GET", "/slow") }
        #expect(started.wait(for: 20))
        let began = ContinuousClock.now
        server.server.stop(within: .seconds(30))
        #expect(cancelled.count == 20)
        #expect(ContinuousClock.now - began < .seconds(10))
        for client in clients {
            let answer = try #require(client.readToEnd())
            #expect(answer.isEmpty || answer.status == 503, "\(answer)")
        }
    }

    @Test func `a handler that ignores cancellation does not delay stopping`() throws {
        let server = try TestServer(routes)
        let clients = try (0..<20).map { _ in try server.client("GET", "/deaf") }
        #expect(started.wait(for: 20))
        let began = ContinuousClock.now
        server.server.stop(within: .milliseconds(300))
        let time = ContinuousClock.now - began
        #expect(time > .milliseconds(290) && time < .seconds(5), "\(time)")
        for client in clients { #expect(client.readToEnd() != nil) }
        #expect(ended.count == 0)
        gate.open()
        #expect(ended.wait(for: 20))
    }

    @Test func `a server that is released stops too`() throws {
        var server: TestServer? = try TestServer(routes)
        let client = try #require(try server?.client("GET", "/slow"))
        #expect(started.wait())
        server = nil
        #expect(cancelled.wait())
        #expect(client.readToEnd() != nil)
    }

    @Test func `stopping is safe while handlers start and end`() throws {
        let (started, gate) = (started, gate)
        let waiting = Route("GET", "/wait", access: .open) { _ in
            started.happen()
            try await Task.sleep(for: .microseconds(Int.random(in: 0...3000)))
            return .text("done\n")
        }
        let deaf = Route("GET", "/deaf", access: .open) { _ in
            await gate.pass()
            return .text("deaf\n")
        }
        for round in 1...30 {
            let server = try TestServer([waiting, deaf])
            let clients = try (0..<20).map { try server.client("GET", $0.isMultiple(of: 7) ? "/deaf" : "/wait") }
            #expect(started.wait(for: round))
            server.server.stop(within: round.isMultiple(of: 2) ? .zero : .milliseconds(2))
            for client in clients {
                let answer = try #require(client.readToEnd())
                #expect(answer.isEmpty || answer.status == 503 || answer.hasSuffix("done\n"), "\(answer)")
            }
        }
        gate.open()
    }
}

import Foundation
import Testing

@testable import AdminHTTP

/// Clients that take their time, on purpose.
@Suite(.ownThread, .serialized, .timeLimit(.minutes(2)))
struct SlowClientTests {
    private let head = "GET /livez HTTP/1.1\r\nHost: localhost\r\n"

    private func withServer(
        _ change: (inout ConnectionTable.Limits) -> Void = { _ in }, _ body: (UInt16) throws -> Void
    ) throws {
        var settings = AdminServer.Settings()
        change(&settings.limits)
        let server = try AdminServer(
            .tcp(host: "127.0.0.1", port: 0),
            routes: [
                .livez,
                Route("POST", "/livez", access: .open, bodyLimit: 64 * 1024) { _ in .text("ok\n") },
                Route("GET", "/large", access: .open) { _ in
                    .text(String(repeating: "0123456789abcdef", count: 2 << 20))
                },
            ], settings: settings)
        defer { server.stop() }
        guard case .tcp(_, let port) = server.address else { throw POSIXError(.EINVAL) }
        try body(port)
    }

    private func isAlive(_ port: UInt16) throws -> Bool {
        let began = ContinuousClock.now
        let answer = try TestClient.exchange(port, head + "Connection: close\r\n\r\n")
        return answer.hasSuffix("ok\n") && ContinuousClock.now - began < .seconds(2)
    }

    /// Drips bytes, each well within any limit on silence, until the server has had enough.
    ///
    /// - Returns: how long it bore that.
    private func drip(_ client: TestClient, _ piece: String, limit: Duration) -> Duration {
        let began = ContinuousClock.now
        while !client.isClosed, ContinuousClock.now - began < limit {
            client.send(piece)
            usleep(20_000)
        }
        return ContinuousClock.now - began
    }

    @Test func `a head that comes byte by byte has a deadline as a whole`() throws {
        try withServer {
            $0.request = .milliseconds(500)
        } _: { port in
            let client = try TestClient(port: port)
            client.send(head)
            let time = drip(client, "X", limit: .seconds(10))
            #expect(time > .milliseconds(300) && time < .seconds(3), "\(time)")
            #expect(try isAlive(port))
        }
    }

    @Test func `so has a body, and one that follows an answer`() throws {
        try withServer {
            $0.request = .milliseconds(500)
            $0.idle = .milliseconds(500)
        } _: { port in
            let client = try TestClient(port: port)
            client.send("POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n")
            #expect(drip(client, "x", limit: .seconds(10)) < .seconds(3))
            let second = try TestClient(port: port)
            second.send(head + "\r\n")
            var buffer = [UInt8](repeating: 0, count: 4096)
            #expect(read(second.descriptor, &buffer, buffer.count) > 0)
            second.send(head)
            #expect(drip(second, "X", limit: .seconds(10)) < .seconds(3))
        }
    }

    @Test func `a reader that does not read is let go`() throws {
        try withServer {
            $0.answer = .milliseconds(500)
        } _: { port in
            let client = try TestClient(port: port, receiveBuffer: 4096)
            client.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            usleep(1_500_000)  // longer than the limit; then what was under way is read, and is not the whole
            let answer = try #require(client.readToEnd())
            #expect(answer.utf8.count < 16 << 20)
            #expect(try isAlive(port))
        }
    }

    @Test func `silent clients of one address, and dripping ones, keep nobody from livez`() throws {
        try withServer { port in
            var clients: [TestClient] = []
            for number in 0..<600 {
                let client = try TestClient(port: port)
                if number.isMultiple(of: 2) { client.send("G") }
                clients.append(client)
                if number.isMultiple(of: 50) { #expect(try isAlive(port)) }
            }
            for _ in 0..<20 {
                for client in clients { client.send("E") }
                #expect(try isAlive(port))
            }
            #expect(clients.count { !$0.isClosed } <= 256)
        }
    }

    @Test func `clients that were answered once and stay silent keep nobody from livez either`() throws {
        try withServer { port in
            var clients: [TestClient] = []
            for _ in 0..<400 {
                let client = try TestClient(port: port)
                client.send(head + "\r\n")
                var buffer = [UInt8](repeating: 0, count: 4096)
                #expect(read(client.descriptor, &buffer, buffer.count) > 0)
                clients.append(client)
            }
            for _ in 0..<20 { #expect(try isAlive(port)) }
            #expect(clients.count { !$0.isClosed } <= 256)
        }
    }

    @Test func `one peer has its share, and no more`() throws {
        try withServer {
            $0.perPeer = 8
            $0.connections = 256
        } _: { port in
            let clients = try (0..<40).map { _ in try TestClient(port: port) }
            #expect(try isAlive(port))
            #expect(clients.count { !$0.isClosed } <= 8)
        }
    }

    @Test func `huge heads and bodies are refused`() throws {
        try withServer { port in
            let client = try TestClient(port: port)
            client.send(head + "X: " + String(repeating: "y", count: 1 << 20))
            let answer = client.readToEnd() ?? ""
            #expect(answer.isEmpty || answer.contains(" 431 ") || answer.contains(" 413 "), "\(answer)")
            let announced = try TestClient.exchange(
                port, "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n")
            #expect(announced.hasPrefix("HTTP/1.1 413"))
            let chunked = try TestClient(port: port)
            chunked.send(
                "POST /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
            let chunk = "8000\r\n" + String(repeating: "z", count: 0x8000) + "\r\n"
            var sent = 0
            while sent < 64, chunked.send(chunk) { sent += 1 }
            #expect(chunked.readToEnd()?.hasPrefix("HTTP/1.1 413") == true)
            #expect(try isAlive(port))
        }
    }
}

/// Which connection goes when there are too many.
@Suite struct ConnectionTableTests {
    private let start = ContinuousClock.now

    private func at(_ seconds: Double) -> ContinuousClock.Instant { start + .seconds(seconds) }

    private func table(_ connections: Int, _ perPeer: Int) -> ConnectionTable {
        var limits = ConnectionTable.Limits()
        limits.connections = connections
        limits.perPeer = perPeer
        return ConnectionTable(limits)
    }

    private func peer(_ text: String) -> PeerAddress? { PeerAddress(literal: text)?.peer }

    @Test func `one that has asked for long goes before one that is idle, and that before one that just came`() {
        var table = table(3, 3)
        #expect(table.opened(1, 11, from: peer("10.0.0.1"), at: at(0)).isEmpty)
        table.answers(1, at: at(0))
        table.answered(1, at: at(0.1))
        #expect(table.opened(2, 12, from: peer("10.0.0.1"), at: at(1)).isEmpty)
        #expect(table.opened(3, 13, from: peer("10.0.0.1"), at: at(2.5)).isEmpty)
        #expect(table.opened(4, 14, from: peer("10.0.0.1"), at: at(2.6)) == [12])
        #expect(table.opened(5, 15, from: peer("10.0.0.1"), at: at(2.7)) == [11])
        #expect(table.opened(6, 16, from: peer("10.0.0.1"), at: at(2.8)) == [13])
    }

    @Test func `a peer that takes more than its share loses its own`() {
        var table = table(100, 2)
        #expect(table.opened(1, 11, from: peer("10.0.0.1"), at: at(0)).isEmpty)
        #expect(table.opened(2, 12, from: peer("2001:db8::1"), at: at(1)).isEmpty)
        #expect(table.opened(3, 13, from: peer("2001:db8::2"), at: at(2)).isEmpty)
        #expect(table.opened(4, 14, from: peer("2001:db8::3"), at: at(3)) == [12])
        #expect(table.opened(5, 15, from: peer("2001:db8:0:1::3"), at: at(3)).isEmpty)
    }

    @Test func `when there are too many of all, one goes, whose share was not used up either`() {
        var table = table(2, 2)
        #expect(table.opened(1, 11, from: peer("10.0.0.1"), at: at(0)).isEmpty)
        #expect(table.opened(2, 12, from: peer("10.0.0.2"), at: at(0.1)).isEmpty)
        #expect(table.opened(3, 13, from: peer("10.0.0.3"), at: at(0.2)) == [11])
        #expect(table.opened(4, 14, from: peer("10.0.0.4"), at: at(0.3)) == [12])
    }

    @Test func `each phase has its own deadline, and one that is being closed has none`() {
        var table = table(10, 10)
        _ = table.opened(1, 11, from: nil, at: at(0))
        #expect(table.nextDeadline == at(10))
        table.began(1, at: at(5))
        #expect(table.nextDeadline == at(10))
        table.answers(1, at: at(6))
        #expect(table.nextDeadline == at(36))
        table.answered(1, at: at(7))
        #expect(table.nextDeadline == at(67))
        table.began(1, at: at(20))
        #expect(table.nextDeadline == at(30) && table.overdue(at: at(29)) == ConnectionTable.Overdue())
        #expect(table.overdue(at: at(30)) == ConnectionTable.Overdue(closing: [11]))
        #expect(table.nextDeadline == nil && table.overdue(at: at(99)) == ConnectionTable.Overdue())
        table.closed(1)
        #expect(table.isEmpty)
    }

    @Test func `a suspended one has its task's deadline, and is reported once when that is over`() {
        var table = table(10, 10)
        _ = table.opened(1, 11, from: nil, at: at(0))
        table.suspended(1, for: .seconds(30), at: at(5))
        #expect(table.suspendedDescriptor(1) == 11 && table.nextDeadline == at(35))
        #expect(table.overdue(at: at(34)) == ConnectionTable.Overdue())
        #expect(table.overdue(at: at(35)) == ConnectionTable.Overdue(expired: [1]))
        #expect(table.nextDeadline == nil && table.overdue(at: at(99)) == ConnectionTable.Overdue())
        table.awaitsBody(1, at: at(40))
        #expect(table.suspendedDescriptor(1) == nil && table.nextDeadline == at(50))
        table.suspended(1, for: .seconds(30), at: at(41))
        table.answers(1, at: at(42))
        #expect(table.suspendedDescriptor(1) == nil && table.nextDeadline == at(72))
    }

    @Test func `an idle one goes before a suspended one`() {
        var table = table(3, 3)
        _ = table.opened(1, 11, from: nil, at: at(0))
        table.suspended(1, for: .seconds(30), at: at(0))
        _ = table.opened(2, 12, from: nil, at: at(5))
        table.answers(2, at: at(5))
        table.answered(2, at: at(5))
        _ = table.opened(3, 13, from: nil, at: at(9.5))
        #expect(table.opened(4, 14, from: nil, at: at(10)) == [12])
        #expect(table.opened(5, 15, from: nil, at: at(10.1)) == [11])
    }
}

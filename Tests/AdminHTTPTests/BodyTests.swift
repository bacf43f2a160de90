import Foundation
import Testing

@testable import AdminHTTP

/// Bodies at and over the limits.
@Suite(.ownThread, .timeLimit(.minutes(1)))
struct BodyTests {
    private let called = Events()

    private func server(_ change: (inout ConnectionTable.Limits) -> Void = { _ in }) throws -> TestServer {
        let called = called
        return try TestServer(
            [
                .livez,
                Route("POST", "/take", access: .open, bodyLimit: 70_000) {
                    called.happen()
                    return .text("\($0.body.count) \($0.body.reduce(0) { $0 + Int($1) })")
                },
                Route("POST", "/none", access: .open) { request in
                    called.happen()
                    return .text("\(request.body.count)")
                },
            ], change)
    }

    /// A body in the chunked transfer coding.
    private func chunked(_ body: String, by size: Int) -> String {
        var rest = body[...]
        var text = ""
        while !rest.isEmpty {
            let chunk = rest.prefix(size)
            rest = rest.dropFirst(size)
            text += "\(String(chunk.utf8.count, radix: 16))\r\n\(chunk)\r\n"
        }
        return text + "0\r\n\r\n"
    }

    @Test func `a body at the limit is received`() throws {
        let server = try server()
        defer { server.server.stop() }
        for count in [0, 1, 40_000, 70_000] {
            let body = String(repeating: "a", count: count)
            let expected = "\(count) \(97 * count)"
            let plain = try server.ask("POST", "/take", "Content-Length: \(count)\r\n", body: body)
            #expect(plain.answerBody == expected, "\(plain)")
            let pieces = try server.ask(
                "POST", "/take", "Transfer-Encoding: chunked\r\n", body: chunked(body, by: 9_999))
            #expect(pieces.answerBody == expected, "\(pieces)")
        }
        #expect(try server.ask("POST", "/none", "Content-Length: 0\r\n").answerBody == "0")
        #expect(try server.ask("POST", "/none", "Transfer-Encoding: chunked\r\n", body: "0\r\n\r\n").answerBody == "0")
        #expect(try server.ask("POST", "/none").answerBody == "0")
    }

    @Test func `a body over the limit is refused and not read`() throws {
        let server = try server()
        defer { server.server.stop() }
        // No byte of the body is sent: the answer does not wait for it.
        for (path, length) in [("/take", "70001"), ("/none", "1"), ("/take", "99999999999999999999")] {
            let answer = try server.ask("POST", path, "Content-Length: \(length)\r\n")
            #expect(answer.status == 413, "\(answer)")
        }
        let body = String(repeating: "a", count: 70_001)
        for (path, body) in [
            ("/take", chunked(body, by: 7)), ("/take", chunked(body, by: 70_001)), ("/none", "1\r\na\r\n"),
        ] {
            let answer = try server.ask("POST", path, "Transfer-Encoding: chunked\r\n", body: body)
            #expect(answer.status == 413 && answer.contains("application/problem+json"), "\(answer)")
            #expect(answer.answerBody.hasPrefix("{") && answer.answerBody.hasSuffix("}\n"))
        }
        // A body without end.
        let endless = try server.client("POST", "/take", "Transfer-Encoding: chunked\r\n")
        let chunk = "8000\r\n" + String(repeating: "z", count: 0x8000) + "\r\n"
        var sent = 0
        while sent < 1000, endless.send(chunk) { sent += 1 }
        #expect(sent < 1000)
        #expect(endless.readToEnd()?.status == 413)
        #expect(called.count == 0)
        #expect(try server.isAlive())
    }

    @Test func `an incomplete or malformed body does not reach the handler`() throws {
        let server = try server { $0.request = .milliseconds(500) }
        defer { server.server.stop() }
        let began = ContinuousClock.now
        let short = try server.client("POST", "/take", "Content-Length: 10\r\n", body: "123")
        let torn = try server.client("POST", "/take", "Transfer-Encoding: chunked\r\n", body: "5\r\nab")
        let left = try server.client("POST", "/take", "Content-Length: 10\r\n", body: "123")
        left.finishSending()
        for client in [short, torn, left] { #expect(client.readToEnd() == "") }
        #expect(ContinuousClock.now - began < .seconds(5))
        let malformed = try server.ask("POST", "/take", "Transfer-Encoding: chunked\r\n", body: "xyz\r\n")
        #expect(malformed.status == 400, "\(malformed)")
        #expect(called.count == 0)
    }

    @Test func `the next request may follow a body`() throws {
        let server = try server()
        defer { server.server.stop() }
        let client = try TestClient(port: server.port)
        client.send(
            "POST /take HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
                + "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        let answers = try #require(client.readToEnd())
        #expect(answers.contains("3 294") && answers.hasSuffix("ok\n"), "\(answers)")
    }
}

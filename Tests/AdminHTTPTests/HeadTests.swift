import Foundation
import Testing

@testable import AdminHTTP

/// Heads with hidden bytes, and heads that are too large.
@Suite(.ownThread, .timeLimit(.minutes(1)))
struct HeadTests {
    private let routes = [
        Route.livez,
        .immediate("GET", "/count", access: .open) { .text("\($0.head.query.count)") },
        .immediate("GET", "/say", access: .open) {
            .text("\($0.head.query["a"] ?? "-")|\($0.head.query["b"] ?? "-")|\($0.head.headers["x"] ?? "-")")
        },
    ]

    private func exchange(_ server: TestServer, _ request: String) throws -> String {
        try TestClient.exchange(server.port, request)
    }

    @Test(arguments: [
        "GET /livez HTTP/1.1\r\nHost: localhost\0.evil\r\nConnection: close\r\n\r\n",
        "GET /livez HTTP/1.1\r\nConnection: close\r\nHost: localhost\0.evil\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\0\r\nConnection: close\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\nConnection: close\r\n\r\n",
        "GET /livez\0/secret HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /livez?a\0b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /livez\0?a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\nConnection: close\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\r\n\tHost: evil\r\nConnection: close\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length : 5\r\nConnection: close\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\norigin: http://evil.example\r\n"
            + "Connection: close\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n: x\r\nConnection: close\r\n\r\n",
        "GET /livez now HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n",
    ])
    func `a head with NUL bytes, folded lines, invalid names or two origins is refused`(request: String) throws {
        let server = try TestServer(routes)
        defer { server.server.stop() }
        let answer = try exchange(server, request)
        #expect(answer.status == 400 && answer.contains("application/problem+json"), "\(answer)")
    }

    @Test func `an unusual but valid head is accepted`() throws {
        let server = try TestServer(routes)
        defer { server.server.stop() }
        for head in [
            "Host: localhost\r\nX: x y \t\r\nConnection: close\r\n\r\n",
            "Host:localhost\r\nX:x y\r\nConnection:close\r\n\r\n",
            "Host:\t localhost\nX: x y\nConnection: close\n\n", "Host: localhost\nX: x y\r\nConnection: close\n\r\n",
            "X: x y\r\nEmpty:\r\nBlank:  \r\nHost: localhost\r\nConnection: close\r\nLast:\r\n\r\n",
            "X: x y\r\nHost: localhost\r\nConnection: close\r\n"
                + (0..<80).map { "X-\($0): \($0)\r\n" }.joined() + "Cookie: a=b; c; d=\"e\"\r\n\r\n",
        ] {
            let answer = try exchange(server, "GET /say?a=1+2&b=%26%3D&a=3 HTTP/1.1\r\n" + head)
            #expect(answer.status == 200 && answer.answerBody.hasPrefix("1 2|&=|x y"), "\(head): \(answer)")
        }
        #expect(try exchange(server, "GET /say?b&=c& HTTP/1.0\r\n\r\n").answerBody == "-||-")
        // The receive buffer is reused and grows.
        let client = try TestClient(port: server.port)
        for size in [10, 20_000, 10, 12_000] {
            client.send("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: \(String(repeating: "x", count: size))\r\n\r\n")
            #expect(client.read(until: "ok\n").status == 200, "\(size)")
        }
    }

    @Test func `a URL with too many parameters or bytes is refused at once`() throws {
        let server = try TestServer(routes)
        defer { server.server.stop() }
        func query(_ count: Int) -> String { (0..<count).map { "p\($0)=v" }.joined(separator: "&") }
        #expect(try server.get("/count?" + query(200)).answerBody == "200")
        let began = ContinuousClock.now
        for target in [
            "/count?" + query(201), "/count?" + query(500), "/count?" + query(1000),
            "/count?" + String(repeating: "a&", count: 4000), "/count?" + String(repeating: "a=&", count: 5000),
            "/count?" + String(repeating: "x", count: 9000), "/" + String(repeating: "x", count: 9000),
        ] {
            let answer = try server.get(target)
            #expect(answer.status == 414 && answer.contains("application/problem+json"), "\(answer)")
        }
        #expect(ContinuousClock.now - began < .seconds(5))
        #expect(try server.isAlive())
    }
}

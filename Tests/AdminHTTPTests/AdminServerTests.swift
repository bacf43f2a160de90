import Foundation
import Processes
import Testing

@testable import AdminHTTP

@Suite(.ownThread, .timeLimit(.minutes(1)))
struct AdminServerTests {
    private func withServer(_ body: (UInt16) throws -> Void) throws {
        let server = try AdminServer(
            .tcp(host: "127.0.0.1", port: 0),
            routes: [
                Route("GET", "/hello", access: .open) { .text("hello \($0.head.query["name"] ?? "you")\n") },
                Route("GET", "/long", access: .open) { _ in .text(String(repeating: "abc ", count: 5000)) },
            ])
        defer { server.stop() }
        guard case .tcp(_, let port) = server.address else { throw POSIXError(.EINVAL) }
        try body(port)
    }

    private func exchange(_ port: UInt16, _ request: String) throws -> String {
        try TestClient.exchange(port, request)
    }

    private func get(_ path: String, _ headers: String = "") -> String {
        "GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\(headers)\r\n"
    }

    @Test func `a route answers, with the query`() throws {
        try withServer { port in
            let answer = try exchange(port, get("/hello?name=w%C3%B6rld"))
            #expect(answer.hasPrefix("HTTP/1.1 200"))
            #expect(answer.hasSuffix("hello wörld\n"))
            #expect(answer.contains("X-Content-Type-Options: nosniff"))
        }
    }

    @Test func `errors are problem+json`() throws {
        try withServer { port in
            let missing = try exchange(port, get("/nothing"))
            #expect(missing.hasPrefix("HTTP/1.1 404"))
            #expect(missing.contains("application/problem+json"))
            #expect(missing.contains("\"status\":404"))
            let method = try exchange(port, "DELETE /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            #expect(method.hasPrefix("HTTP/1.1 405"))
            #expect(method.contains("Allow: GET"))
        }
    }

    @Test(arguments: [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "HTTP/1.1 400"), ("Host: y\r\n", "HTTP/1.1 400"),
        ("Content-Length: 1\r\nContent-Length: 2\r\n", "HTTP/1.1 400"), ("Transfer-Encoding: gzip\r\n", "HTTP/1.1 501"),
    ])
    func `a head that can be read in two ways is refused`(headers: String, expected: String) throws {
        try withServer { port in
            let answer = try exchange(
                port, "GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + "\r\n")
            #expect(answer.hasPrefix(expected) || answer.hasPrefix("HTTP/1.1 400"), "\(answer)")
            #expect(!answer.contains("hello you"))
        }
    }

    @Test func `long answers are compressed for those who accept it`() throws {
        try withServer { port in
            let plain = try exchange(port, get("/long"))
            #expect(plain.hasSuffix("abc "))
            let packed = try exchange(port, get("/long", "Accept-Encoding: gzip\r\n"))
            #expect(packed.contains("Content-Encoding: gzip"))
            #expect(packed.utf8.count < plain.utf8.count / 10)
        }
    }

    @Test func `gzip is what others unpack`() async throws {
        let text = (0..<20_000).map { "line \($0 &* 7)\n" }.joined()
        let packed = try #require(gzip(Array(text.utf8)))
        let file = "/tmp/reeve-gzip-\(UUID().uuidString.prefix(8)).gz"
        try Data(packed).write(to: URL(fileURLWithPath: file))
        defer { try? FileManager.default.removeItem(atPath: file) }
        let outcome = try await Command("gzip", ["-dc", file]).run()
        #expect(outcome.output == text)
    }

    @Test func `an address that is taken, or is none, is refused`() throws {
        try withServer { port in
            let error = #expect(throws: ServerError.self) {
                try AdminServer(.tcp(host: "127.0.0.1", port: port), routes: [])
            }
            #expect(error?.description.contains("127.0.0.1:\(port)") == true)
        }
        for bad in ["", "7433", "::1:7433", "host:99999", "unix:relative"] {
            #expect(ListenAddress(bad) == nil, "\(bad)")
        }
        #expect(ListenAddress("[::1]:80") == .tcp(host: "::1", port: 80))
        #expect(ListenAddress("unix:/run/x") == .unix(path: "/run/x"))
    }
}

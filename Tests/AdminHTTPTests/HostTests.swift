import Foundation
import Testing

@testable import AdminHTTP

/// Who may ask, under which name, and from where.
@Suite(.ownThread, .timeLimit(.minutes(1)))
struct HostTests {
    private let local = HostPolicy(
        .tcp(host: "127.0.0.1", port: 7433), isRemote: false, machine: "db1.example.com", more: ["Metrics.example.com"])
    private let remote = HostPolicy(
        .tcp(host: "10.1.2.3", port: 7433), isRemote: true, machine: "db1.example.com", more: ["metrics.example.com"])

    private func status(_ policy: HostPolicy, _ headers: [(String, String)], _ version: String = "HTTP/1.1") -> Int? {
        policy.refusal(version, headers.map { (name: $0.0, value: $0.1) })?.status
    }

    @Test func `only names that are the server's own are answered`() {
        for host in [
            "localhost", "LOCALHOST:7433", "localhost.", "a.localhost:80", "127.0.0.1", "127.9.9.9:1", "[::1]",
            "[::1]:7433", "[::ffff:127.0.0.1]", "metrics.example.com",
        ] {
            #expect(status(local, [("Host", host)]) == nil, "\(host)")
            #expect(status(remote, [("Host", host)]) == nil, "\(host)")
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost", "1.2.3"] {
            #expect(status(local, [("Host", host)]) == 421, "\(host)")
            #expect(status(remote, [("Host", host)]) == 421, "\(host)")
        }
        for host in ["10.1.2.3", "192.0.2.7:7433", "[2001:db8::1]:7433", "db1.example.com:7433"] {
            #expect(status(local, [("Host", host)]) == 421, "\(host)")
            #expect(status(remote, [("Host", host)]) == nil, "\(host)")
        }
        for host in ["", ":80", "a b", "localhost:x", "localhost:99999", "[::1", "[evil]", "localhost/x", "é"] {
            #expect(status(local, [("Host", host)]) == 400, "\(host)")
        }
    }

    @Test func `without a Host only HTTP 1.0 is answered`() {
        #expect(status(local, []) == 400)
        #expect(status(local, [], "HTTP/1.0") == nil)
        #expect(status(local, [("Host", "evil.example")], "HTTP/1.0") == 421)
    }

    @Test func `a page of another origin is refused`() {
        let host = ("Host", "localhost:7433")
        #expect(status(local, [host, ("Origin", "http://localhost:7433")]) == nil)
        #expect(status(local, [("Host", "metrics.example.com"), ("Origin", "https://metrics.example.com")]) == nil)
        #expect(status(local, [("Host", "metrics.example.com"), ("Origin", "http://metrics.example.com:80")]) == nil)
        for origin in [
            "null", "http://evil.example", "http://localhost", "http://localhost:7434", "https://localhost", "",
            "file://localhost:7433", "http://localhost:7433.evil.example",
        ] {
            #expect(status(local, [host, ("Origin", origin)]) == 403, "\(origin)")
        }
        #expect(status(local, [("Origin", "http://localhost")], "HTTP/1.0") == 403)
    }

    @Test func `the server refuses, in problem+json`() throws {
        let server = try AdminServer(
            .tcp(host: "127.0.0.1", port: 0),
            routes: [Route("GET", "/", access: .open) { _ in .text("secret") }])
        defer { server.stop() }
        guard case .tcp(_, let port) = server.address else { throw POSIXError(.EINVAL) }
        func ask(_ headers: String) throws -> String {
            try TestClient.exchange(port, "GET / HTTP/1.1\r\nConnection: close\r\n\(headers)\r\n")
        }
        let misdirected = try ask("Host: rebound.example:\(port)\r\n")
        #expect(misdirected.hasPrefix("HTTP/1.1 421") && misdirected.contains("application/problem+json"))
        #expect(try ask("Host: localhost\r\nOrigin: http://rebound.example\r\n").hasPrefix("HTTP/1.1 403"))
        #expect(try ask("").hasPrefix("HTTP/1.1 400"))
        #expect(try ask("Host: 127.0.0.1:\(port)\r\n").hasSuffix("secret"))
    }

    @Test func `listening where other machines reach it is refused unless it is asked for`() throws {
        for host in ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"] {
            let error = #expect(throws: ServerError.self, "\(host)") {
                try AdminServer(.tcp(host: host, port: 0), routes: [])
            }
            #expect(error?.isRefusal == true && error?.hint.contains("http.remote") == true, "\(host)")
        }
        for host in ["127.0.0.1", "127.0.0.2", "localhost"] {
            try AdminServer(.tcp(host: host, port: 0), routes: []).stop()
        }
    }

    @Test func `host and origin are checked before anything else`() throws {
        let server = try TestServer([
            .immediate("GET", "/closed", access: .authenticated("x")) { _ in .text("closed") }, .livez,
        ])
        defer { server.server.stop() }
        for path in ["/livez", "/closed", "/nothing", "//", "/livez?" + String(repeating: "a&", count: 1000)] {
            let answer = try TestClient.exchange(
                server.port, "GET \(path) HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            #expect(answer.status == 421, "\(answer)")
            #expect(try server.get(path, "Origin: http://evil.example\r\n").status == 403)
        }
    }
}

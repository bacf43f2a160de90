import Foundation
import Testing

@testable import AdminHTTP

/// Access to routes that are not open.
@Suite(.ownThread, .timeLimit(.minutes(1)))
struct AuthenticationTests {
    private let called = Events()

    private var routes: [Route] {
        let called = called
        return [
            .livez,
            Route("GET", "/v1/runs/{id}", access: .authenticated("runs:read")) {
                called.happen()
                return .text("\($0.caller?.name ?? "nobody") \($0.parameters["id"] ?? "")")
            },
            Route("POST", "/v1/runs", access: .authenticated("runs:operate"), bodyLimit: 100_000) {
                called.happen()
                return .text("\($0.body.count)")
            },
            .immediate("GET", "/v1/version", access: .authenticated("runs:read")) { _ in
                called.happen()
                return .text("1")
            },
        ]
    }

    /// Accepts the tokens `reader` and `operator`.
    private struct Tokens: Authenticator {
        struct Down: Error {}

        func authenticate(_ head: RequestHead) async throws -> Authentication {
            switch head.bearerToken {
            case nil: return .missing
            case "reader": return .caller(Caller(name: "reader", scopes: ["runs:read"]))
            case "operator": return .caller(Caller(name: "operator", scopes: ["runs:read", "runs:operate"]))
            case "down": throw Down()
            case "slow":
                try await Task.sleep(for: .seconds(600))
                return .missing
            default: return .invalid
            }
        }
    }

    private func bearer(_ token: String) -> String { "Authorization: Bearer \(token)\r\n" }

    @Test func `without an authenticator only open routes are called`() throws {
        let server = try TestServer(routes)
        defer { server.server.stop() }
        for (method, path) in [
            ("GET", "/v1/runs/7"), ("HEAD", "/v1/runs/7"), ("POST", "/v1/runs"), ("GET", "/v1/version"),
        ] {
            let answer = try server.ask(method, path, bearer("operator"))
            #expect(
                answer.status == 401 && answer.contains("WWW-Authenticate: Bearer realm=\"reeve\"\r\n"), "\(answer)")
            #expect(answer.contains("application/problem+json"))
        }
        // The answer does not wait for the body.
        #expect(try server.ask("POST", "/v1/runs", "Content-Length: 100000\r\n").status == 401)
        #expect(called.count == 0)
        #expect(try server.isAlive())
    }

    @Test func `an unauthenticated caller cannot tell which paths exist`() throws {
        for authenticator in [nil, Tokens()] {
            let server = try TestServer(routes, authenticator: authenticator)
            defer { server.server.stop() }
            let known = try server.get("/v1/runs/7").withoutDate
            for (method, path) in [("GET", "/v1/nothing"), ("DELETE", "/v1/runs/7"), ("GET", "/v1/runs"), ("PUT", "/")]
            {
                #expect(try server.ask(method, path).withoutDate == known, "\(method) \(path)")
            }
            #expect(try server.ask("DELETE", "/livez").status == 405)
        }
        let open = try TestServer([.livez])
        defer { open.server.stop() }
        #expect(try open.get("/v1/nothing").status == 404)
    }

    @Test func `an authenticated caller may do what the scopes allow`() throws {
        let server = try TestServer(routes, authenticator: Tokens())
        defer { server.server.stop() }
        #expect(try server.get("/v1/runs/7", bearer("reader")).answerBody == "reader 7")
        #expect(try server.get("/v1/version", bearer("reader")).answerBody == "1")
        #expect(try server.get("/v1/nothing", bearer("reader")).status == 404)
        #expect(try server.ask("DELETE", "/v1/runs/7", bearer("reader")).status == 405)
        let before = called.count
        let forbidden = try server.ask("POST", "/v1/runs", bearer("reader") + "Content-Length: 100000\r\n")
        #expect(forbidden.status == 403, "\(forbidden)")
        #expect(forbidden.contains("error=\"insufficient_scope\", scope=\"runs:operate\""))
        let invalid = try server.get("/v1/runs/7", bearer("guess"))
        #expect(invalid.status == 401 && invalid.contains("error=\"invalid_token\""), "\(invalid)")
        for headers in ["", "Authorization: Basic cmVhZGVyOg==\r\n", "Authorization: Bearer\r\n"] {
            let missing = try server.get("/v1/runs/7", headers)
            #expect(missing.status == 401 && !missing.contains("invalid_token"), "\(missing)")
        }
        #expect(try server.get("/v1/runs/7", bearer("guess") + bearer("reader")).status == 400)
        #expect(called.count == before)
        #expect(try server.get("/livez", bearer("guess")).status == 200)
    }

    @Test func `the body is received after authentication`() throws {
        let server = try TestServer(routes, authenticator: Tokens())
        defer { server.server.stop() }
        let body = String(repeating: "b", count: 100_000)
        #expect(
            try server.ask("POST", "/v1/runs", bearer("operator") + "Content-Length: 100000\r\n", body: body).answerBody
                == "100000")
        let waiting = try server.client(
            "POST", "/v1/runs", bearer("operator") + "Content-Length: 3\r\nExpect: 100-continue\r\n")
        #expect(waiting.read(until: "\r\n\r\n").hasPrefix("HTTP/1.1 100"))
        waiting.send("abc")
        #expect(waiting.readToEnd()?.answerBody == "3")
        let refused = try server.ask(
            "POST", "/v1/runs", bearer("guess") + "Content-Length: 3\r\nExpect: 100-continue\r\n")
        #expect(refused.status == 401, "\(refused)")
    }

    @Test func `an authenticator that fails or hangs admits nobody`() throws {
        let server = try TestServer(routes, authenticator: Tokens()) { $0.authentication = .milliseconds(300) }
        defer { server.server.stop() }
        for token in ["down", "slow"] {
            let answer = try server.get("/v1/runs/7", bearer(token))
            #expect(answer.status == 503 && answer.contains("application/problem+json"), "\(answer)")
        }
        #expect(called.count == 0)
    }
}

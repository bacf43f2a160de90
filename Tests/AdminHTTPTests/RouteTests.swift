import Foundation
import Testing

@testable import AdminHTTP

/// Routing, and the parameters of paths.
@Suite(.ownThread, .timeLimit(.minutes(1)))
struct RouteTests {
    private let routes = [
        Route("GET", "/v1/databases/{database}/runs/{id}", access: .open) {
            .text("\($0.parameters["database"] ?? "-")|\($0.parameters["id"] ?? "-")")
        },
        Route("GET", "/v1/databases/{database}/runs/latest", access: .open) { _ in .text("the latest") },
        Route("POST", "/v1/databases/{database}/runs/latest", access: .open) { _ in .text("posted") },
        Route("GET", "/", access: .open) { _ in .text("root") },
        .livez,
    ]

    @Test func `parameters are decoded by segment, and literals are preferred`() throws {
        let server = try TestServer(routes)
        defer { server.server.stop() }
        #expect(try server.get("/v1/databases/my%20db/runs/7?x=1").answerBody == "my db|7")
        #expect(try server.get("/v1/databases/a+b/runs/%C3%A9%25%3F").answerBody == "a+b|é%?")
        #expect(try server.get("/v1/%64atabases/{database}/runs/..x").answerBody == "{database}|..x")
        #expect(try server.get("/v1/databases/x/runs/latest").answerBody == "the latest")
        #expect(try server.get("/").answerBody == "root")
    }

    @Test(arguments: [
        "//livez", "/livez/", "/./livez", "/x/../livez", "/v1/databases/%2e%2E/runs/7", "/v1/databases//runs/7",
        "/v1/databases/a%2Fb/runs/7", "/v1/databases/%/runs/7", "/v1/databases/%4/runs/7", "/v1/databases/%gg/runs/7",
        "/v1/databases/%+1/runs/7", "/v1/databases/%ff/runs/7", "/v1/databases/a%00/runs/7",
        "/v1/databases/%0d%0a/runs/7", "/v1/databases/é/runs/7", "/livez?a=%zz", "/livez?a=%00",
        "http://localhost/livez", "*",
    ])
    func `an ambiguous target is refused`(target: String) throws {
        let server = try TestServer(routes)
        defer { server.server.stop() }
        let answer = try server.get(target)
        #expect(answer.status == 400 && answer.contains("application/problem+json"), "\(answer)")
    }

    @Test func `an unknown path is 404, and an unknown method 405 with those allowed`() throws {
        let server = try TestServer(routes)
        defer { server.server.stop() }
        for path in ["/v1/databases/x/runs", "/v1/databases/x/runs/7/more", "/v1", "/Livez", "/livez%20"] {
            let answer = try server.get(path)
            #expect(answer.status == 404 && answer.contains("application/problem+json"), "\(path): \(answer)")
        }
        let both = try server.ask("DELETE", "/v1/databases/x/runs/latest")
        #expect(both.status == 405 && both.contains("Allow: GET, HEAD, POST\r\n"), "\(both)")
        #expect(both.contains("application/problem+json"))
        let one = try server.ask("POST", "/v1/databases/x/runs/7")
        #expect(one.status == 405 && one.contains("Allow: GET, HEAD\r\n"), "\(one)")
        #expect(try server.ask("POST", "/v1/databases/x/runs/latest").answerBody == "posted")
    }

    @Test func `HEAD is GET without the body`() throws {
        let server = try TestServer(routes)
        defer { server.server.stop() }
        for path in ["/v1/databases/x/runs/latest", "/livez"] {
            let get = try server.get(path)
            let head = try server.ask("HEAD", path)
            #expect(head.status == 200 && head.answerBody.isEmpty, "\(head)")
            #expect(head.withoutDate == get.withoutDate.dropLast(), "\(head)")
        }
    }

    @Test func `invalid patterns are refused`() {
        for text in ["", "livez", "/a/", "//", "/{}", "/{a}/{a}", "/a{b}", "/{a}b", "/{a"] {
            #expect(PathPattern(parsing: text) == nil, "\(text)")
        }
        #expect(PathPattern(parsing: "/{a}/b/{c}")?.parameters(of: ["1", "b", "2"]) == ["a": "1", "c": "2"])
        #expect(PathPattern(parsing: "/{a}/b/{c}")?.shape == PathPattern(parsing: "/{x}/b/{y}")?.shape)
    }
}

import Foundation
import Testing

@testable import AdminHTTP

/// A server on a port of its own.
struct TestServer {
    let server: AdminServer
    let port: UInt16

    init(
        _ routes: [Route], authenticator: (any Authenticator)? = nil,
        _ change: (inout ConnectionTable.Limits) -> Void = { _ in }
    ) throws {
        var settings = AdminServer.Settings()
        change(&settings.limits)
        server = try AdminServer(
            .tcp(host: "127.0.0.1", port: 0), routes: routes, authenticator: authenticator, settings: settings)
        guard case .tcp(_, let port) = server.address else { throw POSIXError(.EINVAL) }
        self.port = port
    }

    /// A connection on which a complete request has been sent.
    func client(_ method: String, _ path: String, _ headers: String = "", body: String = "") throws -> TestClient {
        let client = try TestClient(port: port)
        client.send("\(method) \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\(headers)\r\n\(body)")
        return client
    }

    /// The complete answer to a request.
    func ask(_ method: String, _ path: String, _ headers: String = "", body: String = "") throws -> String {
        try #require(client(method, path, headers, body: body).readToEnd())
    }

    func get(_ path: String, _ headers: String = "") throws -> String { try ask("GET", path, headers) }

    /// Whether `/livez` answers within 2 s.
    func isAlive() throws -> Bool {
        let began = ContinuousClock.now
        return try get("/livez").hasSuffix("ok\n") && ContinuousClock.now - began < .seconds(2)
    }
}

extension Route {
    static let livez = Route.immediate("GET", "/livez", access: .open) { _ in .text("ok\n") }
}

extension AdminResponse {
    static func text(_ text: String) -> AdminResponse { AdminResponse(contentType: "text/plain", body: text) }
}

extension String {
    /// The status of an answer.
    var status: Int { split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0 }

    /// The body of an answer.
    var answerBody: String { range(of: "\r\n\r\n").map { String(self[$0.upperBound...]) } ?? "" }

    /// The lines of an answer, without the date.
    var withoutDate: [Substring] { split(separator: "\r\n").filter { !$0.hasPrefix("Date:") } }
}

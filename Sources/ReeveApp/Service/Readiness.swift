import AdminHTTP
import Synchronization

/// What `/readyz` tells, kept up to date by those who know, so that asking costs nothing.
final class Readiness: Sendable {
    struct Check: Sendable, Equatable {
        let name: String
        let isGood: Bool
        let message: String
    }

    private let checks = Mutex<[String: Check]>([:])

    func set(_ name: String, _ isGood: Bool, _ message: String) {
        checks.withLock { $0[name] = Check(name: name, isGood: isGood, message: message) }
    }

    func isGood(_ name: String) -> Bool { checks.withLock { $0[name]?.isGood ?? false } }

    var all: [Check] { checks.withLock { $0.values.sorted { $0.name < $1.name } } }

    /// 200 when every check is good, else 503; with `verbose` a line a check, in the form of Kubernetes's own.
    func answer(verbose: Bool) -> HTTPResponse {
        let all = all
        let isReady = !all.isEmpty && all.allSatisfy(\.isGood)
        if isReady, !verbose { return HTTPResponse(contentType: "text/plain; charset=utf-8", body: "ok\n") }
        if !isReady, !verbose {
            let failing = all.filter { !$0.isGood }.map { "\($0.name): \($0.message)" }.joined(separator: "; ")
            return .problem(503, "Service Unavailable", detail: failing.isEmpty ? "starting" : failing)
        }
        var body = all.map { "[\($0.isGood ? "+" : "-")]\($0.name) \($0.message)\n" }.joined()
        body += isReady ? "ready\n" : "not ready\n"
        return HTTPResponse(status: isReady ? 200 : 503, contentType: "text/plain; charset=utf-8", body: body)
    }
}

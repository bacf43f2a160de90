import AdminHTTP
import Ledger
import Postgres
import Synchronization

/// What `/readyz` tells, kept up to date by those who know, so that asking costs nothing.
final class Readiness: Sendable {
    struct Check: Sendable, Equatable {
        let name: String
        let isGood: Bool
        let message: String
    }

    private struct Entry: Sendable {
        let check: Check
        let since: ContinuousClock.Instant
        let lasts: Duration?
    }

    private let entries = Mutex<[String: Entry]>([:])
    private let now: @Sendable () -> ContinuousClock.Instant

    init(now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) { self.now = now }

    /// - Parameter lasts: for how long it may be taken for true; nil: until something else is said.
    func set(_ name: String, _ isGood: Bool, _ message: String, lasts: Duration? = nil) {
        let entry = Entry(
            check: Check(name: name, isGood: isGood, message: message), since: now(), lasts: lasts)
        entries.withLock { $0[name] = entry }
    }

    func isGood(_ name: String) -> Bool {
        entries.withLock { $0[name] }.map { current($0).isGood } ?? false
    }

    var all: [Check] { entries.withLock { Array($0.values) }.map(current).sorted { $0.name < $1.name } }

    /// What nobody has looked at for too long is good no more.
    private func current(_ entry: Entry) -> Check {
        let age = now() - entry.since
        guard entry.check.isGood, let lasts = entry.lasts, age > lasts else { return entry.check }
        return Check(
            name: entry.check.name, isGood: false,
            message: "has not been looked at for \(age.components.seconds) s; it was: \(entry.check.message)")
    }

    /// 200 when every check is good, else 503; with `verbose` a line a check, in the form of Kubernetes's own.
    func answer(verbose: Bool) -> AdminResponse {
        let all = all
        let isReady = !all.isEmpty && all.allSatisfy(\.isGood)
        if isReady, !verbose { return AdminResponse(contentType: "text/plain; charset=utf-8", body: "ok\n") }
        if !isReady, !verbose {
            let failing = all.filter { !$0.isGood }.map { "\($0.name): \($0.message)" }.joined(separator: "; ")
            return .problem(503, "Service Unavailable", detail: failing.isEmpty ? "starting" : failing)
        }
        var body = all.map { "[\($0.isGood ? "+" : "-")]\($0.name) \($0.message)\n" }.joined()
        body += isReady ? "ready\n" : "not ready\n"
        return AdminResponse(status: isReady ? 200 : 503, contentType: "text/plain; charset=utf-8", body: body)
    }
}

extension Readiness {
    /// What may be said of an error to whoever asks: no host, user or name of a database. The log has all of it.
    static func publicMessage(_ error: any Error) -> String {
        switch error {
        case LedgerError.newer: return "\(error)"
        case LedgerError.busy: return "another process is changing the ledger"
        case LedgerError.foreign: return "the schema 'reeve' is not Reeve's own"
        case let error as PostgresError:
            switch error.kind {
            case .cannotConnect: return "no connection can be made"
            case .connectionLost, .commitOutcomeUnknown: return "the connection was lost"
            case .timedOut: return "it did not answer in time"
            case .poolExhausted: return "all connections of the pool are in use"
            default: return "it refused\(error.sqlState.map { ", SQLSTATE \($0)" } ?? ""); the log says what"
            }
        default: return "it failed; the log says how"
        }
    }
}

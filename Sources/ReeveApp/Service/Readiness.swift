import AdminHTTP
import Ledger
import Postgres
import Synchronization

/// The state that `/readyz` reports. The checks update it, so that a request does no work.
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

    /// Sets the result of a check.
    ///
    /// - Parameter lasts: how long a good result is valid; nil for no limit.
    func set(_ name: String, _ isGood: Bool, _ message: String, lasts: Duration? = nil) {
        let entry = Entry(
            check: Check(name: name, isGood: isGood, message: message), since: now(), lasts: lasts)
        entries.withLock { $0[name] = entry }
    }

    func isGood(_ name: String) -> Bool {
        entries.withLock { $0[name] }.map { current($0).isGood } ?? false
    }

    var all: [Check] { entries.withLock { Array($0.values) }.map(current).sorted { $0.name < $1.name } }

    /// Returns the check. A good result that was not renewed within its validity is no longer good.
    private func current(_ entry: Entry) -> Check {
        let age = now() - entry.since
        guard entry.check.isGood, let lasts = entry.lasts, age > lasts else { return entry.check }
        return Check(
            name: entry.check.name, isGood: false,
            message: "not checked for \(age.components.seconds) s; last result: \(entry.check.message)")
    }

    /// Returns 200 if every check is good, otherwise 503. With `verbose` the body has one line per check, in the format
    /// of Kubernetes.
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
    /// Returns the part of an error that any client may see, without a host, user or database name. The log has the
    /// full error.
    static func publicMessage(_ error: any Error) -> String {
        switch error {
        case LedgerError.newer: return "\(error)"
        case LedgerError.busy: return "another process is changing the ledger"
        case LedgerError.ofOther: return "the schema 'reeve' belongs to another role"
        case LedgerError.foreign: return "the schema 'reeve' contains objects that are not Reeve's"
        case let error as PostgresError:
            switch error.kind {
            case .cannotConnect: return "a connection could not be made"
            case .connectionLost, .commitOutcomeUnknown: return "the connection was lost"
            case .timedOut: return "the server did not answer in time"
            case .poolExhausted: return "all connections of the pool are in use"
            default:
                return
                    "the server reported an error\(error.sqlState.map { ", SQLSTATE \($0)" } ?? ""); the log has the "
                    + "details"
            }
        default: return "the check failed; the log has the details"
        }
    }
}

import Reporting

/// Why the audit chain cannot be anchored.
enum AuditError: Error, CustomStringConvertible {
    case file(String, reason: String)
    case notAKey(String)
    /// The chain does not go on from its newest anchor, or is another ledger's.
    case contradicted(database: String, reason: String)
    /// Some places have the anchor, and these do not.
    case notWritten([(place: String, reason: String)])
    case late(place: String, limit: Duration)
    case noLedger(database: String)

    var description: String {
        switch self {
        case .file(let path, let reason): "\(path) cannot be used: \(reason)"
        case .notAKey(let path): "\(path) holds no key: it has not 64 hexadecimal digits"
        case .contradicted(let database, let reason): "the audit chain of \(database) is not anchored: \(reason)"
        case .notWritten(let failed):
            "the audit chain's anchor is not in "
                + failed.map { "\($0.place): \($0.reason)" }.joined(separator: "; not in ")
        case .late(let place, let limit): "\(place) did not answer within \(limit)"
        case .noLedger(let database): "\(database) has no ledger, and so nothing to anchor"
        }
    }

    var hint: String? {
        switch self {
        case .file: "give another as audit.key or state, or: chmod 600, chown"
        case .notAKey: "put the key back from where you keep a copy; a new one cannot check what the old one anchored"
        case .contradicted:
            "'reeve audit verify' tells more; where that is as it should be, as after a restore: "
                + "reeve audit anchor --accept=REASON"
        case .notWritten, .late: "the other places have it; the next run writes it there too"
        case .noLedger: "'reeve migrate up' makes it"
        }
    }
}

extension AuditError: ReportedError {
    static let codes = [
        ErrorCode(
            "audit", [.failed, .usage, .finding], "The audit chain cannot be anchored, or contradicts its anchors.")
    ]

    var report: ErrorReport {
        let exitCode: ExitCode =
            switch self {
            case .contradicted: .finding
            case .file, .notAKey, .noLedger: .usage
            case .notWritten, .late: .failed
            }
        return ErrorReport(description, code: "audit", hint: hint, exitCode: exitCode)
    }
}

import Kernel
import Reporting

/// The reason why the audit chain cannot be anchored.
public enum AuditError: Error, CustomStringConvertible {
    case file(String, reason: String)
    case notAKey(String)
    /// The chain does not continue from its newest anchor, or belongs to another ledger.
    case contradicted(database: String, reason: String)
    /// The anchor could not be written to these places. Other places may have it.
    case notWritten([(place: String, reason: String)])
    case late(place: String, limit: Duration)
    case noLedger(database: String)
    /// The place is empty, but the ledger records backups in it.
    case emptied(backups: Int)

    public var description: String {
        switch self {
        case .file(let path, let reason): "\(path) cannot be used: \(reason)"
        case .notAKey(let path): "\(path) does not contain a key of 64 hexadecimal digits"
        case .contradicted(let database, let reason): "the audit chain of \(database) cannot be anchored: \(reason)"
        case .notWritten(let failed):
            "the audit chain's anchor could not be written to "
                + failed.map { "\($0.place): \($0.reason)" }.joined(separator: "; nor to ")
        case .late(let place, let limit): "\(place) did not answer within \(limit)"
        case .noLedger(let database): "\(database) has no ledger, so there is nothing to anchor"
        case .emptied(let backups): "the place is empty, but the ledger records \(counted(backups, "backup")) there"
        }
    }

    public var hint: String? {
        switch self {
        case .file:
            "correct the owner and mode of the file (chown, chmod 600) or folder (chown, chmod go-w), or set "
                + "'audit.key', 'backup.signing_key' or 'state' to another path"
        case .notAKey: "restore the key from a copy; a new key cannot verify what was signed with the old one"
        case .contradicted:
            "run 'reeve audit verify' for details; if the contradiction is expected, for example after a restore, run "
                + "'reeve audit anchor --accept=REASON'"
        case .notWritten, .late: "wait for the next run, which tries again; other places may have the anchor"
        case .noLedger: "create the ledger with 'reeve migrate up'"
        case .emptied: "check that the disk of this place is mounted"
        }
    }
}

extension AuditError: ReportedError {
    public static let codes = [
        ErrorCode(
            "audit", [.failed, .usage, .finding], "The audit chain cannot be anchored, or contradicts its anchors.")
    ]

    public var report: ErrorReport {
        let exitCode: ExitCode =
            switch self {
            case .contradicted: .finding
            case .file, .notAKey, .noLedger: .usage
            case .notWritten, .late, .emptied: .failed
            }
        return ErrorReport(description, code: "audit", hint: hint, exitCode: exitCode)
    }
}

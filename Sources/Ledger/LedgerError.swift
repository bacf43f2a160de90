import Reporting

/// An error that makes the ledger unusable.
public enum LedgerError: Error, CustomStringConvertible {
    /// A newer program has upgraded the ledger, or a feature's part of it.
    case newer(part: String? = nil, found: Int, known: Int)
    /// Another process is changing the ledger.
    case busy(holder: String?)
    /// There is a schema `reeve` that Reeve did not create.
    case foreign([String])
    /// Another session was still recording the findings of a check when the wait ended.
    case recording(check: String, holder: String?)

    public var description: String {
        switch self {
        case .newer(let part, let found, let known):
            (part.map { "the part '\($0)' of the ledger" } ?? "the ledger")
                + " in this database has version \(found); this program supports versions up to \(known)"
        case .busy(let holder): "another process is changing the ledger" + (holder.map { ": \($0)" } ?? "")
        case .foreign(let things):
            "the schema 'reeve' in this database is not Reeve's own: " + things.joined(separator: "; ")
        case .recording(let check, let holder):
            "the findings of '\(check)' are being recorded by \(holder ?? "another session")"
        }
    }

    public var hint: String {
        switch self {
        case .newer: "use the newer reeve that this database was last administered with"
        case .busy, .recording: "try again; a session that hangs can be ended with pg_terminate_backend"
        case .foreign:
            "find out who made it, or whether a newer reeve did; then drop it, connect as its owner, or make one role the "
                + "owner of everything in it (ALTER SCHEMA reeve OWNER TO …, likewise its tables and functions)"
        }
    }
}

extension LedgerError: ReportedError {
    public static let codes = [
        ErrorCode(
            "ledger", [.failed, .notPermitted, .locked],
            "The ledger is newer than this program, is in use, or is not Reeve's own.")
    ]

    public var report: ErrorReport {
        let exitCode: ExitCode =
            switch self {
            case .newer: .failed
            case .busy, .recording: .locked
            case .foreign: .notPermitted
            }
        return ErrorReport(description, code: "ledger", hint: hint, exitCode: exitCode)
    }
}

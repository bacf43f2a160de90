import Reporting

/// An error that makes the ledger unusable.
public enum LedgerError: Error, CustomStringConvertible {
    /// A newer program has upgraded the ledger, or a feature's part of it.
    case newer(part: String? = nil, found: Int, known: Int)
    /// Another process is changing the ledger.
    case busy(holder: String?)
    /// There is a schema `reeve` that Reeve did not create.
    case foreign([String])
    /// The ledger belongs to a role that the connected role does not trust.
    case ofOther(owner: String, role: String)
    /// Another session was still recording the findings of a check when the wait ended.
    case recording(check: String, holder: String?)

    public var description: String {
        switch self {
        case .newer(let part, let found, let known):
            (part.map { "the part '\($0)' of the ledger" } ?? "the ledger")
                + " in this database has version \(found); this program supports versions up to \(known)"
        case .busy(let holder): "another process is changing the ledger" + (holder.map { ": \($0)" } ?? "")
        case .foreign(let things):
            "the schema 'reeve' in this database contains objects that are not Reeve's, or others have rights on it: "
                + things.joined(separator: "; ")
        case .ofOther(let owner, let role):
            "the ledger (the schema 'reeve') belongs to the role '\(owner)', and the connected role is '\(role)'"
        case .recording(let check, let holder):
            "another run is recording the findings of '\(check)': \(holder ?? "unknown session")"
        }
    }

    public var hint: String {
        switch self {
        case .newer: "use the newer version of reeve that has upgraded this ledger"
        case .busy, .recording: "try again, or end a hanging session with pg_terminate_backend"
        case .ofOther(let owner, _):
            "connect as '\(owner)', if that role made the ledger; a role does not run functions of others"
        case .foreign:
            "find out who created these objects, for example a newer reeve; then drop them, connect as their owner, or "
                + "make one role the owner of the schema and all its objects (ALTER SCHEMA reeve OWNER TO …, and the "
                + "same for its tables and functions)"
        }
    }
}

extension LedgerError: ReportedError {
    public static let codes = [
        ErrorCode(
            "ledger", [.failed, .notPermitted, .locked],
            "The ledger is newer than this program, is in use, or contains objects that are not Reeve's, or others "
                + "have rights on it."
        )
    ]

    public var report: ErrorReport {
        let exitCode: ExitCode =
            switch self {
            case .newer: .failed
            case .busy, .recording: .locked
            case .foreign, .ofOther: .notPermitted
            }
        return ErrorReport(description, code: "ledger", hint: hint, exitCode: exitCode)
    }
}

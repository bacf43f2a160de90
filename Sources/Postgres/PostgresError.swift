import Reporting
import SQL

/// An error in the use of PostgreSQL, reported by the server or detected by this program.
public struct PostgresError: Error, Sendable {
    public enum Kind: Sendable, Equatable {
        /// The server reported an error; `sqlState` is its code.
        case server
        /// No connection could be made.
        case cannotConnect
        /// The connection was lost or closed. The running statement may or may not have taken effect.
        case connectionLost
        /// A deadline of this process passed. The statement was cancelled.
        case timedOut
        /// The connection was lost, or no answer arrived in time, during COMMIT. It is unknown whether the transaction
        /// was committed.
        case commitOutcomeUnknown
        /// A value cannot be sent to the server or read from it.
        case badValue
        /// The result was larger than the limit. The statement was cancelled.
        case resultTooLarge
        /// The call is not allowed in the state of the connection, pool or script.
        case misuse
        /// A connection string is wrong, or leads to a server or pooler that does not suit the work.
        case configuration
        /// The pool had no free connection within the time limit.
        case poolExhausted
    }

    public var kind: Kind
    /// The SQLSTATE, five characters (PostgreSQL manual, appendix A).
    public var sqlState: String?
    public var severity: String?
    public var message: String
    public var detail: String?
    public var hint: String?
    /// The call stack of functions in PL/pgSQL and similar languages.
    public var context: String?
    public var schema: String?
    public var table: String?
    public var column: String?
    public var constraint: String?
    /// The position in the statement, in characters from 1, as the server counts them.
    public var position: Int?
    /// The place in the file, if the statement was read from a file.
    public var excerpt: SourceExcerpt?

    public init(_ kind: Kind, _ message: String, sqlState: String? = nil, hint: String? = nil) {
        self.kind = kind
        self.message = message
        self.sqlState = sqlState
        self.hint = hint
    }

    /// Whether the same work may succeed if it is tried again. If the connection was lost, the work has to be tried on
    /// a new connection.
    public var isTransient: Bool {
        switch kind {
        case .cannotConnect, .connectionLost, .poolExhausted: return true
        case .server:
            guard let sqlState else { return false }
            // The codes mean: serialization failure, deadlock, lock not available, too many connections, shutdown (two
            // codes), starting up.
            return ["40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03"].contains(sqlState)
                || sqlState.hasPrefix("08")
        default: return false
        }
    }
}

extension PostgresError: CustomStringConvertible {
    /// The message, with the place and the excerpt, for logs and records. Detail and context are left out because they
    /// quote rows.
    public var description: String {
        var text = message
        if let sqlState { text += " (SQLSTATE \(sqlState))" }
        if let excerpt { text = "\(excerpt.location): \(text)\n\(excerpt.drawing)" }
        return text
    }

    /// The description, with detail and context on separate lines. Not for logs, because these quote rows.
    public var fullDescription: String {
        var text = description
        if let detail { text += "\ndetail: \(detail)" }
        if let context {
            let lines = context.split(separator: "\n", omittingEmptySubsequences: false)
            text += "\ncontext: \(lines.joined(separator: "\n         "))"
        }
        return text
    }
}

extension PostgresError: ReportedError {
    public static let codes = [
        ErrorCode(
            ErrorCode.sqlState, [.failed, .notPermitted, .temporary],
            "The server reported an error. The code is its SQLSTATE; see appendix A of PostgreSQL's manual."),
        ErrorCode(
            "postgres", [.failed, .usage, .temporary],
            "The server cannot be reached, the connection was lost, or the connection settings are wrong."),
    ]

    public var report: ErrorReport {
        ErrorReport(fullDescription, code: sqlState ?? "postgres", hint: hint ?? usualHint, exitCode: exitCode)
    }

    private var usualHint: String? {
        if kind == .cannotConnect { return "'reeve config show' shows the origin of the address" }
        return isMissingPrivilege ? MissingPrivilege.hint(for: message) : nil
    }

    private var isMissingPrivilege: Bool { sqlState == "42501" }

    private var exitCode: ExitCode {
        if kind == .configuration { return .usage }
        if isMissingPrivilege { return .notPermitted }
        return isTransient ? .temporary : .failed
    }
}

/// An error as the program reports it.
public struct ErrorReport: Sendable, Equatable {
    /// What happened, and to which object. In lower case, without a full stop.
    public let message: String
    /// A word that identifies the error; scripts may depend on it.
    public let code: String
    /// The remedy, if it is known.
    public let hint: String?
    public let exitCode: ExitCode

    public init(_ message: String, code: String, hint: String? = nil, exitCode: ExitCode = .failed) {
        self.message = message
        self.code = code
        self.hint = hint
        self.exitCode = exitCode
    }
}

/// An error that defines its own report.
public protocol ReportedError: Error, CustomStringConvertible {
    /// The codes of all reports of this error type, for the reference.
    static var codes: [ErrorCode] { get }

    var report: ErrorReport { get }
}

/// One row of the reference of error codes.
public struct ErrorCode: Sendable, Equatable {
    /// The code as it is reported. If this is `sqlState`, the row is about all codes that PostgreSQL defines.
    public let name: String
    /// The exit codes of the program that are possible with this error code.
    public let exitCodes: [ExitCode]
    /// A sentence for the reference.
    public let meaning: String

    public init(_ name: String, _ exitCodes: [ExitCode], _ meaning: String) {
        self.name = name
        self.exitCodes = exitCodes
        self.meaning = meaning
    }

    /// The name of the row for all codes that PostgreSQL defines.
    public static let sqlState = "SQLSTATE"
}

extension ErrorReport {
    /// Creates the report of any error. Uses the error's own report if it has one.
    public init(_ error: any Error) {
        switch error {
        case let error as any ReportedError: self = error.report
        case is CancellationError: self.init("stopped", code: "cancelled")
        default: self.init("\(error)", code: "failed")
        }
    }

    /// The codes of errors that do not have their own report.
    public static let commonCodes = [
        ErrorCode("cancelled", [.failed], "The command was cancelled before it was done."),
        ErrorCode("failed", [.failed], "Any other error. The message says what happened."),
    ]
}

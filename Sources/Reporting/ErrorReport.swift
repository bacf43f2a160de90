/// An error as the program reports it.
public struct ErrorReport: Sendable, Equatable {
    /// Lower case, without a full stop: what happened, and to what.
    public let message: String
    /// A word that scripts may depend on.
    public let code: String
    /// The remedy, where there is one.
    public let hint: String?
    public let exitCode: ExitCode

    public init(_ message: String, code: String, hint: String? = nil, exitCode: ExitCode = .failed) {
        self.message = message
        self.code = code
        self.hint = hint
        self.exitCode = exitCode
    }
}

/// An error that says itself how it is reported.
public protocol ReportedError: Error, CustomStringConvertible {
    /// All codes that its reports may carry, for the reference.
    static var codes: [ErrorCode] { get }

    var report: ErrorReport { get }
}

/// One row of the reference of error codes.
public struct ErrorCode: Sendable, Equatable {
    /// The code as it is reported. `sqlState` stands for all codes of PostgreSQL.
    public let name: String
    /// The exit statuses that go with it.
    public let exitCodes: [ExitCode]
    /// A sentence for the reference.
    public let meaning: String

    public init(_ name: String, _ exitCodes: [ExitCode], _ meaning: String) {
        self.name = name
        self.exitCodes = exitCodes
        self.meaning = meaning
    }

    /// The name of the row for the codes that PostgreSQL defines.
    public static let sqlState = "SQLSTATE"
}

extension ErrorReport {
    /// The report of any error: its own if it has one.
    public init(_ error: any Error) {
        switch error {
        case let error as any ReportedError: self = error.report
        case is CancellationError: self.init("stopped", code: "cancelled")
        default: self.init("\(error)", code: "failed")
        }
    }

    /// The codes of errors that have no report of their own.
    public static let commonCodes = [
        ErrorCode("cancelled", [.failed], "The command was cancelled before it was done."),
        ErrorCode("failed", [.failed], "Any other error; the message tells what happened."),
    ]
}

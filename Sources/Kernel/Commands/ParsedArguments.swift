import Reporting

/// The arguments and options that were given to a command.
public struct ParsedArguments: Sendable {
    public var positional: [String] = []
    public var flags: Set<String> = []
    public var values: [String: [String]] = [:]

    public init() {}
}

/// An error in the command line or in the configuration.
public struct UsageError: Error, CustomStringConvertible {
    public let description: String
    public let hint: String?

    public init(_ description: String, hint: String? = nil) {
        self.description = description
        self.hint = hint
    }
}

extension UsageError: ReportedError {
    public static let codes = [
        ErrorCode("usage", [.usage], "The command line is wrong, or names something that does not exist.")
    ]

    public var report: ErrorReport { ErrorReport(description, code: "usage", hint: hint, exitCode: .usage) }
}

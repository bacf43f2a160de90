import Reporting

/// The reason why a script cannot be split into statements, with its place in the script.
public struct SQLScriptError: Error, Sendable, Equatable {
    public let message: String
    public let hint: String?
    public let excerpt: SourceExcerpt?

    public init(_ message: String, hint: String? = nil, excerpt: SourceExcerpt? = nil) {
        self.message = message
        self.hint = hint
        self.excerpt = excerpt
    }

    init(_ error: SQLScanError, in source: [UInt8], of file: String) {
        self.init(
            error.message, hint: error.hint, excerpt: SourceExcerpt(file: file, source: source, offset: error.offset))
    }
}

extension SQLScriptError: ReportedError {
    public static let codes = [ErrorCode("script", [.failed], "A script cannot be split into SQL statements.")]

    public var description: String {
        guard let excerpt else { return message }
        return "\(excerpt.location): \(message)\n\(excerpt.drawing)"
    }

    public var report: ErrorReport { ErrorReport(description, code: "script", hint: hint) }
}

import Reporting

/// The error that a text is not a valid value of a setting or option.
public struct InvalidValue: Error, Sendable {
    /// What is wrong with the text.
    public let message: String
    public let hint: String?

    public init(_ message: String, hint: String? = nil) {
        self.message = message
        self.hint = hint
    }
}

/// An error in the configuration or in a `system.yaml`.
public struct ConfigurationError: Error, CustomStringConvertible {
    public let description: String
    public let hint: String?

    /// - Parameters:
    ///   - place: the file, variable or setting.
    ///   - line: the line in the file, from 1.
    public init(_ place: String, _ line: Int?, _ message: String, hint: String? = nil) {
        description = line.map { "\(place):\($0): \(message)" } ?? "\(place): \(message)"
        self.hint = hint
    }
}

extension ConfigurationError: ReportedError {
    public static let codes = [
        ErrorCode("configuration", [.usage], "The configuration, or a `system.yaml`, is wrong.")
    ]

    public var report: ErrorReport { ErrorReport(description, code: "configuration", hint: hint, exitCode: .usage) }
}

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

extension [ConfigurationError] {
    /// Does one of several steps. If the step fails, collects its errors, and returns nil.
    ///
    /// - Throws: any error that is not a `ConfigurationError`.
    mutating func collect<T>(_ step: () throws -> T) rethrows -> T? {
        do {
            return try step()
        } catch let error as ConfigurationError {
            append(contentsOf: error.all)
            return nil
        }
    }
}

/// An error in the configuration or in a `system.yaml`.
public struct ConfigurationError: Error, CustomStringConvertible {
    public let place: String
    public let line: Int?
    public let message: String
    public let hint: String?
    /// Further errors that were found together with this one.
    public private(set) var further: [ConfigurationError] = []

    public var description: String { line.map { "\(place):\($0): \(message)" } ?? "\(place): \(message)" }

    /// - Parameters:
    ///   - place: the file, variable or setting.
    ///   - line: the line in the file, from 1.
    public init(_ place: String, _ line: Int?, _ message: String, hint: String? = nil) {
        self.place = place
        self.line = line
        self.message = message
        self.hint = hint
    }

    /// This error and the further ones, each without the others.
    public var all: [ConfigurationError] {
        var alone = self
        alone.further = []
        return [alone] + further
    }

    /// Throws the first of several errors, together with the others; nothing if there are none.
    ///
    /// - Throws: `ConfigurationError`.
    public static func check(_ errors: [ConfigurationError]) throws {
        guard var first = errors.first else { return }
        first.further += errors.dropFirst()
        throw first
    }
}

extension ConfigurationError: ReportedError {
    public static let codes = [
        ErrorCode("configuration", [.usage], "The configuration, or a `system.yaml`, is wrong.")
    ]

    public var report: ErrorReport { ErrorReport(description, code: "configuration", hint: hint, exitCode: .usage) }
}

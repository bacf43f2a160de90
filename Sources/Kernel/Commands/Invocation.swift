import Foundation
import Postgres
import Reporting
import Telemetry

/// One call of a command: its arguments, console and environment.
public struct Invocation: Sendable {
    public let arguments: ParsedArguments
    public let console: Console
    public let environment: [String: String]
    public let interruption: Interruption
    /// The features of the program.
    public let features: FeatureList

    public init(
        arguments: ParsedArguments, console: Console, environment: [String: String], interruption: Interruption,
        features: FeatureList
    ) {
        self.arguments = arguments
        self.console = console
        self.environment = environment
        self.interruption = interruption
        self.features = features
    }

    /// The user that the audit chain records: the account and the name of the machine.
    public static var person: String { "\(NSUserName())@\(ProcessInfo.processInfo.hostName)" }

    public var isDryRun: Bool { has("dry-run") }

    public func has(_ flag: String) -> Bool { arguments.flags.contains(flag) }
    public func option(_ name: String) -> String? { arguments.values[name]?.last }
    public func options(_ name: String) -> [String] { arguments.values[name] ?? [] }

    /// Returns the value of an option that is a duration; nil if the option is not given.
    ///
    /// - Throws: `UsageError` if the value is not a duration.
    public func duration(_ name: String) throws -> Duration? {
        guard let text = option(name) else { return nil }
        do throws(InvalidValue) {
            return try ValueSyntax.duration().parse(text)
        } catch {
            throw UsageError("--\(name): \(error.message)", hint: error.hint)
        }
    }

    /// Returns the value of an option that is a whole number; nil if the option is not given.
    ///
    /// - Throws: `UsageError` if the value is not a whole number in the range.
    public func integer(_ name: String, in range: ClosedRange<Int>) throws -> Int? {
        guard let text = option(name) else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw UsageError(
                "--\(name): '\(text)' is not a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// Reads the configuration that applies to this call.
    ///
    /// - Throws: `ConfigurationError`.
    public func configuration() throws -> Configuration {
        try features.configuration(path: option("config"), environment: environment)
    }

    /// Returns the logger for a command. It logs warnings and errors only, unless `--verbose` or the configuration sets
    /// a level.
    public func logger(_ configuration: Configuration) -> Logger {
        var logger = configuration.logger(
            verbose: has("verbose"),
            to: configuration.logSink(isTerminal: isatty(STDERR_FILENO) == 1, colour: console.usesColour))
        if !has("verbose"), !configuration.isSet(CoreSettings.logLevel) { logger.level = .warning }
        return logger
    }

    public func estate() throws -> Estate {
        let configuration = try configuration()
        return Estate(configuration: configuration, features: features, logger: logger(configuration))
    }

    /// Asks the user to type the name of an object before it is destroyed. `--confirm=NAME` answers in advance.
    ///
    /// - Throws: `ConfirmationNeeded`; `UsageError` if `--confirm` has another name; `CancellationError`.
    public func confirm(_ what: String, name: String) throws {
        if let given = option("confirm") {
            if given == name { return }
            throw UsageError("--confirm=\(given) does not match '\(name)'", hint: "write --confirm=\(name)")
        }
        guard !has("no-input"), isatty(STDIN_FILENO) == 1, isatty(STDERR_FILENO) == 1 else {
            throw ConfirmationNeeded(what: what, name: name)
        }
        let answer = try interruption.asking {
            Console.write("\(what). Type '\(name)' to continue: ", to: STDERR_FILENO)
            return readLine()
        }
        guard answer?.trimmingCharacters(in: .whitespaces) == name else {
            throw ConfirmationNeeded(what: what, name: name)
        }
    }
}

/// The error of a destructive command that was not confirmed. Nothing was done.
public struct ConfirmationNeeded: ReportedError {
    public static let codes = [
        ErrorCode("confirmation_needed", [.confirmationNeeded], "A command that destroys data was not confirmed.")
    ]

    /// A message that says what would be destroyed.
    public let what: String
    /// The name that `--confirm` must have.
    public let name: String

    public init(what: String, name: String) {
        self.what = what
        self.name = name
    }

    public var description: String { what }

    public var report: ErrorReport {
        ErrorReport(
            description, code: "confirmation_needed", hint: "confirm with --confirm=\(name)",
            exitCode: .confirmationNeeded)
    }
}

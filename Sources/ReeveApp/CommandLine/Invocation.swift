import Foundation
import Postgres
import Reporting
import Telemetry

/// One call of a command: what was given, and the world that it works in.
struct Invocation: Sendable {
    let arguments: ParsedArguments
    let console: Console
    let environment: [String: String]
    let interruption: Interruption

    /// Who works here, for the audit: the account, and the machine by its own name.
    static var person: String { "\(NSUserName())@\(ProcessInfo.processInfo.hostName)" }

    var isDryRun: Bool { has("dry-run") }

    func has(_ flag: String) -> Bool { arguments.flags.contains(flag) }
    func option(_ name: String) -> String? { arguments.values[name]?.last }
    func options(_ name: String) -> [String] { arguments.values[name] ?? [] }

    /// - Throws: `UsageError` when the value is no duration.
    func duration(_ name: String) throws -> Duration? {
        guard let text = option(name) else { return nil }
        if let problem = WrittenDuration.problem(with: text) {
            throw UsageError("--\(name): \(problem.message)", hint: problem.hint)
        }
        return WrittenDuration.parse(text)
    }

    /// - Throws: `UsageError` when the value is no whole number in the range.
    func integer(_ name: String, in range: ClosedRange<Int>) throws -> Int? {
        guard let text = option(name) else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw UsageError(
                "--\(name): '\(text)' is not a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// - Throws: `ConfigurationError`.
    func configuration() throws -> Configuration {
        try Configuration.load(path: option("config"), environment: environment)
    }

    /// For commands: warnings and what is worse, unless more is asked for.
    func logger(_ configuration: Configuration) -> Logger {
        var logger = configuration.logger(
            verbose: has("verbose"),
            to: configuration.logSink(isTerminal: isatty(STDERR_FILENO) == 1, colour: console.usesColour))
        if !has("verbose"), configuration.store.settings["log.level"] == nil { logger.level = .warning }
        return logger
    }

    func estate() throws -> Estate {
        let configuration = try configuration()
        return Estate(configuration: configuration, logger: logger(configuration))
    }

    /// Asks for a yes, or for the name, before something is destroyed.
    ///
    /// - Throws: `ConfirmationNeeded`.
    func confirm(_ what: String, name: String) throws {
        if let given = option("confirm") {
            if given == name { return }
            throw UsageError("--confirm=\(given) does not name what is destroyed", hint: "write --confirm=\(name)")
        }
        guard !has("no-input"), isatty(STDIN_FILENO) == 1, isatty(STDERR_FILENO) == 1 else {
            throw ConfirmationNeeded(what: what, name: name)
        }
        Console.write("\(what). Type '\(name)' to go on: ", to: STDERR_FILENO)
        guard interruption.asking({ readLine() })?.trimmingCharacters(in: .whitespaces) == name else {
            throw ConfirmationNeeded(what: what, name: name)
        }
    }
}

/// A destructive command was not confirmed; nothing was done.
struct ConfirmationNeeded: ReportedError {
    let what: String
    let name: String

    static let codes = [
        ErrorCode("confirmation_needed", [.confirmationNeeded], "A command that destroys data was not confirmed.")
    ]

    var description: String { what }

    var report: ErrorReport {
        ErrorReport(
            description, code: "confirmation_needed", hint: "confirm with --confirm=\(name)",
            exitCode: .confirmationNeeded)
    }
}

import Foundation
import Reporting

/// A command: its name, its arguments and options, and its function. The parser and the help are generated from it.
public struct CommandSpec: Sendable {
    public let noun: String
    /// The second word of the command; nil for a command of one word, such as `serve`.
    public let verb: String?
    /// A description in one line, for the help.
    public let summary: String
    /// Further text for the help of this command.
    public let discussion: String
    public let arguments: [ArgumentSpec]
    public let options: [OptionSpec]
    /// The text that is reported if a signal stops the command, such as "nothing was changed". The command can replace
    /// it with `Interruption.stands`.
    public let whenInterrupted: String
    /// Whether the command runs until a signal stops it. A signal is then not a failure.
    public let isService: Bool
    public let run: @Sendable (Invocation) async throws -> ExitCode

    public init(
        noun: String, verb: String?, summary: String, discussion: String = "", arguments: [ArgumentSpec] = [],
        options: [OptionSpec] = [], whenInterrupted: String = "nothing was changed", isService: Bool = false,
        run: @escaping @Sendable (Invocation) async throws -> ExitCode
    ) {
        self.noun = noun
        self.verb = verb
        self.summary = summary
        self.discussion = discussion
        self.arguments = arguments
        self.options = options
        self.whenInterrupted = whenInterrupted
        self.isService = isService
        self.run = run
    }

    public var name: String { verb.map { "\(noun) \($0)" } ?? noun }
}

/// A positional argument.
public struct ArgumentSpec: Sendable {
    public let name: String
    public let help: String
    public let isRequired: Bool
    /// The values that a shell offers.
    public let completion: Completion

    /// - Parameter completion: by default, what the name stands for.
    public init(name: String, help: String, isRequired: Bool = true, completion: Completion? = nil) {
        self.name = name
        self.help = help
        self.isRequired = isRequired
        self.completion = completion ?? Completion(placeholder: name)
    }
}

/// An option. An option without a value is a switch.
public struct OptionSpec: Sendable {
    /// The name without the leading hyphens.
    public let name: String
    /// A letter that stands for the name, after one hyphen.
    public var letter: Character?
    /// The placeholder for the value in the help; nil for a switch.
    public var value: String?
    public let help: String
    public var isRepeated = false
    /// The values that a shell offers.
    public var completion = Completion.none

    public static func flag(_ name: String, _ help: String, letter: Character? = nil) -> OptionSpec {
        OptionSpec(name: name, letter: letter, value: nil, help: help)
    }

    /// - Parameter completion: by default, what the placeholder stands for.
    public static func option(
        _ name: String, _ value: String, _ help: String, repeated: Bool = false, completion: Completion? = nil
    ) -> OptionSpec {
        OptionSpec(
            name: name, value: value, help: help, isRepeated: repeated,
            completion: completion ?? Completion(placeholder: value))
    }

    /// Whether an argument without its value is this option.
    public func isWritten(_ argument: String) -> Bool {
        argument == "--\(name)" || letter.map { argument == "-\($0)" } == true
    }

    /// The options that every command accepts.
    public static let global: [OptionSpec] = [
        .option("config", "FILE", "read this configuration file"),
        .option("database", "NAME", "use only this configured database", completion: .databases),
        .flag("json", "print one JSON object on standard output"),
        .flag("no-input", "never ask questions"),
        .flag("verbose", "log details to standard error", letter: "v"),
        .flag("help", "show this help", letter: "h"),
    ]

    public static let system = OptionSpec.option(
        "system", "NAME", "use only this system: a name or a folder", repeated: true, completion: .systems)
    public static let lockWait = OptionSpec.option(
        "lock-wait", "DURATION", "how long to wait for another run, for example 30s or 5min")
    public static let dryRun = OptionSpec.flag("dry-run", "show what would be done, and change nothing")
}

/// The values that a shell offers for an argument or an option.
public enum Completion: Sendable, Equatable {
    case none
    case files
    case words([String])
    /// The configured databases.
    case databases
    /// The shipped and the configured systems.
    case systems
    case tasks
    case checks
    /// The words of a command.
    case commands

    /// The values that a placeholder of the help stands for.
    init(placeholder: String) {
        switch placeholder.trimmingCharacters(in: .decimalDigits) {
        case "FILE": self = .files
        case "SYSTEM": self = .systems
        case "TASK": self = .tasks
        case "CHECK": self = .checks
        default: self = .none
        }
    }
}

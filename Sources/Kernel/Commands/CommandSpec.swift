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

    public init(name: String, help: String, isRequired: Bool = true) {
        self.name = name
        self.help = help
        self.isRequired = isRequired
    }
}

/// An option. An option without a value is a switch.
public struct OptionSpec: Sendable {
    /// The name without the leading hyphens.
    public let name: String
    /// The placeholder for the value in the help; nil for a switch.
    public var value: String?
    public let help: String
    public var isRepeated = false

    public static func flag(_ name: String, _ help: String) -> OptionSpec {
        OptionSpec(name: name, value: nil, help: help)
    }

    public static func option(_ name: String, _ value: String, _ help: String, repeated: Bool = false) -> OptionSpec {
        OptionSpec(name: name, value: value, help: help, isRepeated: repeated)
    }

    /// The options that every command accepts.
    public static let global: [OptionSpec] = [
        .option("config", "FILE", "read this configuration file"),
        .option("database", "NAME", "use only this configured database"),
        .flag("json", "print one JSON object on standard output"),
        .flag("no-input", "never ask questions"),
        .flag("verbose", "log details to standard error"),
        .flag("help", "show this help"),
    ]

    public static let system = OptionSpec.option(
        "system", "NAME", "use only this system: a name or a folder", repeated: true)
    public static let lockWait = OptionSpec.option(
        "lock-wait", "DURATION", "how long to wait for another run, for example 30s or 5min")
    public static let dryRun = OptionSpec.flag("dry-run", "show what would be done, and change nothing")
}

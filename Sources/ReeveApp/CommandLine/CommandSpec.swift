import Reporting

/// One command: what it is called, what it takes and what it does. The parser and the help are made from it.
struct CommandSpec: Sendable {
    let noun: String
    /// nil for a command of one word, such as `serve`.
    let verb: String?
    /// One line.
    let summary: String
    /// What the help says beyond that.
    var discussion = ""
    var arguments: [ArgumentSpec] = []
    var options: [OptionSpec] = []
    /// What is true whenever a signal stops it, until it says something more exact (`Interruption.stands`).
    var whenInterrupted = "nothing was changed"
    /// Whether it runs until it is stopped; a signal is then no failure.
    var isService = false
    let run: @Sendable (Invocation) async throws -> ExitCode

    var name: String { verb.map { "\(noun) \($0)" } ?? noun }
}

/// A positional argument.
struct ArgumentSpec: Sendable {
    let name: String
    let help: String
    var isRequired = true
}

/// An option; without a value it is a switch.
struct OptionSpec: Sendable {
    /// Without its hyphens.
    let name: String
    /// What stands for the value in the help; nil: a switch.
    var value: String?
    let help: String
    var isRepeated = false

    static func flag(_ name: String, _ help: String) -> OptionSpec {
        OptionSpec(name: name, value: nil, help: help)
    }

    static func option(_ name: String, _ value: String, _ help: String, repeated: Bool = false) -> OptionSpec {
        OptionSpec(name: name, value: value, help: help, isRepeated: repeated)
    }

    /// Those that every command takes.
    static let global: [OptionSpec] = [
        .option("config", "FILE", "read this configuration file"),
        .option("database", "NAME", "work on this one of the configured databases"),
        .flag("json", "print one JSON object on standard output"),
        .flag("no-input", "never wait for an answer"),
        .flag("verbose", "log details on standard error"),
        .flag("help", "show this help"),
    ]

    static let system = OptionSpec.option("system", "NAME", "only this system: a name or a folder", repeated: true)
    static let lockWait = OptionSpec.option("lock-wait", "DURATION", "how long to wait for another run, as 30s or 5min")
    static let dryRun = OptionSpec.flag("dry-run", "show what would be done, and do nothing")
}

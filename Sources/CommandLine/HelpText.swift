import Kernel
import Reporting

/// The help texts, generated from the table of commands, at most 80 columns wide.
public struct HelpText {
    let commands: [CommandSpec]

    public init(commands: [CommandSpec]) { self.commands = commands }

    /// The list of all commands.
    public var overview: String {
        var text = """
            reeve administers PostgreSQL: migrations, backups, schedules and monitoring.

            usage: reeve <noun> <verb> [arguments]


            """
        for command in commands { text += entry(command.name, command.summary) }
        text += "\noptions of every command:\n" + options(OptionSpec.global)
        text += "\noptions without a command:\n" + entry("--version, -V, -v", "show the version")
        let codes = ExitCode.allCases.map { "\($0.rawValue) \($0.name)" }.joined(separator: ", ")
        text += "\n" + wrap("For details, see 'reeve help <noun> <verb>'. Exit codes: \(codes).", indent: 0) + "\n"
        return text
    }

    /// Returns the help of a command, of the commands of a noun, or of all commands.
    ///
    /// - Parameter words: the noun and the verb; both may be missing.
    /// - Throws: `UsageError` if there is no such command.
    public func page(_ words: [String]) throws -> String {
        guard let noun = words.first else { return overview }
        let family = try commands.family(noun)
        if family[0].verb == nil {
            guard words.count == 1 else {
                throw UsageError("'reeve \(noun)' has no verbs", hint: "see 'reeve \(noun) --help'")
            }
            return command(family[0])
        }
        return words.count == 1 ? self.family(noun) : command(try family.command(words[1]))
    }

    /// Returns the list of the commands that begin with a noun.
    public func family(_ noun: String) -> String {
        let family = commands.filter { $0.noun == noun }
        return "usage: reeve \(noun) <verb> [arguments]\n\n" + family.map { entry($0.name, $0.summary) }.joined()
    }

    /// Returns the help of one command.
    public func command(_ spec: CommandSpec) -> String {
        let label = "usage: "
        let usage = label + wrap(spec.usage, indent: label.count).dropFirst(label.count)
        var text = "\(wrap(spec.summary, indent: 0))\n\n\(usage)\n"
        if !spec.discussion.isEmpty { text += "\n" + wrap(spec.discussion, indent: 0) + "\n" }
        if !spec.arguments.isEmpty {
            text += "\narguments:\n" + spec.arguments.map { entry($0.name, $0.help) }.joined()
        }
        if !spec.options.isEmpty { text += "\noptions:\n" + options(spec.options) }
        return text + "\noptions of every command:\n" + options(OptionSpec.global)
    }

    private func options(_ options: [OptionSpec]) -> String {
        options.map { entry($0.written, $0.help) }.joined()
    }

    private func entry(_ name: String, _ help: String) -> String {
        let column = 26
        let left = "  \(name)"
        let gap =
            left.count + 2 > column
            ? "\n" + String(repeating: " ", count: column)
            : String(repeating: " ", count: column - left.count)
        let wrapped = wrap(help, indent: column)
        return left + gap + wrapped.drop { $0 == " " } + "\n"
    }

    private func wrap(_ text: String, indent: Int) -> String {
        TextWrapping.wrap(text, width: TextWrapping.helpWidth, indent: indent)
    }
}

extension CommandSpec {
    /// The command with its arguments.
    var usage: String {
        var usage = "reeve \(name)"
        for argument in arguments { usage += argument.isRequired ? " \(argument.name)" : " [\(argument.name)]" }
        if !options.isEmpty { usage += " [options]" }
        return usage
    }
}

extension OptionSpec {
    /// The option as the help shows it.
    var written: String { "--\(name)" + (letter.map { ", -\($0)" } ?? "") + (value.map { " \($0)" } ?? "") }
}

import Kernel
import Reporting

/// The help texts, generated from the table of commands, at most 80 columns wide.
public struct HelpText {
    let commands: [CommandSpec]
    private let width = 80

    public init(commands: [CommandSpec]) { self.commands = commands }

    /// The list of all commands.
    public var overview: String {
        var text = """
            reeve administers PostgreSQL: migrations, backups, schedules and monitoring.

            usage: reeve <noun> <verb> [arguments]


            """
        for command in commands { text += entry(command.name, command.summary) }
        text += "\noptions of every command:\n" + options(OptionSpec.global)
        let codes = ExitCode.allCases.map { "\($0.rawValue) \($0.name)" }.joined(separator: ", ")
        text += "\n" + wrap("For details, see 'reeve <noun> <verb> --help'. Exit codes: \(codes).", indent: 0) + "\n"
        return text
    }

    /// Returns the list of the commands that begin with a noun.
    public func family(_ noun: String) -> String {
        let family = commands.filter { $0.noun == noun }
        return "usage: reeve \(noun) <verb> [arguments]\n\n" + family.map { entry($0.name, $0.summary) }.joined()
    }

    /// Returns the help of one command.
    public func command(_ spec: CommandSpec) -> String {
        var usage = "usage: reeve \(spec.name)"
        for argument in spec.arguments { usage += argument.isRequired ? " \(argument.name)" : " [\(argument.name)]" }
        if !spec.options.isEmpty { usage += " [options]" }
        var text = "\(wrap(spec.summary, indent: 0))\n\n\(usage)\n"
        if !spec.discussion.isEmpty { text += "\n" + wrap(spec.discussion, indent: 0) + "\n" }
        if !spec.arguments.isEmpty {
            text += "\narguments:\n" + spec.arguments.map { entry($0.name, $0.help) }.joined()
        }
        if !spec.options.isEmpty { text += "\noptions:\n" + options(spec.options) }
        return text + "\noptions of every command:\n" + options(OptionSpec.global)
    }

    private func options(_ options: [OptionSpec]) -> String {
        options.map { entry("--\($0.name)" + ($0.value.map { " \($0)" } ?? ""), $0.help) }.joined()
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

    /// Wraps paragraphs between words. Lines that begin with a space are not wrapped.
    private func wrap(_ text: String, indent: Int) -> String {
        let margin = String(repeating: " ", count: indent)
        return text.split(separator: "\n", omittingEmptySubsequences: false).map { paragraph in
            if paragraph.hasPrefix(" ") { return margin + paragraph }
            var lines: [String] = []
            var line = ""
            for word in paragraph.split(separator: " ") {
                if !line.isEmpty, indent + line.count + 1 + word.count > width {
                    lines.append(line)
                    line = ""
                }
                line += (line.isEmpty ? "" : " ") + word
            }
            lines.append(line)
            return lines.map { margin + $0 }.joined(separator: "\n")
        }.joined(separator: "\n")
    }
}

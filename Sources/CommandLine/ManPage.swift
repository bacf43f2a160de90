import Foundation
import Kernel
import Reporting

/// The manual page of the program in the language of man(7), generated from the table of commands.
public struct ManPage {
    let commands: [CommandSpec]
    let version: String

    public init(commands: [CommandSpec], version: String) {
        self.commands = commands
        self.version = version
    }

    public var text: String {
        var text = """
            .TH REEVE 1 "" "reeve \(Self.escaped(version))" "Reeve"
            .SH NAME
            reeve \\- administer PostgreSQL databases
            .SH SYNOPSIS
            .B reeve
            .I noun verb
            [\\fIarguments\\fR]
            .br
            .B reeve help
            [\\fInoun\\fR [\\fIverb\\fR]]
            .SH DESCRIPTION
            Migrations, backups, schedules and monitoring of the databases that the configuration names.
            Data is written to standard output, and messages to standard error.
            .SH COMMANDS

            """
        for spec in commands { text += Self.section(spec) }
        text += ".SH OPTIONS\nEvery command accepts these options.\n" + OptionSpec.global.map(Self.entry).joined()
        text += ".SH EXIT STATUS\n"
        for code in ExitCode.allCases {
            text += ".TP\n.B \(code.rawValue)\n\(Self.paragraph(code.meaning.replacing("`", with: "'")))\n"
        }
        text += """
            .TP
            .B 128 + N
            Signal N ended the command.
            .SH ENVIRONMENT
            Each key of the configuration can be set as a variable: REEVE_ and its path in capitals, for example
            REEVE_HTTP_LISTEN for http.listen. 'reeve config reference' lists all keys.
            .SH FILES
            .TP
            .I reeve.yaml, /etc/reeve/reeve.yaml
            The configuration, in the working folder or in /etc/reeve. See
            .B \\-\\-config
            and REEVE_CONFIG.
            .TP
            .I /var/lib/reeve, ~/.local/state/reeve
            The state folder of root, and of other users.
            .SH SEE ALSO
            .BR psql (1),
            .BR pg_dump (1)

            """
        return text
    }

    private static func section(_ spec: CommandSpec) -> String {
        var text = ".SS \"\(escaped(spec.usage))\"\n\(paragraph(spec.summary)).\n"
        if !spec.discussion.isEmpty { text += ".PP\n\(paragraph(spec.discussion))\n" }
        for argument in spec.arguments { text += ".TP\n.I \(escaped(argument.name))\n\(paragraph(argument.help))\n" }
        return text + spec.options.map(entry).joined()
    }

    private static func entry(_ option: OptionSpec) -> String {
        ".TP\n.B \(escaped(option.written))\n\(paragraph(option.help))\n"
    }

    /// Returns paragraphs as text. A line that begins with a space is kept as a line of its own.
    private static func paragraph(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            if line.isEmpty { return ".PP" }
            let text = escaped(String(line))
            return line.hasPrefix(" ") ? ".br\n\(protected(text))" : protected(text)
        }.joined(separator: "\n")
    }

    /// Returns text in which no character is an instruction to the formatter.
    private static func escaped(_ text: String) -> String {
        text.unicodeScalars.reduce(into: "") { result, scalar in
            switch scalar {
            case "\\": result += "\\e"
            case "-": result += "\\-"
            case "'": result += "\\(aq"
            case "\"": result += "\\(dq"
            default: result.unicodeScalars.append(scalar)
            }
        }
    }

    /// Returns a line that is text even if it begins with a period.
    private static func protected(_ line: String) -> String { line.hasPrefix(".") ? "\\&\(line)" : line }
}

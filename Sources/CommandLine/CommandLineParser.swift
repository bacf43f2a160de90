import Kernel
import Reporting

/// Parses the arguments of the program according to the table of commands.
public struct CommandLineParser {
    public let commands: [CommandSpec]

    public init(commands: [CommandSpec]) { self.commands = commands }

    public enum Result {
        case run(CommandSpec, ParsedArguments)
        /// Help is requested: for all commands, for the commands of a noun, or for one command.
        case help(String?, CommandSpec?)
        case version
    }

    /// - Throws: `UsageError`.
    public func parse(_ arguments: [String]) throws -> Result {
        if arguments.isEmpty { return .help(nil, nil) }
        // As in Git: -v alone is the version, and with a command it is --verbose. -V is the version in PostgreSQL's
        // programs.
        if [["--version"], ["-V"], ["-v"]].contains(arguments.filter { $0 != "--json" }) { return .version }
        let (spec, rest) = try command(arguments)
        guard let spec else { return .help(rest.first, nil) }
        var parsed = ParsedArguments()
        var remaining = rest[...]
        var onlyPositional = false
        while let argument = remaining.popFirst() {
            if onlyPositional || !argument.hasPrefix("-") || argument == "-" {
                parsed.positional.append(argument)
            } else if argument == "--" {
                onlyPositional = true
            } else {
                try option(argument, &remaining, spec, &parsed)
            }
        }
        if parsed.flags.contains("help") { return .help(spec.noun, spec) }
        try checkPositional(parsed, spec)
        return .run(spec, parsed)
    }

    /// Finds the command that the arguments name, and returns it with the remaining arguments. Global options may be
    /// before or between the words of the command.
    private func command(_ arguments: [String]) throws -> (CommandSpec?, [String]) {
        var words: [(index: Int, word: String)] = []
        var index = 0
        while index < arguments.count, words.count < 2 {
            let argument = arguments[index]
            if argument.hasPrefix("-") {
                let known = OptionSpec.global.first { $0.isWritten(argument) }
                if known?.value != nil { index += 1 }
                if words.isEmpty, known == nil, !argument.contains("=") {
                    throw UsageError(
                        "unknown option '\(argument)'",
                        hint: suggestion(argument, OptionSpec.global.map { "--\($0.name)" }))
                }
            } else {
                words.append((index, argument))
                if commands.contains(where: { $0.noun == argument && $0.verb == nil }) { break }
            }
            index += 1
        }
        guard let noun = words.first else { return (nil, []) }
        let family = try commands.family(noun.word)
        var rest = arguments
        if family[0].verb == nil {
            rest.remove(at: noun.index)
            return (family[0], rest)
        }
        guard words.count == 2 else {
            if arguments.contains("--help") || arguments.contains("-h") || arguments.count == 1 {
                return (nil, [noun.word])
            }
            throw UsageError("'\(noun.word)' requires one of: \(family.compactMap(\.verb).joined(separator: ", "))")
        }
        let spec = try family.command(words[1].word)
        rest.remove(at: words[1].index)
        rest.remove(at: noun.index)
        return (spec, rest)
    }

    private func option(
        _ argument: String, _ rest: inout ArraySlice<String>, _ spec: CommandSpec, _ parsed: inout ParsedArguments
    ) throws {
        let known = spec.options + OptionSpec.global
        let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let option = known.first(where: { $0.isWritten(parts[0]) }) else {
            throw UsageError(
                "unknown option '\(parts[0])' for 'reeve \(spec.name)'",
                hint: suggestion(parts[0], known.map { "--\($0.name)" }, "reeve \(spec.name)"))
        }
        guard let valueName = option.value else {
            if parts.count > 1 { throw UsageError("--\(option.name) takes no value") }
            parsed.flags.insert(option.name)
            return
        }
        guard let value = parts.count > 1 ? parts[1] : rest.popFirst(), !value.isEmpty else {
            throw UsageError("--\(option.name) requires a value (\(valueName))")
        }
        if parsed.values[option.name] != nil, !option.isRepeated {
            throw UsageError("--\(option.name) is given twice")
        }
        parsed.values[option.name, default: []].append(value)
    }

    private func checkPositional(_ parsed: ParsedArguments, _ spec: CommandSpec) throws {
        let required = spec.arguments.filter(\.isRequired).count
        if parsed.positional.count < required {
            let missing = spec.arguments[parsed.positional.count]
            throw UsageError(
                "'reeve \(spec.name)' requires \(missing.name): \(missing.help)",
                hint: "see 'reeve \(spec.name) --help'")
        }
        if parsed.positional.count > spec.arguments.count {
            throw UsageError(
                "unexpected argument '\(parsed.positional[spec.arguments.count])' for 'reeve \(spec.name)'",
                hint: "see 'reeve \(spec.name) --help'")
        }
    }
}

/// Returns a hint with the word that was likely meant, or with the help to read.
private func suggestion(_ word: String, _ known: [String], _ command: String = "reeve") -> String {
    didYouMean(word, among: known) ?? "see '\(command) --help'"
}

extension [CommandSpec] {
    /// The commands that begin with a noun.
    ///
    /// - Throws: `UsageError` if there is none.
    func family(_ noun: String) throws -> [CommandSpec] {
        let family = filter { $0.noun == noun }
        guard family.isEmpty else { return family }
        // Other tools have verbs alone: 'up' is 'migrate up' here.
        let meant = filter { $0.verb == noun }.map { "\($0.noun) \(noun)" }.sorted()
        let hint =
            meant.isEmpty
            ? suggestion(noun, Set(map(\.noun)).sorted())
            : "did you mean \(meant.map { "'reeve \($0)'" }.joined(separator: " or "))"
        throw UsageError("unknown command '\(noun)'", hint: hint)
    }

    /// The command with a verb, of the commands of one noun.
    ///
    /// - Throws: `UsageError` if there is none.
    func command(_ verb: String) throws -> CommandSpec {
        if let found = first(where: { $0.verb == verb }) { return found }
        let noun = first?.noun ?? ""
        throw UsageError(
            "unknown command '\(noun) \(verb)'", hint: suggestion(verb, compactMap(\.verb), "reeve \(noun)"))
    }
}

import CommandLine
import Kernel
import Reporting

extension Feature {
    /// The commands about the command line itself.
    static let commandLine = Feature(
        "command-line",
        commands: [CommandLineCommands.help, CommandLineCommands.completion, CommandLineCommands.version])
}

/// The commands `reeve help`, `reeve completion` and `reeve version`.
enum CommandLineCommands {
    static let help = CommandSpec(
        noun: "help", verb: nil, summary: "show the help of a command, of a noun, or of all commands",
        discussion: "With --man, prints the manual page of all commands: reeve help --man | man -l -",
        arguments: [
            ArgumentSpec(
                name: "NOUN", help: "the first word of a command", isRequired: false, completion: .commands),
            ArgumentSpec(name: "VERB", help: "its second word", isRequired: false, completion: .commands),
        ], options: [.flag("man", "print the manual page in the language of man(7)")]
    ) { invocation in
        let words = invocation.arguments.positional
        let commands = invocation.features.commands
        if invocation.has("man") {
            guard words.isEmpty else {
                throw UsageError("the manual page contains all commands", hint: "leave out the words")
            }
            let page = ManPage(commands: commands, version: ProgramVersion.current).text
            invocation.console.result(["help": .string(page)], text: page, isExact: true)
        } else {
            let page = try HelpText(commands: commands).page(words)
            invocation.console.result(["help": .string(page)], text: page)
        }
        return .done
    }

    static let completion = CommandSpec(
        noun: "completion", verb: nil,
        summary: "print a script that makes a shell complete commands, options and names",
        discussion: """
            Put a line into the file that your shell reads at its start:
              bash (~/.bashrc)                     source <(reeve completion bash)
              zsh (~/.zshrc, after compinit)       source <(reeve completion zsh)
              fish (~/.config/fish/config.fish)    reeve completion fish | source
            The script asks the program, so it needs no update. Names of databases, systems and tasks come from the configuration; \
            no connection is made.
            """,
        arguments: [
            ArgumentSpec(
                name: "SHELL", help: CompletionScript.allCases.map(\.rawValue).joined(separator: ", "),
                completion: .words(CompletionScript.allCases.map(\.rawValue)))
        ]
    ) { invocation in
        let word = invocation.arguments.positional[0]
        guard let script = CompletionScript(rawValue: word) else {
            let known = CompletionScript.allCases.map(\.rawValue)
            throw UsageError(
                "there is no completion for the shell '\(word)'",
                hint: didYouMean(word, among: known) ?? "known: \(known.joined(separator: ", "))")
        }
        invocation.console.result(["script": .string(script.text)], text: script.text, isExact: true)
        return .done
    }

    static let version = CommandSpec(noun: "version", verb: nil, summary: "show the version") { invocation in
        show(on: invocation.console)
        return .done
    }

    static func show(on console: Console) {
        console.result(["version": .string(ProgramVersion.current)], text: "reeve \(ProgramVersion.current)")
    }

    /// Answers the script of a shell.
    ///
    /// - Parameter arguments: the name of the shell, and the words of the line.
    static func complete(_ arguments: [String], environment: [String: String], features: FeatureList) -> String {
        guard let shell = arguments.first.flatMap(CompletionScript.init) else { return "" }
        let words = Array(arguments.dropFirst())
        let named = words.firstIndex(of: "--config").flatMap { words.indices.contains($0 + 1) ? words[$0 + 1] : nil }
        let configuration = try? features.configuration(path: named, environment: environment)
        let completions = Completions(commands: features.commands) { kind in
            switch kind {
            case .databases: configuration?.databases.map(\.name) ?? []
            case .systems: systems(configuration)
            case .tasks: tasks(configuration, features)
            case .checks: features.checks.map(\.name)
            case .none, .files, .words, .commands: []
            }
        }
        return completions.answer(words, splitsEquals: shell == .bash).text
    }

    private static func tasks(_ configuration: Configuration?, _ features: FeatureList) -> [String] {
        let plans = configuration.flatMap { try? features.plans($0, isEmbedded: false) }
        return plans?.map(\.spec.name) ?? features.tasks.map(\.name)
    }

    /// The systems as they are written: shipped ones, and those that the configuration names.
    private static func systems(_ configuration: Configuration?) -> [String] {
        let configured = configuration?.databases.flatMap { $0.systems ?? [] } ?? []
        return configured + ShippedSystems.names.filter { !configured.contains($0) }
    }
}

import Kernel

/// What a shell offers for a command line that is being typed, from the table of commands.
///
/// The scripts for the shells (`CompletionScript`) contain no names. They call the program with the words of the line,
/// and the program answers from the table that also parses, so that both always agree.
public struct Completions {
    let commands: [CommandSpec]
    /// Returns the values of a kind that only the configuration knows.
    let values: (Completion) -> [String]

    public init(commands: [CommandSpec], values: @escaping (Completion) -> [String]) {
        self.commands = commands
        self.values = values
    }

    /// What is offered for the last word.
    public struct Answer: Equatable {
        public struct Candidate: Equatable {
            public let word: String
            public let help: String

            init(_ word: String, _ help: String = "") {
                self.word = word
                self.help = help
            }
        }

        public var candidates: [Candidate] = []
        /// Whether the shell adds the names of files.
        public var hasFiles = false

        /// One candidate a line, a tab and its help, and `:files` or `:end` as the last line.
        public var text: String {
            candidates.map { $0.help.isEmpty ? $0.word : "\($0.word)\t\($0.help)" }.joined(separator: "\n")
                + (candidates.isEmpty ? "" : "\n") + (hasFiles ? ":files" : ":end") + "\n"
        }
    }

    /// The words of a line up to the word that is being typed, as they are understood.
    private struct Line {
        var words: [String] = []
        var used: Set<String> = []
        /// The option whose value is being typed.
        var option: OptionSpec?
        var isAfterDashes = false
    }

    /// Returns what is offered for the last of the words.
    ///
    /// - Parameters:
    ///   - words: the words after the program's name; the last one is being typed, and may be empty.
    ///   - splitsEquals: whether the shell passes `--name=value` as three words and completes only the value, as Bash
    ///     does.
    public func answer(_ words: [String], splitsEquals: Bool = false) -> Answer {
        var words = splitsEquals ? Self.joined(words) : words
        let typed = words.popLast() ?? ""
        let line = read(words)
        let spec = command(line.words)
        if let option = line.option { return offer(option.completion, line, typed) }
        if typed.hasPrefix("-"), !line.isAfterDashes {
            let known = (spec?.options ?? []) + OptionSpec.global
            let parts = typed.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            if parts.count == 2, let option = known.first(where: { "--\($0.name)" == parts[0] }) {
                var answer = offer(option.completion, line, parts[1])
                if !splitsEquals {
                    answer.candidates = answer.candidates.map { Answer.Candidate("\(parts[0])=\($0.word)", $0.help) }
                }
                return answer
            }
            let free = known.filter { $0.isRepeated || !line.used.contains($0.name) }
            return Answer(
                candidates: free.map { Answer.Candidate("--\($0.name)", $0.help) }.filter { $0.word.hasPrefix(typed) })
        }
        guard let spec else { return offer(.commands, line, typed) }
        let given = line.words.count - (spec.verb == nil ? 1 : 2)
        guard spec.arguments.indices.contains(given) else { return Answer() }
        if spec.arguments[given].completion == .commands {
            var line = line
            line.words.removeFirst()
            return offer(.commands, line, typed)
        }
        return offer(spec.arguments[given].completion, line, typed)
    }

    private func offer(_ kind: Completion, _ line: Line, _ typed: String) -> Answer {
        var answer = Answer()
        switch kind {
        case .none: break
        case .files: answer.hasFiles = true
        case .words(let words): answer.candidates = words.map { Answer.Candidate($0) }
        case .commands: answer.candidates = next(after: line.words)
        case .databases, .systems, .tasks, .checks:
            answer.candidates = values(kind).filter(Self.isPlain).map { Answer.Candidate($0) }
        }
        // A system may be named by its folder.
        if kind == .systems { answer.hasFiles = true }
        answer.candidates = answer.candidates.filter { $0.word.hasPrefix(typed) }
        return answer
    }

    /// Returns whether a name contains nothing that a shell interprets. The configuration, which may be somebody
    /// else's, must not write code into a command line.
    private static func isPlain(_ name: String) -> Bool {
        name.unicodeScalars.allSatisfy {
            $0.properties.isAlphabetic || $0.properties.numericType != nil || "_-./:+@%,=".unicodeScalars.contains($0)
        }
    }

    /// The nouns, or the verbs of a noun.
    private func next(after words: [String]) -> [Answer.Candidate] {
        guard let noun = words.first else {
            var seen: Set<String> = []
            return commands.filter { seen.insert($0.noun).inserted }.map { spec in
                let verbs = commands.filter { $0.noun == spec.noun }.compactMap(\.verb)
                return Answer.Candidate(spec.noun, verbs.isEmpty ? spec.summary : verbs.joined(separator: ", "))
            }
        }
        guard words.count == 1 else { return [] }
        return commands.filter { $0.noun == noun }.compactMap { spec in
            spec.verb.map { Answer.Candidate($0, spec.summary) }
        }
    }

    private func command(_ words: [String]) -> CommandSpec? {
        let family = commands.filter { $0.noun == words.first }
        return family.first { $0.verb == nil || words.count > 1 && $0.verb == words[1] }
    }

    private func read(_ words: [String]) -> Line {
        var line = Line()
        for word in words {
            if line.option != nil {
                line.option = nil
            } else if line.isAfterDashes || !word.hasPrefix("-") {
                line.words.append(word)
            } else if word == "--" {
                line.isAfterDashes = true
            } else {
                let name = String(word.prefix { $0 != "=" })
                let known = (command(line.words)?.options ?? []) + OptionSpec.global
                guard let option = known.first(where: { $0.isWritten(name) }) else { continue }
                line.used.insert(option.name)
                if option.value != nil, name == word { line.option = option }
            }
        }
        return line
    }

    /// Joins `--name`, `=` and a value, which Bash passes as words of their own.
    private static func joined(_ words: [String]) -> [String] {
        words.reduce(into: []) { result, word in
            if let last = result.last, last.hasPrefix("--"), word == "=" || last.hasSuffix("=") {
                result[result.count - 1] = last + word
            } else {
                result.append(word)
            }
        }
    }
}

import RegexBuilder
import SQL

/// What a script may leave in its session, as far as its text shows it.
struct SessionMarks: Sendable {
    /// Settings with a name of several parts, such as `app.tenant`. The server does not list them.
    let settings: [String]
    /// The texts of the PREPARE statements.
    private let prepared: Set<String>

    init(of script: MigrationScript) throws {
        let name = #/"?[\p{L}_][\p{L}0-9_$]*"?(?:\."?[\p{L}_][\p{L}0-9_$]*"?)+/#
        let set = Regex {
            #/\bset(?:\s+session|\s+local)?\s+/#.ignoresCase()
            Capture { name }
        }
        let literal = Regex {
            "'"
            Capture { name }
        }
        // The data of COPY are not searched, nor are statements that set nothing.
        let setting = script.statements.filter { script.source[$0.range].mentions("set") }
        let names = setting.flatMap { statement in
            let text = script.text(of: statement)
            // The name may be a literal, if it is passed to the function.
            let passed =
                script.source[statement.range].mentions("set_config") ? text.matches(of: literal).map(\.1) : []
            return text.matches(of: set).map(\.1) + passed
        }
        settings = Set(names.map { $0.lowercased().filter { $0 != "\"" } }).sorted()
        prepared = Set(
            try script.statements.filter { try script.words(of: $0).first?.keyword == "PREPARE" }.map(script.text))
    }

    /// Whether a later session can have a state again. The texts that functions have prepared are not run with the
    /// rights of the session.
    func canRestore(_ state: SessionState) -> Bool {
        !state.hasTemporaryObjects && state.prepared.allSatisfy(prepared.contains)
    }
}

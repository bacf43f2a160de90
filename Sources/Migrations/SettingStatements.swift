import SQL

/// The statements of a step that change settings of the session and nothing else, so that they can be run again. Pure.
///
/// What a transaction has set for itself and what it has set for the session cannot be told apart before it ends.
/// A run that is killed right behind COMMIT leaves the settings unrecorded. The next run makes them again.
struct SettingStatements: Sendable {
    let texts: [String]
    /// Whether other statements of the step may change settings, too.
    let isComplete: Bool
    /// Whether the step may change settings, as far as its text shows it.
    let mayChange: Bool

    init(of step: MigrationStep, in script: MigrationScript) throws {
        var (texts, isComplete, mayChange) = ([String](), true, false)
        for statement in step.statements where script.source[statement.range].mentions("set") {
            mayChange = true
            if Self.isSetting(try script.words(of: statement)) {
                texts.append(script.text(of: statement))
            } else if script.source[statement.range].mentions("set_config") {
                isComplete = false
            }
        }
        (self.texts, self.isComplete, self.mayChange) = (texts, isComplete, mayChange)
    }

    private static func isSetting(_ words: [ScriptWord]) -> Bool {
        switch words.first?.keyword {
        case "SET", "RESET": return !["TRANSACTION", "CONSTRAINTS"].contains(words.dropFirst().first?.keyword)
        case "SELECT":
            let calls = zip(words, words.dropFirst()).filter { $1.text == "(" }.map(\.0.keyword)
            let isRead = words.contains { ["FROM", "INTO"].contains($0.keyword) }
            return calls.contains("SET_CONFIG") && !isRead
                && calls.allSatisfy { ["SET_CONFIG", "CURRENT_SETTING", "SELECT"].contains($0) }
        default: return false
        }
    }
}

import SQL

/// Statements that run in one transaction, or one statement that runs outside a transaction.
public struct MigrationStep: Sendable {
    public let statements: [SQLStatement]
    let nonTransactional: NonTransactionalStatement?

    public var runsAlone: Bool { nonTransactional != nil }

    /// Whether the step is a CREATE INDEX CONCURRENTLY.
    var buildsIndex: Bool { if case .createIndex = nonTransactional { true } else { false } }

    /// Divides a script into steps.
    ///
    /// The statements between two statements that run alone are one step. With the directive `no-transaction`, each
    /// statement is a step, as in psql's autocommit mode, and `BEGIN … COMMIT` is one step. In other scripts, `BEGIN`
    /// and `COMMIT` are allowed only around the whole script.
    ///
    /// - Throws: `MigrationError.transactionControl`; `SQLScriptError`.
    static func steps(of script: MigrationScript) throws -> [MigrationStep] {
        var division = StepDivision(script: script)
        for (index, statement) in script.statements.enumerated() { try division.add(statement, at: index) }
        return try division.finished()
    }
}

/// The state of dividing one script into steps.
private struct StepDivision {
    private let script: MigrationScript
    private let isAutocommit: Bool
    private var steps: [MigrationStep] = []
    private var together: [SQLStatement] = []
    /// The `BEGIN` of the open block.
    private var block: SQLStatement?

    private enum Control { case begin, commit, refused }

    init(script: MigrationScript) {
        self.script = script
        isAutocommit = script.directives.noTransaction
    }

    mutating func add(_ statement: SQLStatement, at index: Int) throws {
        let words = try script.words(of: statement)
        switch Self.control(words) {
        case .begin where block == nil && (isAutocommit || index == 0):
            close()
            block = statement
            return
        case .commit where block != nil && (isAutocommit || index == script.statements.count - 1):
            block = nil
            close()
            return
        case nil: break
        default: throw refusal(statement, words)
        }
        if ScriptEncoding.isDeclaration(words) { return }
        if let alone = NonTransactionalStatement(words: words, isAutocommit: isAutocommit && block == nil) {
            if block != nil { throw refusal(statement, words) }
            close()
            steps.append(MigrationStep(statements: [statement], nonTransactional: alone))
        } else {
            together.append(statement)
            if isAutocommit, block == nil { close() }
        }
    }

    mutating func finished() throws -> [MigrationStep] {
        if let block { throw refusal(block, try script.words(of: block)) }
        close()
        return steps.isEmpty ? [MigrationStep(statements: [], nonTransactional: nil)] : steps
    }

    private mutating func close() {
        if !together.isEmpty { steps.append(MigrationStep(statements: together, nonTransactional: nil)) }
        together = []
    }

    private static func control(_ words: [ScriptWord]) -> Control? {
        let keywords = words.map(\.keyword)
        let noise = keywords.dropFirst().allSatisfy { ["WORK", "TRANSACTION"].contains($0) }
        switch keywords.first {
        case "BEGIN": return noise ? .begin : .refused
        case "START" where keywords.dropFirst().first == "TRANSACTION": return noise ? .begin : .refused
        case "COMMIT", "END": return noise ? .commit : .refused
        case "ABORT": return .refused
        // ROLLBACK TO SAVEPOINT is allowed. Its key word SAVEPOINT may be left out.
        case "ROLLBACK": return keywords.contains("TO") ? nil : .refused
        case "PREPARE" where keywords.dropFirst().first == "TRANSACTION": return .refused
        default: return nil
        }
    }

    private func refusal(_ statement: SQLStatement, _ words: [ScriptWord]) -> MigrationError {
        .transactionControl(
            location: script.location(of: statement), statement: words.prefix(2).map(\.keyword).joined(separator: " "),
            isAutocommit: isAutocommit)
    }
}

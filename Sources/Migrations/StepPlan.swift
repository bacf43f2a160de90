import Ledger
import SQL

/// The steps of a migration that is run step by step: those that are done, and those that follow. Pure.
///
/// The done steps are the first statements of the file, with the boundaries that they had. The others may have been
/// changed, and so may their division into steps.
public struct StepPlan: Sendable {
    /// One step, and what the journal knows about it.
    struct Step: Sendable {
        let number: Int
        let step: MigrationStep
        let digest: [UInt8]
        let record: StepJournal.Step?

        var isDone: Bool { record?.state == .done }

        /// The record of the session behind the step; nil if there is none.
        var session: SessionRecord? { get throws { try record?.session?.decode() } }
    }

    let steps: [Step]

    /// - Parameter known: the steps in the journal, by number.
    /// - Throws: `MigrationError.stepsChanged` if the file no longer begins with the done steps; `SQLScriptError`.
    public init(_ action: MigrationAction, _ known: [Int: StepJournal.Step]) throws {
        var plan: [Step] = []
        var left = action.steps.flatMap(\.statements)[...]
        while let record = known[plan.count], record.state == .done {
            let usual = action.steps.indices.contains(plan.count) ? action.steps[plan.count].statements.count : 0
            let count = try ([min(usual, left.count)] + Array(0...left.count)).first {
                try action.script.tokenDigest(of: Array(left.prefix($0))) == record.tokenDigest
            }
            guard let count, count > 0 || action.steps.allSatisfy(\.statements.isEmpty) else {
                throw MigrationError.stepsChanged(
                    system: action.system.name, title: action.migration.title, step: plan.count)
            }
            let statements = Array(left.prefix(count))
            let step = MigrationStep(
                statements: statements, nonTransactional: try Self.nonTransactional(statements, action.script))
            plan.append(Step(number: plan.count, step: step, digest: record.tokenDigest, record: record))
            left = left.dropFirst(count)
        }
        var done = plan.reduce(0) { $0 + $1.step.statements.count }
        for step in action.steps {
            let rest = Array(step.statements.dropFirst(done))
            done = max(0, done - step.statements.count)
            if rest.isEmpty, !step.statements.isEmpty { continue }
            let digest = try action.script.tokenDigest(of: rest)
            // What is recorded of another statement says nothing about this one.
            let record = known[plan.count].flatMap { $0.tokenDigest == digest ? $0 : nil }
            plan.append(
                Step(
                    number: plan.count, step: MigrationStep(statements: rest, nonTransactional: step.nonTransactional),
                    digest: digest, record: record))
        }
        steps = plan
    }

    /// A step that is done may have been a statement that ran alone, although the file would now run it with others.
    private static func nonTransactional(
        _ statements: [SQLStatement], _ script: MigrationScript
    ) throws -> NonTransactionalStatement? {
        guard statements.count == 1 else { return nil }
        return NonTransactionalStatement(words: try script.words(of: statements[0]), isAutocommit: true)
    }

    /// The number of steps that are done.
    public var done: Int { steps.count(where: \.isDone) }

    /// The number of all steps.
    public var count: Int { steps.count }

    /// The first statement that is not done; nil if all are.
    public var next: SQLStatement? { steps.first { !$0.isDone }?.step.statements.first }

    /// Whether an earlier run has begun the next statement and has not recorded its end.
    public var isNextBegun: Bool { steps.first { !$0.isDone }?.record != nil }
}

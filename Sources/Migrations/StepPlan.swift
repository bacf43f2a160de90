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
            let step = MigrationStep(statements: Array(left.prefix(count)), nonTransactional: nil)
            plan.append(Step(number: plan.count, step: step, digest: record.tokenDigest, record: record))
            left = left.dropFirst(count)
        }
        var done = plan.reduce(0) { $0 + $1.step.statements.count }
        for step in action.steps {
            let rest = Array(step.statements.dropFirst(done))
            done = max(0, done - step.statements.count)
            if rest.isEmpty, !step.statements.isEmpty { continue }
            plan.append(
                Step(
                    number: plan.count, step: MigrationStep(statements: rest, nonTransactional: step.nonTransactional),
                    digest: try action.script.tokenDigest(of: rest), record: known[plan.count]))
        }
        steps = plan
    }

    /// The number of steps that are done.
    public var done: Int { steps.count(where: \.isDone) }

    /// The number of all steps.
    public var count: Int { steps.count }

    /// The first statement that is not done; nil if all are.
    public var next: SQLStatement? { steps.first { !$0.isDone }?.step.statements.first }
}

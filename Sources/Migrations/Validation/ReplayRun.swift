import Catalog
import Foundation
import Ledger
import Postgres
import SQL

/// Runs the selected migrations of one system in a scratch database: the same planned actions as a run of `up`, each in
/// a session whose settings were reset or in a new one, but without a ledger, a journal and retries.
struct ReplayRun: Sendable {
    let selection: MigrationSelection

    private var system: MigrationSystem { selection.system }

    /// - Throws: `MigrationError.notReplayed` with the migration that cannot be run; `MigrationError` of the plan;
    ///   `CancellationError`.
    func perform(in session: inout ReplaySession) async throws {
        try await session.connection.with { connection in
            let there = try connection.query("SELECT FROM pg_namespace WHERE nspname = $1", [system.schema])
            if there.isEmpty { try connection.execute("CREATE SCHEMA \(quoteIdentifier(system.schema))") }
        }
        for (migration, steps) in selection.selected {
            let action = try MigrationAction(system: system, migration: migration, direction: .up)
            if session.isSpent { try await session.renew() }
            do {
                try await session.connection.with { try perform(action, steps, on: $0) }
            } catch let error as PostgresError {
                throw MigrationError.notReplayed(
                    system: system.name, title: migration.title,
                    cause: await SystemPath.explained(error, schema: system.schema, on: session.connection))
            }
            session.isSpent = action.script.requiresNewSession
        }
    }

    /// - Parameter done: the steps to run; nil: all.
    private func perform(
        _ action: MigrationAction, _ done: [Int: StepJournal.Step]?, on connection: isolated Connection
    ) throws {
        let source = action.script
        let mayWriteElsewhere = try ForeignWrite.mayFollow(in: source) || ForeignWrite.isPossible(on: connection)
        let script = ScriptRun(script: source) { statement, connection in
            let words = try source.words(of: statement)
            if let others = ReplayedStatement.substitute(words, in: source.source) { return others }
            return try mayWriteElsewhere && ForeignWrite.isMade(by: words, on: connection) ? [] : nil
        }
        if done == nil, action.runsInOneTransaction {
            var options = TransactionOptions()
            options.preamble = [
                try SystemPath.statement(schema: system.schema, local: true, on: connection),
                SessionMeaning.ofDatabase(local: true), Self.undurable(local: true),
            ]
            options.closing = ScriptRun.closingWhole + [ScriptRun.powerless]
            try connection.transaction(options) { try script.runWhole(action.steps[0], on: connection) }
        } else {
            let path = try SystemPath.statement(schema: system.schema, local: false, on: connection)
            try connection.execute(
                "\(path); \(SessionMeaning.ofDatabase(local: false)); \(Self.undurable(local: false))")
            var options = TransactionOptions()
            options.closing = ScriptRun.closing + [ScriptRun.powerless]
            let steps = try done.map { try StepPlan(action, $0).steps.filter(\.isDone).map(\.step) } ?? action.steps
            for step in steps {
                if step.runsAlone, let statement = step.statements.first {
                    try script.run(statement, on: connection)
                } else {
                    try connection.transaction(options) { try script.run(step, on: connection) }
                }
            }
        }
        // As after each migration of `up`.
        try connection.resetSession(withLocks: true)
    }

    /// A crash of the server loses no more than the scratch database, which is then of no use.
    private static func undurable(local: Bool) -> String { "SET \(local ? "LOCAL " : "")synchronous_commit = off" }
}

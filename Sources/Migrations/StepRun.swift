import Catalog
import Foundation
import Ledger
import Postgres
import SQL
import Telemetry

/// Runs a migration that cannot run in one transaction, step by step, and records each step in the journal.
///
/// All steps run in one session, so that the settings, roles and temporary objects of a step are there for the next
/// one, as in psql. A step that is a transaction is recorded in that transaction, so it is recorded if and only if it
/// was done. A statement that runs alone is recorded before and after it runs, on another connection. If only its start
/// was recorded, the run was cut off, and the catalog shows whether the statement was completed.
struct StepRun {
    let run: ActionRun
    /// The connection of the run's lock, which writes the journal.
    let keeper: Connection
    private let journal: StepJournal
    private let marks: SessionState.Marks

    init(run: ActionRun, keeper: Connection) throws {
        self.run = run
        self.keeper = keeper
        journal = StepJournal(
            system: run.action.system.name, version: run.action.migration.version ?? 0,
            direction: run.action.direction == .up ? .up : .down)
        marks = try SessionState.Marks(of: run.action.script)
    }

    private var action: MigrationAction { run.action }

    /// - Throws: `MigrationError.stepsChanged`, `.temporaryLost`, `.invalidIndex`; `PostgresError`.
    func perform(_ began: ContinuousClock.Instant, on connection: Connection) async throws {
        let known = try await keeper.with { try self.begin(on: $0) }
        let plan = try StepPlan(action, known).steps
        try await prepareSession(on: connection)
        let initial = try await connection.with { try SessionState.read(self.marks, on: $0) }
        let session = StepSession(connection: connection, initial: initial)
        try await restoreSession(plan, on: connection)
        for one in plan where !one.isDone {
            do {
                try await perform(one, in: session)
            } catch {
                await withdrawIfNothingIsDone()
                throw error
            }
        }
        try await keeper.with { keeper in
            try keeper.transaction {
                try run.writeLedger(began, on: keeper)
                try journal.clear(on: keeper)
            }
        }
    }

    /// The session of the migration.
    private struct StepSession: Sendable {
        let connection: Connection
        /// The state before the first step. Only what differs from it is recorded, because Reeve may begin a later
        /// session with other settings, for instance another search path.
        let initial: SessionState
    }

    private func begin(on keeper: isolated Connection) throws -> [Int: StepJournal.Step] {
        if action.direction == .up {
            try keeper.execute(
                MigrationLedger.recordStatement(
                    run.record(.applying), source: action.script.text, milliseconds: 0, actor: run.settings.actor))
        } else {
            try MigrationLedger.markReverting(
                system: action.system.name, version: action.migration.version ?? 0, on: keeper)
        }
        return try journal.steps(on: keeper)
    }

    /// If no step was begun or done, removes the record that the migration was begun. The file may then be changed.
    private func withdrawIfNothingIsDone() async {
        _ = try? await keeper.with { keeper in
            guard try journal.steps(on: keeper).isEmpty else { return }
            try MigrationLedger.withdraw(
                system: action.system.name, version: action.migration.version ?? 0, on: keeper)
        }
    }

    // MARK: The session

    private func prepareSession(on connection: Connection) async throws {
        let path = try await keeper.with { try run.settings.survey(action.system, on: $0).statement(local: false) }
        let timeout = run.lockTimeout.milliseconds
        try await connection.with {
            _ = try $0.execute(
                "\(path); \(SessionMeaning.ofDatabase(local: false)); SET lock_timeout = \(timeout)")
        }
    }

    /// Gives a new session the state that the last finished step has left.
    private func restoreSession(_ plan: [StepPlan.Step], on connection: Connection) async throws {
        guard let index = plan.lastIndex(where: \.isDone), let text = plan[index].record?.session else { return }
        let state = try text.decode(SessionState.self)
        if state.hasTemporaryObjects, let next = plan.dropFirst(index + 1).first?.step.statements.first {
            throw MigrationError.temporaryLost(
                location: action.script.location(of: next), system: action.system.name, title: action.migration.title)
        }
        try await connection.with { try state.restore(on: $0) }
    }

    // MARK: Steps

    private func perform(_ one: StepPlan.Step, in session: StepSession) async throws {
        let connection = session.connection
        try await keeper.with { _ = try run.settings.survey(action.system, on: $0) }
        guard let alone = one.step.nonTransactional, let statement = one.step.statements.first else {
            return try await performTogether(one, in: session)
        }
        let work = LoneStatement(
            statement: alone, text: statement, script: action.script, connection: connection, keeper: keeper)
        let before = try one.record?.found?.decode(StatementEvidence.self)
        let wasDone = try await withPatience(alone, on: connection) {
            try await work.wasDone(before: before, wasStarted: one.record != nil)
        }
        if !wasDone {
            try await perform(work, one, on: connection)
        }
        try await recordEnd(of: one, in: session)
    }

    /// Runs a step that is one transaction, which also writes the journal.
    private func performTogether(_ one: StepPlan.Step, in session: StepSession) async throws {
        try await session.connection.with { connection in
            // The lock timeout, the search path and the isolation level are those of the session.
            try connection.transaction(TransactionOptions(isolation: .ofSession)) {
                let state = try run.script.run(one.step, on: connection) {
                    try self.state(since: session.initial, on: connection)
                }
                try journal.note(
                    step: one.number, tokenDigest: one.digest, .done, session: state, on: connection)
                try connection.execute(ScriptRun.powerless)
            }
        }
        // Settings that were made for the transaction have ended with it.
        try await recordEnd(of: one, in: session)
    }

    private func state(since initial: SessionState, on connection: isolated Connection) throws -> JSONText {
        var state = try SessionState.read(marks, on: connection)
        state.reset = initial.settings.keys.filter { state.settings[$0] == nil }.sorted()
        state.settings = state.settings.filter { initial.settings[$0.key] != $0.value }
        return try JSONText(encoding: state)
    }

    /// Records that a step is done, and the state that it has left in its session.
    private func recordEnd(of one: StepPlan.Step, in session: StepSession) async throws {
        let state = try await session.connection.with { connection -> JSONText in
            try self.state(since: session.initial, on: connection)
        }
        try await keeper.with {
            try journal.note(step: one.number, tokenDigest: one.digest, .done, session: state, on: $0)
        }
    }

    private func perform(_ work: LoneStatement, _ one: StepPlan.Step, on connection: Connection) async throws {
        if one.record != nil { run.report(.repeats(action, location: action.script.location(of: work.text))) }
        let evidence = try await locatingErrors(at: work.text) { try await work.evidence() }
        try await keeper.with {
            try journal.note(
                step: one.number, tokenDigest: one.digest, .started, found: JSONText(encoding: evidence), on: $0)
        }
        do {
            try await withPatience(work.statement, on: connection) {
                try await connection.with { try run.script.run(work.text, on: $0) }
            }
        } catch {
            // The server has reported that the statement failed. The record of its start is removed, so that the next
            // run does not look for its result.
            if let error = error as? PostgresError, error.kind == .server, await connection.isOpen {
                await work.cleanUp(after: evidence)
                _ = try? await keeper.with { try journal.withdraw(step: one.number, on: $0) }
            }
            throw error
        }
        try await work.check(after: evidence)
    }

    /// Adds the location of a statement to errors of the server.
    private func locatingErrors<T>(at statement: SQLStatement, _ body: () async throws -> T) async throws -> T {
        do {
            return try await body()
        } catch let error as PostgresError where error.excerpt == nil {
            throw error.located(in: statement, of: action.script.source, file: action.script.path)
        }
    }

    /// Runs `body` without a lock timeout if the statement waits without blocking others, unless the script itself has
    /// set the timeout.
    private func withPatience<T>(
        _ statement: NonTransactionalStatement, on connection: Connection, _ body: () async throws -> T
    ) async throws -> T {
        let timeout = run.lockTimeout.milliseconds
        guard statement.waitsPatiently,
            try await connection.with({ try Self.lockTimeout(on: $0) == Int(timeout) })
        else { return try await body() }
        try await connection.with { _ = try $0.execute("SET lock_timeout = 0") }
        run.watch.begin { [run] blockers in run.report(.waits(run.action, blockers)) }
        let result = try await body()
        try await connection.with { _ = try $0.execute("SET lock_timeout = \(timeout)") }
        return result
    }

    /// The lock timeout of the session in milliseconds.
    private static func lockTimeout(on connection: isolated Connection) throws -> Int? {
        try connection.query(
            """
            SELECT s.setting::pg_catalog.int8 FROM pg_catalog.pg_settings s
            WHERE s.name OPERATOR(pg_catalog.=) 'lock_timeout'
            """
        ).first?.get(0)
    }
}

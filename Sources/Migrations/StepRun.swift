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

    /// - Parameter attempts: the attempts of the migration. A step that does not get its locks is tried again in the
    ///   same session.
    /// - Throws: `MigrationError.stepsChanged`, `.temporaryLost`, `.invalidIndex`; `PostgresError`.
    func perform(
        _ began: ContinuousClock.Instant, _ attempts: inout LockAttempts, on connection: Connection
    ) async throws {
        let (former, known) = try await keeper.with { try self.begin(on: $0) }
        do {
            try await performSteps(known, &attempts, on: connection)
        } catch {
            await withdrawIfNothingIsBegun(former)
            throw error
        }
        try await keeper.with { keeper in
            try keeper.transaction {
                try run.writeLedger(began, on: keeper)
                try journal.clear(on: keeper)
            }
        }
    }

    /// - Parameter known: the steps in the journal.
    private func performSteps(
        _ known: [Int: StepJournal.Step], _ attempts: inout LockAttempts, on connection: Connection
    ) async throws {
        let plan = try StepPlan(action, known).steps
        try await prepareSession(on: connection)
        let initial = try await connection.with { try SessionState.read(self.marks, on: $0) }
        var session = StepSession(connection: connection, initial: initial)
        try await run.retrying(&attempts) { try await restoreSession(plan, &session) }
        for one in plan where !one.isDone {
            if one.step.nonTransactional == .procedure {
                try await perform(one, in: &session)
            } else {
                try await run.retrying(&attempts) { try await perform(one, in: &session) }
            }
        }
    }

    /// The session of the migration.
    private struct StepSession: Sendable {
        let connection: Connection
        /// The state before the first step. Only what differs from it is recorded, because Reeve may begin a later
        /// session with other settings, for instance another search path.
        let initial: SessionState
        /// What the journal has of the state after the last step; nil before the first step.
        var last: SessionState?
    }

    /// - Returns: the state of the record before; nil if there was none. The steps in the journal.
    private func begin(
        on keeper: isolated Connection
    ) throws -> (former: MigrationRecord.State?, steps: [Int: StepJournal.Step]) {
        if action.direction == .up {
            try keeper.execute(
                MigrationLedger.recordStatement(
                    run.record(.applying), source: action.script.text, milliseconds: 0, actor: run.settings.actor))
            return (nil, try journal.steps(on: keeper))
        }
        let former = try MigrationLedger.markReverting(
            system: action.system.name, version: action.migration.version ?? 0, on: keeper)
        return (former, try journal.steps(on: keeper))
    }

    /// If the journal has no step, removes the record that the migration was begun. The file may then be changed.
    private func withdrawIfNothingIsBegun(_ former: MigrationRecord.State?) async {
        // In a separate task, because the current task may be cancelled.
        await Task {
            _ = try? await keeper.with { keeper in
                guard try journal.steps(on: keeper).isEmpty else { return }
                let (system, version) = (action.system.name, action.migration.version ?? 0)
                if action.direction == .up {
                    try MigrationLedger.withdrawApplying(system: system, version: version, on: keeper)
                } else if let former {
                    try MigrationLedger.withdrawReverting(system: system, version: version, to: former, on: keeper)
                }
            }
        }.value
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
    private func restoreSession(_ plan: [StepPlan.Step], _ session: inout StepSession) async throws {
        let done = plan.filter(\.isDone)
        guard let one = done.last, let state = try one.session else { return }
        if state.hasTemporaryObjects, let next = plan.dropFirst(done.count).first?.step.statements.first {
            throw MigrationError.temporaryLost(
                location: action.script.location(of: next), system: action.system.name, title: action.migration.title)
        }
        guard state.isProvisional == true else {
            try await session.connection.with { try state.restore(on: $0) }
            session.last = state
            return
        }
        var base = try done.dropLast().last?.session ?? session.initial.withoutSettings
        base.prepared = state.prepared
        let settings = try SettingStatements(of: one.step, in: action.script)
        try await session.connection.with { [base] connection in
            try base.restore(on: connection)
            let before = try SessionState.read(marks, on: connection).settings
            try connection.transaction(TransactionOptions(isolation: .ofSession)) {
                for text in settings.texts { try connection.execute(text) }
            }
            if settings.isComplete { return }
            // A function may have made the others.
            let after = try SessionState.read(marks, on: connection).settings
            for (name, value) in state.settings where after[name] == before[name] {
                try connection.query("SELECT pg_catalog.set_config($1, $2, false)", [name, value])
            }
        }
        try await recordEnd(of: one, in: &session)
    }

    // MARK: Steps

    private func perform(_ one: StepPlan.Step, in session: inout StepSession) async throws {
        let connection = session.connection
        try await keeper.with { _ = try run.settings.survey(action.system, on: $0) }
        guard let alone = one.step.nonTransactional, let statement = one.step.statements.first else {
            return try await performTogether(one, in: &session)
        }
        let work = LoneStatement(
            statement: alone, text: statement, script: action.script, connection: connection, keeper: keeper)
        // The journal is read again, because this may be a further attempt.
        let known = try await keeper.with { try journal.steps(on: $0)[one.number] }
        let record = known.flatMap { $0.tokenDigest == one.digest ? $0 : nil }
        let before = try record?.found?.decode(StatementEvidence.self)
        let wasDone = try await withPatience(alone, on: connection) {
            try await locatingErrors(at: statement) {
                try await work.wasDone(before: before, wasStarted: record != nil)
            }
        }
        if !wasDone {
            if record != nil { run.report(.repeats(action, location: action.script.location(of: statement))) }
            try await perform(work, one, on: connection)
        }
        try await recordEnd(of: one, in: &session)
    }

    /// Runs a step that is one transaction, which also writes the journal.
    private func performTogether(_ one: StepPlan.Step, in session: inout StepSession) async throws {
        let (initial, last) = (session.initial, session.last)
        let mayChange = try SettingStatements(of: one.step, in: action.script).mayChange
        let noted: SessionState
        do {
            noted = try await session.connection.with {
                try self.transaction(of: one, initial, last, mayChange, on: $0)
            }
        } catch let error as PostgresError where error.kind == .server && !marks.prepared.isEmpty {
            // ROLLBACK undoes neither PREPARE nor DEALLOCATE.
            try? await session.connection.with { connection in
                try connection.execute("DEALLOCATE ALL")
                try last?.restorePrepared(on: connection)
            }
            throw error
        }
        session.last = noted
        try await recordEnd(of: one, in: &session, unless: noted)
    }

    /// - Returns: the recorded state of the session.
    private func transaction(
        of one: StepPlan.Step, _ initial: SessionState, _ last: SessionState?, _ mayChange: Bool,
        on connection: isolated Connection
    ) throws -> SessionState {
        // The lock timeout, the search path and the isolation level are those of the session.
        var options = TransactionOptions(isolation: .ofSession)
        options.closing = [ScriptRun.powerless]
        return try connection.transaction(options) {
            var state = try run.script.run(one.step, on: connection) { try self.state(since: initial, on: connection) }
            // Settings that were made for the transaction end with it.
            if mayChange || state != last { state.isProvisional = true }
            try journal.note(
                step: one.number, tokenDigest: one.digest, .done, session: JSONText(encoding: state), on: connection)
            return state
        }
    }

    /// Returns the state of the session, with the settings that differ from the initial ones.
    private func state(since initial: SessionState, on connection: isolated Connection) throws -> SessionState {
        var state = try SessionState.read(marks, on: connection)
        state.reset = initial.settings.keys.filter { state.settings[$0] == nil }.sorted()
        state.settings = state.settings.filter { initial.settings[$0.key] != $0.value }
        return state
    }

    /// Records that a step is done, and the state that it has left in its session.
    ///
    /// - Parameter noted: the state that the step's own transaction has recorded.
    private func recordEnd(
        of one: StepPlan.Step, in session: inout StepSession, unless noted: SessionState? = nil
    ) async throws {
        let initial = session.initial
        let state = try await session.connection.with { try self.state(since: initial, on: $0) }
        session.last = state
        if state == noted { return }
        try await keeper.with {
            try journal.note(
                step: one.number, tokenDigest: one.digest, .done, session: JSONText(encoding: state), on: $0)
        }
    }

    private func perform(_ work: LoneStatement, _ one: StepPlan.Step, on connection: Connection) async throws {
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
            if let error = error as? PostgresError, error.kind == .server, await connection.isOpen {
                await cleanUp(work, one, evidence, after: error, on: connection)
            }
            throw error
        }
        try await work.check(after: evidence)
    }

    /// The server has reported that a statement failed. Removes what the statement has left behind, and then the record
    /// of its start, so that the next run does not look for its result. A procedure that has begun may have committed a
    /// part, so its record remains. The position of an error in the statement shows that it has not begun.
    private func cleanUp(
        _ work: LoneStatement, _ one: StepPlan.Step, _ evidence: StatementEvidence, after error: PostgresError,
        on connection: Connection
    ) async {
        if work.statement == .procedure, error.context != nil || error.position == nil { return }
        do {
            // The script's own limits would interrupt this, too.
            try await without(Self.limits, on: connection) { try await work.cleanUp(after: evidence) }
            try await keeper.with { try journal.withdraw(step: one.number, on: $0) }
        } catch {
            run.logger.info(
                "the rest of a failed statement is left to the next run", [LogField("error", "\(error)")])
        }
    }

    /// Adds the location of a statement to errors of the server.
    private func locatingErrors<T>(at statement: SQLStatement, _ body: () async throws -> T) async throws -> T {
        do {
            return try await body()
        } catch let error as PostgresError where error.excerpt == nil {
            throw error.located(in: statement, of: action.script.source, file: action.script.path)
        }
    }

    /// Runs `body` without a lock timeout if a timeout would interrupt the statement half-way, unless the script itself
    /// has set the timeout.
    private func withPatience<T>(
        _ statement: NonTransactionalStatement, on connection: Connection, _ body: () async throws -> T
    ) async throws -> T {
        guard statement.waitsPatiently else { return try await body() }
        let own = try await connection.with { try Self.values(of: ["lock_timeout"], on: $0) }
        guard own["lock_timeout"] == Int(run.lockTimeout.milliseconds) else { return try await body() }
        return try await without(["lock_timeout"], on: connection, body)
    }

    private static let limits = ["lock_timeout", "statement_timeout"]

    /// Runs `body` without some of the time limits of the session. The sessions that it waits for are reported.
    private func without<T>(
        _ limits: [String], on connection: Connection, _ body: () async throws -> T
    ) async throws -> T {
        let values = try await connection.with { connection in
            let values = try Self.values(of: limits, on: connection)
            try connection.execute(limits.map { "SET \($0) = 0" }.joined(separator: "; "))
            return values
        }
        run.watch.begin { [run] blockers in run.report(.waits(run.action, blockers)) }
        let result: Result<T, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        // If the statement was cancelled or the connection lost, the session ends anyway.
        try? await connection.with {
            _ = try $0.execute(values.map { "SET \($0.key) = \($0.value)" }.joined(separator: "; "))
        }
        return try result.get()
    }

    /// Returns the values of time limits of the session, in milliseconds.
    private static func values(of limits: [String], on connection: isolated Connection) throws -> [String: Int] {
        let rows = try connection.query(
            """
            SELECT s.name, s.setting::pg_catalog.int8 FROM pg_catalog.pg_settings s
            WHERE s.name OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[])
            """, [limits])
        return Dictionary(uniqueKeysWithValues: try rows.map { (try $0.get(0), try $0.get(1)) })
    }
}

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

    init(run: ActionRun, keeper: Connection) {
        self.run = run
        self.keeper = keeper
        journal = StepJournal(
            system: run.action.system.name, version: run.action.migration.version ?? 0,
            direction: run.action.direction == .up ? .up : .down)
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
        var session = try await StepSession(of: run, plan, journal: journal, keeper: keeper, on: connection)
        try await run.retrying(&attempts) { try await session.restore() }
        for one in plan where !one.isDone {
            if one.step.nonTransactional == .procedure {
                try await perform(one, in: &session)
            } else {
                try await run.retrying(&attempts) { try await perform(one, in: &session) }
            }
        }
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

    // MARK: Steps

    private func perform(_ one: StepPlan.Step, in session: inout StepSession) async throws {
        let connection = session.connection
        try await keeper.with { _ = try run.settings.survey(action.system, on: $0) }
        guard let alone = one.step.nonTransactional, let statement = one.step.statements.first else {
            return try await session.perform(one)
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
        try await session.recordEnd(of: one)
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

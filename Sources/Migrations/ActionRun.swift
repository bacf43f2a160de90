import Catalog
import Foundation
import Ledger
import Postgres
import SQL
import Telemetry

/// Applies or reverts one migration, with retries.
struct ActionRun: Sendable {
    let action: MigrationAction
    /// Whether another migration follows. If so, the commit need not be flushed to disk before the next migration
    /// begins. Commits are flushed in their order. Therefore a crash of the server leaves the ledger and the schema in
    /// the state of some earlier moment of the run.
    let isFollowed: Bool
    let settings: Migrator.Settings
    let watch: BlockerWatch
    let logger: Logger
    let report: @Sendable (MigrationEvent) -> Void

    /// Applies or reverts the migration. A failure after the commit does not change the outcome: if the connection is
    /// lost then, this function returns normally, and the connection is closed.
    ///
    /// - Parameters:
    ///   - connection: runs the statements of the migration. Its session is reset afterwards.
    ///   - keeper: runs Reeve's own statements. No statement of a migration runs on it.
    /// - Returns: the duration in milliseconds.
    /// - Throws: `MigrationError.failed` if the migration was not applied or reverted, or if the outcome is unknown;
    ///   another `MigrationError` of `StepRun`; `CancellationError`.
    func perform(on connection: Connection, keeper: Connection) async throws -> Int {
        let began = ContinuousClock.now
        var attempts = LockAttempts(
            most: (action.script.directives.retries ?? settings.retries) + 1, first: settings.backoff,
            stallLimit: stallLimit, lockTimeout: lockTimeout)
        do {
            try await vacateRoles(keeper)
            if action.runsInOneTransaction {
                try await retrying(&attempts) { try await inOneTransaction(began, on: connection, keeper) }
            } else {
                try await inSteps(began, &attempts, on: connection, keeper)
            }
            return Int((ContinuousClock.now - began).milliseconds)
        } catch let error as PostgresError {
            let blockers = watch.seen
            throw failure(
                await SystemPath.explained(error, schema: action.system.schema, on: connection), blockers, attempts)
        }
    }

    /// Runs `body` again, after a pause, while it does not get its locks. `body` must have no effect if it fails.
    ///
    /// - Parameter attempts: the attempts of the whole migration.
    /// - Throws: the error of `body`; `CancellationError`.
    func retrying(_ attempts: inout LockAttempts, _ body: () async throws -> Void) async throws {
        while true {
            watch.begin(patience: lockTimeout / 2)
            let start = ContinuousClock.now
            do {
                return try await body()
            } catch let error as PostgresError where ["55P03", "40P01"].contains(error.sqlState) {
                let blockers = watch.seen
                guard let pause = attempts.pause(afterAttemptOf: ContinuousClock.now - start) else { throw error }
                report(
                    .retries(
                        action, attempt: attempts.count, blockers: blockers, stall: attempts.stall, pause: pause))
                try await Task.sleep(for: pause)
            }
        }
    }

    /// The limit of the settings. A directive of the file replaces it, because its author has decided.
    private var stallLimit: Duration {
        let directives = action.script.directives
        guard directives.lockTimeout != nil || directives.retries != nil else { return settings.stallLimit }
        return max(settings.stallLimit, lockTimeout * ((directives.retries ?? settings.retries) + 1) * 2)
    }

    var script: ScriptRun { ScriptRun(script: action.script) }

    /// A single attempt must not exceed the limit for all of them.
    var lockTimeout: Duration {
        action.script.directives.lockTimeout ?? min(settings.lockTimeout, settings.stallLimit)
    }

    private func failure(_ error: PostgresError, _ blockers: [Blocker], _ attempts: LockAttempts) -> MigrationError {
        MigrationError.failed(
            system: action.system.name, title: action.migration.title,
            cause: MigrationAdvice(action: action).advised(error),
            blockers: error.sqlState == "55P03" ? blockers : [], attempts: attempts.count + 1, stall: attempts.stall)
    }

    /// Frees the names of roles that replays have created and that this migration may create.
    private func vacateRoles(_ keeper: Connection) async throws {
        guard action.script.mentionsRoles else { return }
        // There are such roles only while a schema is validated, so the text is rarely searched.
        try await keeper.with {
            try ScratchDatabase.vacateRoles(where: action.script.names, on: $0)
        }
    }

    private func inOneTransaction(
        _ began: ContinuousClock.Instant, on connection: Connection, _ keeper: Connection
    ) async throws {
        let preamble = try await keeper.with { try settings.survey(action.system, on: $0).statement(local: true) }
        try await connection.with { connection in
            defer { Self.reset(connection) }
            try self.inOneTransaction(began, preamble, on: connection)
        }
    }

    private func inSteps(
        _ began: ContinuousClock.Instant, _ attempts: inout LockAttempts, on connection: Connection,
        _ keeper: Connection
    ) async throws {
        let result: Result<Void, any Error>
        do {
            try await StepRun(run: self, keeper: keeper).perform(began, &attempts, on: connection)
            result = .success(())
        } catch {
            result = .failure(error)
        }
        // In a separate task, because the current task may be cancelled.
        await Task { try? await connection.with { Self.reset($0) } }.value
        try result.get()
    }

    /// Resets the session: the settings of the migration, or of functions that it called, must not affect the next
    /// migration or Reeve's own statements. If the session cannot be reset, the connection is closed.
    private static func reset(_ connection: isolated Connection) {
        guard connection.isOpen else { return }
        try? connection.resetSession(withLocks: true)
    }

    private func inOneTransaction(
        _ began: ContinuousClock.Instant, _ preamble: String, on connection: isolated Connection
    ) throws {
        var options = TransactionOptions()
        options.lockTimeout = lockTimeout
        options.preamble = [preamble, SessionMeaning.ofDatabase(local: true)]
        if isFollowed { options.preamble.append("SET LOCAL synchronous_commit = off") }
        if action.direction == .up {
            let record = MigrationLedger.recordStatement(
                record(.applied), source: action.script.text, milliseconds: nil, actor: settings.actor)
            options.closing = ScriptRun.closingWhole + [record, ScriptRun.powerless]
            return try connection.transaction(options) { try script.runWhole(action.steps[0], on: connection) }
        }
        options.closing = [ScriptRun.powerless]
        try connection.transaction(options) {
            try script.runWhole(action.steps[0], on: connection)
            try connection.execute(ScriptRun.closingWhole.joined(separator: ";\n"))
            try writeLedger(began, on: connection)
        }
    }

    /// Writes or removes the migration's row in the ledger, in the last transaction of the migration.
    func writeLedger(_ began: ContinuousClock.Instant, on connection: isolated Connection) throws {
        let migration = action.migration
        switch action.direction {
        case .up:
            try connection.execute(
                MigrationLedger.recordStatement(
                    record(.applied), source: migration.up.text,
                    milliseconds: Int((ContinuousClock.now - began).milliseconds), actor: settings.actor))
        case .down:
            try MigrationLedger.remove(
                system: action.system.name, version: migration.version, name: migration.name, actor: settings.actor,
                on: connection)
        }
    }

    func record(_ state: MigrationRecord.State) -> MigrationRecord {
        MigrationRecord(
            system: action.system.name, version: action.migration.version, name: action.migration.name,
            tokenDigest: action.migration.up.tokenDigest, textDigest: action.migration.up.textDigest, state: state,
            appliedAt: Timestamp(Date()))
    }
}

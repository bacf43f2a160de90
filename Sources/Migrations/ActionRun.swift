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
        while true {
            watch.begin(patience: lockTimeout / 2)
            let start = ContinuousClock.now
            do {
                try await attempt(began, on: connection, keeper)
                return Int((ContinuousClock.now - began).milliseconds)
            } catch let error as PostgresError {
                let blockers = watch.seen
                guard ["55P03", "40P01"].contains(error.sqlState),
                    let pause = attempts.pause(afterAttemptOf: ContinuousClock.now - start)
                else {
                    throw failure(
                        await SystemPath.explained(error, schema: action.system.schema, on: connection), blockers,
                        attempts)
                }
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

    var lockTimeout: Duration { action.script.directives.lockTimeout ?? settings.lockTimeout }

    private func failure(_ error: PostgresError, _ blockers: [Blocker], _ attempts: LockAttempts) -> MigrationError {
        MigrationError.failed(
            system: action.system.name, title: action.migration.title,
            cause: MigrationAdvice(action: action).advised(error),
            blockers: error.sqlState == "55P03" ? blockers : [], attempts: attempts.count + 1, stall: attempts.stall)
    }

    private func attempt(
        _ began: ContinuousClock.Instant, on connection: Connection, _ keeper: Connection
    ) async throws {
        do {
            if action.runsInOneTransaction {
                let preamble = try await keeper.with {
                    try settings.survey(action.system, on: $0).statement(local: true)
                }
                try await connection.with { try self.inOneTransaction(began, preamble, on: $0) }
            } else {
                try await StepRun(run: self, keeper: keeper).perform(began, on: connection)
            }
        } catch {
            await reset(connection)
            throw error
        }
        // The settings of the migration, or of functions that it called, must not affect the next migration or Reeve's
        // own statements. If the session cannot be reset, the connection is closed.
        await reset(connection)
    }

    private func reset(_ connection: Connection) async {
        // In a separate task, because the current task may be cancelled.
        await Task { try? await connection.with { if $0.isOpen { try $0.resetSession() } } }.value
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
            return try runTransaction(options, record: record, on: connection)
        }
        try connection.transaction(options) {
            for statement in action.steps[0].statements { try run(statement, on: connection) }
            try connection.execute(Self.closing.joined(separator: "; "))
            try writeLedger(began, on: connection)
        }
    }

    /// Runs the migration's statements in one transaction, and then `record`. If possible, they are sent together.
    func runTransaction(
        _ options: TransactionOptions, record: String?, on connection: isolated Connection
    ) throws {
        let end = Self.closing + [record].compactMap { $0 }
        guard let batch else {
            return try connection.transaction(options) {
                for statement in action.steps[0].statements { try run(statement, on: connection) }
                try connection.execute(end.joined(separator: ";\n"))
            }
        }
        let script = action.script
        do {
            try connection.transaction(options, batch: batch.map(script.text) + end)
        } catch let error as PostgresError {
            guard let index = error.batchIndex, index < batch.count else { throw error }
            throw error.located(in: batch[index], of: script.source, file: script.path)
        }
    }

    /// The statements of a migration that runs in one transaction, if they can be sent in one batch: there is no COPY,
    /// and none can change how the server parses those after it.
    private var batch: [SQLStatement]? {
        let statements = action.steps[0].statements
        let copy = "copy".utf8
        let canBeSent = statements.allSatisfy { statement in
            !action.script.source[statement.range].prefix(copy.count).map { $0 | 0x20 }.elementsEqual(copy)
        }
        return canBeSent && !action.script.mentionsStringSyntax ? statements : nil
    }

    /// Statements that run between a migration and Reeve's own statements in the same transaction, so that Reeve's
    /// statements run as the connected role and with Reeve's own settings. Deferred constraints and triggers of the
    /// migration run first, with the migration's settings. The settings are local: those that the migration made for
    /// the session apply again after the transaction.
    static let closing = [
        // The query of a cursor WITH HOLD would run at COMMIT.
        "CLOSE ALL", "SET CONSTRAINTS ALL IMMEDIATE", "SET LOCAL session_authorization TO DEFAULT",
        "SET LOCAL role TO DEFAULT",
        SystemPath.end
            + [
                ("standard_conforming_strings", "on"), ("client_encoding", "UTF8"), ("statement_timeout", "0"),
                ("lock_timeout", "0"),
            ].map { ", pg_catalog.set_config('\($0)', '\($1)', true)" }.joined() + SessionMeaning.ofReeve,
    ]

    /// Ends the part of a transaction that belongs to the migration.
    func close(_ step: MigrationStep, on connection: isolated Connection) throws {
        do {
            try connection.execute(Self.closing.joined(separator: "; "))
        } catch let error as PostgresError {
            // An error of a deferred constraint belongs to the step's statement, if there is only one.
            guard step.statements.count == 1, let statement = step.statements.first else { throw error }
            throw error.located(in: statement, of: action.script.source, file: action.script.path)
        }
    }

    /// Runs a statement. An error contains the statement's location in the file.
    func run(_ statement: SQLStatement, on connection: isolated Connection) throws {
        let script = action.script
        do {
            if let data = statement.copyData {
                try connection.copyIn(script.text(of: statement), script.source[data])
            } else {
                // The output of COPY TO STDOUT is discarded, like the rows of a query.
                try connection.copyOut(script.text(of: statement)) { _ in }
            }
        } catch let error as PostgresError {
            throw error.located(in: statement, of: script.source, file: script.path)
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

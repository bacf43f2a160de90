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

    /// Applies or reverts the migration. A failure after the commit does not change the outcome: if the connection is
    /// lost then, this function returns normally, and the connection is closed.
    ///
    /// - Returns: the duration in milliseconds.
    /// - Throws: `MigrationError.failed` if the migration was not applied or reverted, or if the outcome is unknown;
    ///   another `MigrationError` of `StepRun`; `CancellationError`.
    func perform(on connection: Connection) async throws -> Int {
        let began = ContinuousClock.now
        let retries = action.script.directives.retries ?? settings.retries
        var attempt = 1
        while true {
            watch.begin(patience: lockTimeout / 2)
            do {
                try await connection.with { try self.attempt(began, on: $0) }
                return Int((ContinuousClock.now - began).milliseconds)
            } catch let error as PostgresError where ["55P03", "40P01"].contains(error.sqlState) && attempt <= retries {
                let blockers = watch.seen
                logger.warning(
                    "a migration did not get its locks, and is retried",
                    [
                        LogField("migration", title), LogField("attempt", attempt),
                        LogField("blocked_by", blockers.map(\.description).joined(separator: "; ")),
                    ])
                try await Task.sleep(for: pause(after: attempt))
                attempt += 1
            } catch let error as PostgresError {
                let blockers = watch.seen
                throw failure(
                    await SystemPath.explained(error, schema: action.system.schema, on: connection), blockers, attempt)
            }
        }
    }

    private var title: String { "\(action.system.name)/\(action.migration.title)" }
    private var lockTimeout: Duration { action.script.directives.lockTimeout ?? settings.lockTimeout }

    private func failure(_ error: PostgresError, _ blockers: [Blocker], _ attempts: Int) -> MigrationError {
        MigrationError.failed(
            system: action.system.name, title: action.migration.title, cause: error,
            blockers: error.sqlState == "55P03" ? blockers : [], attempts: attempts)
    }

    private func pause(after attempt: Int) -> Duration {
        let longest = min(settings.backoff * (1 << min(attempt - 1, 5)), .seconds(30))
        return longest * Double.random(in: 0.5...1)
    }

    private func attempt(_ began: ContinuousClock.Instant, on connection: isolated Connection) throws {
        do {
            try runOnce(began, on: connection)
        } catch {
            try? connection.resetSession()
            throw error
        }
        // The settings of the migration, or of functions that it called, must not affect the next migration or Reeve's
        // own statements. If the session cannot be reset, the connection is closed.
        if connection.isOpen { try? connection.resetSession() }
    }

    private func runOnce(_ began: ContinuousClock.Instant, on connection: isolated Connection) throws {
        if let batch = batch {
            try inOneBatch(batch, on: connection)
        } else if action.runsInOneTransaction {
            try inTransaction(on: connection) {
                for statement in action.steps[0].statements { try run(statement, on: connection) }
                try connection.execute(Self.closing.joined(separator: "; "))
                try writeLedger(began, on: connection)
            }
        } else {
            try StepRun(run: self, lockTimeout: lockTimeout).perform(began, on: connection)
        }
    }

    /// The statements that can be sent in one batch together with the ledger's row; nil if the migration cannot be sent
    /// in a batch. A migration can be sent in a batch if it is an up migration that runs in one transaction, has no
    /// COPY data, and is parsed with `standard_conforming_strings` on throughout.
    private var batch: [SQLStatement]? {
        guard action.direction == .up, action.runsInOneTransaction else { return nil }
        let statements = action.steps[0].statements
        return statements.allSatisfy { $0.copyData == nil && $0.standardConformingStrings } ? statements : nil
    }

    private func inOneBatch(_ statements: [SQLStatement], on connection: isolated Connection) throws {
        let script = action.script
        let record = MigrationLedger.recordStatement(
            record(.applied), source: script.text, milliseconds: nil, actor: settings.actor)
        do {
            try connection.transaction(
                options(on: connection), batch: statements.map(script.text) + Self.closing + [record])
        } catch let error as PostgresError {
            guard let index = error.batchIndex, index < statements.count else { throw error }
            throw error.located(in: statements[index], of: script.source, file: script.path)
        }
    }

    private func options(on connection: isolated Connection) throws -> TransactionOptions {
        try settings.refuseOpenSchema(of: action.system, on: connection)
        var options = TransactionOptions()
        options.lockTimeout = lockTimeout
        options.preamble = [
            try SystemPath.statement(schema: action.system.schema, local: true, on: connection)
        ]
        if isFollowed { options.preamble.append("SET LOCAL synchronous_commit = off") }
        return options
    }

    /// Statements that run between a migration and Reeve's own statements, so that Reeve's statements run as the
    /// connected role and with Reeve's own search path. Deferred constraints and triggers of the migration run first,
    /// with the migration's search path.
    static let closing = ["SET CONSTRAINTS ALL IMMEDIATE", "RESET SESSION AUTHORIZATION", "RESET ROLE", SystemPath.end]

    /// Runs `body` in a transaction with the search path of the system's schema.
    func inTransaction(on connection: isolated Connection, _ body: () throws -> Void) throws {
        try connection.transaction(options(on: connection), body)
    }

    /// Runs a statement. An error contains the statement's location in the file.
    func run(_ statement: SQLStatement, on connection: isolated Connection) throws {
        let script = action.script
        do {
            if let data = statement.copyData {
                try connection.copyIn(script.text(of: statement), script.source[data])
            } else {
                try connection.execute(script.text(of: statement))
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

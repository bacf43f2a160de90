import Catalog
import Foundation
import Ledger
import Postgres
import SQL
import Synchronization
import Telemetry

/// Applies, reverts and checks the migrations of systems in one database.
///
///     let migrator = Migrator(database: database, systems: systems, settings: settings, logger: log)
///     let done = try await migrator.up()
///
/// A run of `up` first reads the folders and the ledger, and ends if there is nothing to do. Otherwise it waits for the
/// lock that keeps two runs from migrating at the same time, and plans again. Each migration is applied in a separate
/// transaction, which also writes the ledger. A migration with statements that cannot run in a transaction is run step
/// by step, and each step is recorded in a journal. After a crash, the next run continues with the first step that was
/// not done.
public struct Migrator: Sendable {
    public struct Settings: Sendable {
        /// How long to wait for another run to end.
        public var lockWait: Duration = .seconds(60)
        /// How long a statement waits for a lock. In the meantime, later requests that conflict with this lock wait,
        /// too.
        public var lockTimeout: Duration = .milliseconds(500)
        /// How often a migration is retried if it does not acquire its locks in time.
        public var retries = 10
        /// How long other sessions may wait because of all attempts to apply one migration. No attempt begins that
        /// could exceed this.
        public var stallLimit: Duration = .seconds(10)
        /// Whether a migration may contain no statement.
        public var allowsEmpty = false
        /// The pause before the first retry. It doubles with each retry, up to 30 s, with jitter.
        public var backoff: Duration = .seconds(1)
        public var allowOutOfOrder = false
        /// Roles that may own or create objects in a system's schema, although a superuser's migrations could call
        /// their functions.
        public var trustedRoles: [String] = []
        /// The actor that is recorded in the audit.
        public var actor: String = "reeve"

        public init() {}
    }

    let database: Database
    let systems: [MigrationSystem]
    private(set) var settings: Settings
    let logger: Logger

    /// - Throws: `MigrationError.missingRequirement`, `.requirementCycle`.
    public init(
        database: Database, systems: [MigrationSystem], settings: Settings = Settings(), logger: Logger = .silent
    ) throws {
        self.database = database
        self.systems = try MigrationSystem.ordered(systems)
        self.settings = settings
        self.logger = logger
    }

    /// Returns a migrator that also applies migrations that contain no statement.
    public func allowingEmpty() -> Migrator {
        var copy = self
        copy.settings.allowsEmpty = true
        return copy
    }

    /// The result of a run.
    public struct Outcome: Sendable {
        public struct Done: Sendable, Equatable {
            public let system: String
            public let version: Int?
            public let name: String
            public let milliseconds: Int
        }

        public var done: [Done] = []
        public var notices: [String] = []
        /// The number of migrations that are still pending after the run.
        public var pending = 0
    }

    /// Returns the plan of a run.
    public func plan(_ goal: MigrationGoal = .up(to: nil)) async throws -> MigrationPlan {
        let folders = try read()
        return try await direct { try plan(folders, goal, on: $0) }
    }

    /// Applies the pending migrations, up to a version if `version` is not nil (only with one system).
    public func up(to version: Int? = nil, report: @escaping @Sendable (MigrationEvent) -> Void = { _ in }) async throws
        -> Outcome
    {
        try await run(.up(to: version), report)
    }

    /// Reverts the migrations after a version; nil: all migrations. Then drops the schema if a run of migrations
    /// created that schema. Version 0 also reverts all migrations, unless there is a migration with this version.
    public func down(
        to version: Int?, report: @escaping @Sendable (MigrationEvent) -> Void = { _ in }
    ) async throws -> Outcome {
        try await run(.down(to: version), report)
    }

    func read() throws -> [(MigrationSystem, MigrationFolder)] {
        try systems.map { ($0, try MigrationFolder(reading: $0.folder)) }
    }

    func direct<T: Sendable>(_ body: @Sendable (isolated Connection) throws -> T) async throws -> T {
        try await database.withDirectConnection(named: "reeve migrate look") { try await $0.with(body) }
    }

    /// Runs the migrations until the goal is reached. If the connection is lost after a migration was committed, the
    /// run continues with a new connection, acquires the lock again and reads the ledger again.
    private func run(
        _ goal: MigrationGoal, _ report: @escaping @Sendable (MigrationEvent) -> Void
    ) async throws -> Outcome {
        let folders = try read()
        let past = RunPast()
        while true {
            let before = past.done.count
            do {
                var outcome = try await runOnce(folders, goal, past, report)
                outcome.done = past.done
                return outcome
            } catch  where Self.isLoss(error) {
                guard let last = past.last else { throw error }
                // If this connection made no progress, another connection probably would not either.
                guard past.done.count > before, !Task.isCancelled else {
                    throw MigrationError.lostAfter(done: last, cause: error)
                }
                logger.warning(
                    "the connection was lost; continuing with a new connection", [LogField("after", last)])
            }
        }
    }

    /// Returns whether an error means that the server cannot be reached or, on a new connection, that the session of
    /// the lost connection may still hold the lock.
    private static func isLoss(_ error: any Error) -> Bool {
        if case MigrationError.locked = error { return true }
        guard let error = error as? PostgresError else { return false }
        return [.connectionLost, .cannotConnect, .timedOut, .commitOutcomeUnknown].contains(error.kind)
    }

    private func runOnce(
        _ folders: [(MigrationSystem, MigrationFolder)], _ goal: MigrationGoal, _ past: RunPast,
        _ report: @escaping @Sendable (MigrationEvent) -> Void
    ) async throws -> Outcome {
        try await database.withDirectConnection(named: RunLock.keeper, staysWhenIdle: true) { keeper in
            let first = try await keeper.with { try self.plan(folders, goal, on: $0) }
            let isClean = try await keeper.with { try !goal.revertsAll(folders) || knownSchemas(on: $0).isEmpty }
            if first.isEmpty, first.rewritten.isEmpty, first.forgotten.isEmpty, isClean {
                // If the goal is to apply all migrations and the plan is empty, no migration is pending.
                if goal == .up(to: nil) { return Outcome() }
                return Outcome(pending: try await keeper.with { try pendingCount(folders, on: $0) })
            }
            try await RunLock(settings: settings, logger: logger).acquire(on: keeper) {
                report(.waitsForRun(holder: $0))
            }
            // Another run may have done the work in the meantime.
            let agreed = try await keeper.with { try self.plan(folders, goal, on: $0) }
            return try await carryOut(agreed, folders, goal, past, keeper, report)
        }
    }

    private func carryOut(
        _ plan: MigrationPlan, _ folders: [(MigrationSystem, MigrationFolder)], _ goal: MigrationGoal,
        _ past: RunPast, _ keeper: Connection, _ report: @escaping @Sendable (MigrationEvent) -> Void
    ) async throws -> Outcome {
        if !settings.allowsEmpty, case .up = goal, let empty = plan.empty.first {
            throw MigrationError.empty(
                system: empty.system.name, title: empty.migration.title, path: empty.script.path)
        }
        var outcome = Outcome(notices: plan.notices)
        try await keeper.with { keeper in
            for (system, migration) in plan.rewritten {
                try MigrationLedger.updateText(
                    system: system.name, version: migration.version, name: migration.name,
                    textDigest: migration.up.textDigest, source: migration.up.text, on: keeper)
            }
            for record in plan.forgotten {
                try MigrationLedger.remove(
                    system: record.system, version: nil, name: record.name, actor: settings.actor, on: keeper)
            }
        }
        for system in systems where plan.actions.contains(where: { $0.system == system }) {
            try await keeper.with { _ = try settings.survey(system, on: $0) }
            if case .up = goal { try await keeper.with { try prepareSchema(of: system, on: $0) } }
        }
        if !plan.actions.isEmpty { try await perform(plan.actions, past, keeper, report) }
        if goal.revertsAll(folders) {
            for system in systems.reversed() {
                if let notice = try await keeper.with({ try dropSchema(of: system, on: $0) }) {
                    outcome.notices.append(notice)
                }
            }
        }
        outcome.pending = try await keeper.with { try pendingCount(folders, on: $0) }
        return outcome
    }

    private func perform(
        _ actions: [MigrationAction], _ past: RunPast, _ keeper: Connection,
        _ report: @escaping @Sendable (MigrationEvent) -> Void
    ) async throws {
        let current = CurrentAction()
        let watch = BlockerWatch(database: database)
        let tell: @Sendable (ServerNotice) -> Void = { notice in
            if let action = current.action.withLock({ $0 }) { report(.notice(action, notice)) }
        }
        var left = actions.count
        for together in Self.sessions(actions) {
            left -= together.count
            let isLast = left == 0
            try await database.withDirectConnection(named: RunLock.session, staysWhenIdle: true, onNotice: tell) {
                connection in
                let process = await connection.serverProcess
                try await keeper.with { try MigrationLedger.recordSession(process, on: $0) }
                try await watch.during([connection, keeper]) {
                    for (number, action) in together.enumerated() {
                        current.action.withLock { $0 = action }
                        let run = ActionRun(
                            action: action, isFollowed: !isLast || number + 1 < together.count, settings: settings,
                            watch: watch, logger: logger, report: report)
                        try await perform(run, past, connection, keeper)
                    }
                }
            }
        }
    }

    /// Divides actions into those that share a session, which is reset after each of them.
    private static func sessions(_ actions: [MigrationAction]) -> [[MigrationAction]] {
        var sessions: [[MigrationAction]] = []
        var isOpen = false
        for action in actions {
            if isOpen { sessions[sessions.count - 1].append(action) } else { sessions.append([action]) }
            isOpen = !action.script.requiresNewSession
        }
        return sessions
    }

    private func perform(
        _ run: ActionRun, _ past: RunPast, _ connection: Connection, _ keeper: Connection
    ) async throws {
        run.report(.begins(run.action))
        do {
            let milliseconds = try await run.perform(on: connection, keeper: keeper)
            past.add(run.action, milliseconds: milliseconds)
            run.report(.ended(run.action, milliseconds: milliseconds))
        } catch {
            if !Self.isOutcomeUnknown(error) { await recordFailure(error, of: run.action, on: keeper) }
            throw error
        }
        // Without the keeper's connection, the lock of the run is lost.
        guard await connection.isOpen, await keeper.isOpen else {
            throw PostgresError(.connectionLost, "the connection is closed")
        }
    }

    /// Whether a migration may have been committed although it ended with an error.
    private static func isOutcomeUnknown(_ error: any Error) -> Bool {
        guard case .failed(_, _, let cause, _, _, _) = error as? MigrationError else { return false }
        return (cause as? PostgresError)?.kind == .commitOutcomeUnknown
    }

    /// Records in the ledger that a migration failed. The commit of this record also flushes the earlier commits to
    /// disk.
    private func recordFailure(_ error: any Error, of action: MigrationAction, on connection: Connection) async {
        let subject = "\(action.system.name)/\(action.migration.title)"
        let detail = try? JSONText(encoding: [
            "direction": action.direction.rawValue,
            "error": error is CancellationError ? "interrupted" : LedgerText.message("\(error)"),
        ])
        do {
            // The failure is recorded in a separate task, because the current task may be cancelled.
            try await Task { [settings] in
                try await connection.with(within: .seconds(5)) { connection in
                    try connection.transaction {
                        try Events.record(
                            "migration.failed", subject: subject, detail: detail ?? JSONText("{}"), on: connection)
                        try Audit.append(
                            actor: settings.actor, action: "migration.failed", subject: subject,
                            detail: detail ?? JSONText("{}"),
                            on: connection)
                    }
                }
            }.value
        } catch {
            logger.warning(
                "the failure of a migration could not be recorded",
                [LogField("migration", subject), LogField("error", error)])
        }
    }

    // MARK: Planning against the ledger

    func records(on connection: isolated Connection) throws -> [MigrationRecord] {
        try LedgerSchema.isInstalled(on: connection) ? MigrationLedger.records(on: connection) : []
    }

    private func plan(
        _ folders: [(MigrationSystem, MigrationFolder)], _ goal: MigrationGoal, on connection: isolated Connection
    ) throws -> MigrationPlan {
        let records = try records(on: connection)
        if case .down = goal { try checkDependants(records) }
        do {
            return try MigrationPlanner(allowOutOfOrder: settings.allowOutOfOrder)
                .plan(folders, records: records, goal: goal)
        } catch let error as MigrationError {
            throw try explained(error, folders, on: connection)
        }
    }

    /// If an error says that a migration was changed, adds the first token that differs between the applied text and
    /// the file. Returns other errors unchanged.
    func explained(
        _ error: MigrationError, _ folders: [(MigrationSystem, MigrationFolder)], on connection: isolated Connection
    ) throws -> MigrationError {
        guard case .changed(let system, let title, _, _, _, _, _) = error,
            let migration = folders.first(where: { $0.0.name == system })?.1.versioned.first(where: {
                $0.title == title
            }),
            let source = try MigrationLedger.source(
                system: system, version: migration.version, name: migration.name, on: connection)
        else { return error }
        return error.explained(applied: source, file: migration)
    }

    private func checkDependants(_ records: [MigrationRecord]) throws {
        let names = Set(systems.map(\.name))
        let others = Set(records.map(\.system)).subtracting(names)
        // Requirements are declared in the configuration, not in the ledger. The caller sets the configured systems
        // outside this run in `knownSystems`.
        for system in systems {
            let dependants = knownSystems.filter { others.contains($0.name) && $0.requires.contains(system.name) }
            if !dependants.isEmpty {
                throw MigrationError.requiredByOthers(system: system.name, others: dependants.map(\.name))
            }
        }
    }

    /// Configured systems, including systems outside this run. `down` refuses to revert a system of this run that an
    /// applied system outside this run requires.
    public var knownSystems: [MigrationSystem] = []

    private func pendingCount(
        _ folders: [(MigrationSystem, MigrationFolder)], on connection: isolated Connection
    ) throws -> Int {
        let records = try records(on: connection)
        return folders.reduce(0) { count, pair in
            let state = SystemState(
                system: pair.0, folder: pair.1, records: records.filter { $0.system == pair.0.name })
            return count + state.pendingVersioned.count + state.pendingRepeatable.count
        }
    }

    // MARK: Schemas

    private func prepareSchema(of system: MigrationSystem, on connection: isolated Connection) throws {
        try connection.transaction {
            let there = try !connection.query("SELECT 1 FROM pg_namespace WHERE nspname = $1", [system.schema]).isEmpty
            try register(system, madeSchema: !there, on: connection)
            if !there { try connection.execute("CREATE SCHEMA \(quoteIdentifier(system.schema))") }
        }
    }

    /// Records the schema of a system.
    ///
    /// - Throws: `MigrationError.otherSchema` if another schema is recorded.
    func register(_ system: MigrationSystem, madeSchema: Bool, on connection: isolated Connection) throws {
        let recorded = try MigrationLedger.register(
            system: system.name, schema: system.schema, madeSchema: madeSchema, on: connection)
        if let recorded, recorded != system.schema {
            throw MigrationError.otherSchema(system: system.name, recorded: recorded, configured: system.schema)
        }
    }

    /// Returns the systems of this run whose schema is in the ledger. After the last migration is reverted, the schema
    /// remains in the ledger until it is dropped.
    private func knownSchemas(on connection: isolated Connection) throws -> [MigrationSystem] {
        guard try LedgerSchema.isInstalled(on: connection) else { return [] }
        return try systems.filter { try MigrationLedger.schema(of: $0.name, on: connection) != nil }
    }

    /// Drops the schema of a system whose migrations are all reverted, if a run created the schema.
    ///
    /// - Returns: a notice if the schema is kept, because another system uses it or because it contains other objects.
    private func dropSchema(of system: MigrationSystem, on connection: isolated Connection) throws -> String? {
        guard let schema = try MigrationLedger.schema(of: system.name, on: connection) else { return nil }
        var notice: String?
        try connection.transaction {
            let heirs = try MigrationLedger.systems(inSchema: schema.name, on: connection).filter { $0 != system.name }
            if schema.wasMade, !heirs.isEmpty {
                // The last of the systems that share the schema drops it.
                try MigrationLedger.markMade(system: heirs[0], on: connection)
                notice =
                    "the schema '\(schema.name)' is kept, because \(heirs.map { "'\($0)'" }.joined(separator: ", ")) "
                    + "is migrated in it, too"
            } else if schema.wasMade {
                do {
                    try connection.savepoint {
                        _ = try connection.execute("DROP SCHEMA IF EXISTS \(quoteIdentifier(schema.name))")
                    }
                } catch let error as PostgresError where error.sqlState == "2BP01" {
                    notice =
                        "the schema '\(schema.name)' is kept, because it contains objects that no migration "
                        + "created:\n\(error.detail ?? error.message)"
                }
            }
            try MigrationLedger.forget(system: system.name, on: connection)
        }
        return notice
    }
}

/// The migration that a run works on.
private final class CurrentAction: Sendable {
    let action = Mutex<MigrationAction?>(nil)
}

/// The migrations that a run has done so far, on all its connections.
private final class RunPast: Sendable {
    private let state = Mutex<(done: [Migrator.Outcome.Done], last: String?)>(([], nil))

    var done: [Migrator.Outcome.Done] { state.withLock { $0.done } }
    /// A description of the last migration.
    var last: String? { state.withLock { $0.last } }

    func add(_ action: MigrationAction, milliseconds: Int) {
        let one = Migrator.Outcome.Done(
            system: action.system.name, version: action.migration.version, name: action.migration.name,
            milliseconds: milliseconds)
        let word = action.direction == .up ? "applied" : "reverted"
        state.withLock {
            $0.done.append(one)
            $0.last = "\(action.system.name)/\(action.migration.title) was \(word)"
        }
    }
}

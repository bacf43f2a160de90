import Foundation
import Ledger
import Migrations
import Postgres
import Scheduling
import Synchronization
import Telemetry

/// What `reeve serve` does for one database: waits until it is there, makes the ledger, migrates where that is
/// wanted, runs the schedule and looks after its health.
final class DatabaseService: Sendable {
    private let open: OpenDatabase
    private let configuration: Configuration
    private let metrics: ServiceMetrics
    private let readiness: Readiness
    private let logger: Logger
    private let scheduler: Scheduler
    /// The embedded cluster when it had to be started again.
    private let restarted = Mutex<EmbeddedCluster?>(nil)

    init(
        _ open: OpenDatabase, configuration: Configuration, metrics: ServiceMetrics, readiness: Readiness,
        logger: Logger
    ) throws {
        self.open = open
        self.configuration = configuration
        self.metrics = metrics
        self.readiness = readiness
        self.logger = logger.with("database", open.name)
        let tasks = try TaskDefaults.definitions(configuration, for: open)
        scheduler = Scheduler(
            tasks: tasks, database: open.database, settings: Scheduler.Settings(instance: ServiceInstance.name),
            logger: self.logger
        ) { task, outcome in
            metrics.observe(outcome, of: task, database: open.name)
        }
        metrics.setUp(false, database: open.name)
        readiness.set("database/\(open.name)", false, "not reached yet")
        readiness.set("schema/\(open.name)", false, "not looked at yet")
    }

    /// Runs until cancelled.
    ///
    /// - Throws: `LedgerError.newer`, for which only a newer program is a remedy.
    func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.watchHealth() }
            group.addTask {
                try await self.makeLedger()
                // Beside each other: a migration that fails, and is tried again, holds up no other task.
                async let migrated: Void = self.migrateAtStart()
                await self.scheduler.run()
                await migrated
            }
            try await group.waitForAll()
        }
    }

    func stopRunning() { scheduler.stopRunning() }

    func close() async { await open.database.pool.close() }

    private func makeLedger() async throws {
        while !Task.isCancelled {
            do {
                try await open.database.pool.with { try LedgerSchema.install(on: $0) }
                return
            } catch let error as PostgresError {
                logger.warning("the ledger cannot be reached yet", [LogField("error", error.message)])
                try await Task.sleep(for: .seconds(2))
            }
        }
    }

    /// What is pending is not left to wait for the schedule.
    private func migrateAtStart() async {
        if scheduler.tasks.contains(where: { $0.name == "migrate" && $0.isEnabled }) {
            do {
                _ = try await scheduler.runNow("migrate")
            } catch let error as SchedulingError {
                logger.info("another process migrates", [LogField("reason", error.description)])
            } catch {
                logger.warning("migrations wait for their schedule", [LogField("error", error)])
            }
        }
        await look()
    }

    // MARK: Health

    private func watchHealth() async throws {
        var misses = 0
        var round = 0
        while !Task.isCancelled {
            let isUp = await ping()
            misses = isUp ? 0 : misses + 1
            if isUp, round.isMultiple(of: 3) || !readiness.isGood("schema/\(open.name)") { await look() }
            if misses >= 2, open.isEmbedded { await restart() }
            round = isUp ? round + 1 : 0
            guard (try? await Task.sleep(for: .seconds(isUp ? 5 : 1))) != nil else { return }
        }
    }

    private func ping() async -> Bool {
        do {
            try await open.database.pool.with(within: .seconds(5)) { _ = try $0.query("SELECT 1") }
            metrics.setUp(true, database: open.name)
            readiness.set("database/\(open.name)", true, "answers")
            return true
        } catch {
            if Task.isCancelled { return true }
            metrics.setUp(false, database: open.name)
            let message = (error as? PostgresError)?.message ?? "\(error)"
            readiness.set("database/\(open.name)", false, message)
            logger.warning("the database does not answer", [LogField("error", message)])
            return false
        }
    }

    private func look() async {
        do {
            try await metrics.read(open, tasks: scheduler.tasks)
            let status = try await Migrator(database: open.database, systems: open.systems).status()
            metrics.set(status, database: open.name)
            let pending = status.reduce(0) { $0 + $1.pending.count }
            let migrates = scheduler.tasks.contains { $0.name == "migrate" && $0.isEnabled }
            // Where others migrate, what is pending is for them to see to.
            readiness.set(
                "schema/\(open.name)", pending == 0 || !migrates,
                pending == 0 ? "up to date" : "\(pending) migrations pending")
        } catch {
            if Task.isCancelled { return }
            readiness.set("schema/\(open.name)", false, (error as? PostgresError)?.message ?? "\(error)")
            logger.debug("the state of the database could not be read", [LogField("error", error)])
        }
    }

    private func restart() async {
        do {
            let cluster = try await EmbeddedCluster.acquire(
                EmbeddedCluster.Options(stateFolder: configuration.stateFolder), logger: logger)
            restarted.withLock { $0 = cluster }
        } catch {
            logger.error("the embedded PostgreSQL could not be started again", [LogField("error", error)])
        }
    }
}

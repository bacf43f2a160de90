import Foundation
import Kernel
import Migrations
import Reporting
import Telemetry

extension Feature {
    /// Migrations: their commands, task, metrics and readiness probe.
    public static let migrations = Feature(
        "migrations", commands: MigrateCommands.all, settings: MigratorSettings.keys, tasks: [MigrateTask.spec],
        collectors: [MigrationMetrics.collector], probes: [PendingProbe.probe], errors: [MigrationError.self])
}

/// The settings of a migrator.
enum MigratorSettings {
    private static let lockTimeout = Setting(
        "migrate.lock_timeout", .serverDuration, default: "500ms",
        "How long a statement of a migration may wait for a lock. While it waits, other sessions may have to wait too.")
    private static let retries = Setting(
        "migrate.retries", .integer(0...1000), default: "10",
        "How many times a migration that did not get its locks is retried.")
    private static let stallLimit = Setting(
        "migrate.stall_limit", .duration(), default: "10s",
        "How long other sessions may have to wait because of all attempts to apply one migration. No attempt begins "
            + "that could exceed this.")

    static let keys = [lockTimeout.key, retries.key, stallLimit.key]

    static func make(_ configuration: Configuration) -> Migrator.Settings {
        var settings = Migrator.Settings()
        settings.lockWait = configuration[CoreSettings.migrationLockWait]
        settings.lockTimeout = configuration[lockTimeout]
        settings.retries = configuration[retries]
        settings.stallLimit = configuration[stallLimit]
        settings.trustedRoles = configuration[CoreSettings.trustedRoles]
        return settings
    }
}

/// The task that applies pending migrations.
enum MigrateTask {
    static let spec = TaskSpec(
        "migrate", "apply pending migrations", schedule: "@hourly", timeout: .seconds(4 * 3600), retries: 3,
        runsAtStart: true, isOn: { _, isEmbedded in isEmbedded }, work: run)

    private static func run(_ call: TaskCall) async throws -> String {
        var settings = MigratorSettings.make(call.configuration)
        settings.actor = ServiceInstance.name
        let migrator = try Migrator(
            database: call.open.database, systems: try call.open.requireSystems().map(\.migrations),
            settings: settings, logger: call.logger)
        let outcome = try await migrator.up { [logger = call.logger] event in
            let fields = event.action.map { [LogField("migration", $0.title)] } ?? []
            switch event {
            case .begins: logger.info("applying a migration", fields)
            case .ended: logger.debug("a migration was applied", fields)
            case .notice(_, let notice) where notice.severity != "WARNING": logger.info(notice.message, fields)
            case .notice(_, let notice): logger.warning(notice.message, fields)
            case .waits, .waitsForRun: logger.info(event.message, fields)
            case .retries, .repeats: logger.warning(event.message, fields)
            }
        }
        for notice in outcome.notices { call.logger.notice(notice) }
        return "applied \(outcome.done.count), pending \(outcome.pending)"
    }
}

/// The metrics of applied and pending migrations.
enum MigrationMetrics {
    private static let applied = MetricDescription(
        "reeve_migrations_applied", .gauge, "Migrations that are applied.", labels: ["database", "system"])
    private static let pending = MetricDescription(
        "reeve_migrations_pending", .gauge, "Migrations that are not applied.", labels: ["database", "system"])

    static let collector = Collector("migrations", families: [applied, pending]) { open, sample in
        let migrator = try Migrator(database: open.database, systems: open.systems.map(\.migrations))
        for one in try await migrator.status() {
            sample.set(applied, Double(one.applied.count), open.name, one.system.name)
            sample.set(pending, Double(one.pending.count), open.name, one.system.name)
        }
    }
}

/// Reports the database as not ready while migrations are pending, if this service applies them. If another program
/// applies them, pending migrations do not matter here.
enum PendingProbe {
    static let probe = ReadinessProbe("schema") { open, configuration in
        let status = try await Migrator(database: open.database, systems: open.systems.map(\.migrations)).status()
        let pending = status.reduce(0) { $0 + $1.pending.count }
        let plan = try TaskPlan(MigrateTask.spec, configuration, isEmbedded: open.isEmbedded)
        return ReadinessProbe.Answer(
            isReady: pending == 0 || !plan.isEnabled,
            message: pending == 0 ? "up to date" : "\(counted(pending, "migration")) pending")
    }
}

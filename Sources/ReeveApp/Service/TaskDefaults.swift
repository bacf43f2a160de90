import Foundation
import Migrations
import Postgres
import Scheduling
import Telemetry

/// The tasks that there are, with their schedules from the configuration.
enum TaskDefaults {
    private struct Default: Sendable {
        let name: String
        let summary: String
        let schedule: String
        /// nil: only on the embedded PostgreSQL, unless the configuration says.
        let isEnabled: Bool?
        let timeout: Duration
        let retries: Int
        let work: @Sendable (OpenDatabase, Configuration, TaskContext) async throws -> String
    }

    private static let all = [
        Default(
            name: "migrate", summary: "apply pending migrations", schedule: "@hourly", isEnabled: nil,
            timeout: .seconds(4 * 3600), retries: 3, work: MigrateTask.run),
        Default(
            name: "analyze", summary: "ANALYZE tables whose statistics are stale", schedule: "*/10 * * * *",
            isEnabled: true, timeout: .seconds(3600), retries: 1, work: AnalyzeTask.run),
        Default(
            name: "backup", summary: "back the database up", schedule: "20 2 * * *", isEnabled: false,
            timeout: .seconds(12 * 3600), retries: 2, work: BackupTask.run),
        Default(
            name: "prune", summary: "remove the backups that the policy does not keep", schedule: "40 4 * * *",
            isEnabled: false, timeout: .seconds(3600), retries: 1, work: PruneTask.run),
        Default(
            name: "verify", summary: "look whether all parts of the backups are there, and read some",
            schedule: "20 6 * * *", isEnabled: false, timeout: .seconds(4 * 3600), retries: 1, work: VerifyTask.run),
        Default(
            name: "restore-test", summary: "prove that the newest backup restores", schedule: "20 5 * * sun",
            isEnabled: false, timeout: .seconds(12 * 3600), retries: 0, work: RestoreTestTask.run),
        Default(
            name: "anchor", summary: "write down outside the database how far its audit chain goes",
            schedule: "*/10 * * * *", isEnabled: true, timeout: .seconds(300), retries: 1, work: AnchorTask.run),
        Default(
            name: "tidy", summary: "remove runs, events and cleared findings that are older than ledger.keep",
            schedule: "50 3 * * *", isEnabled: true, timeout: .seconds(3600), retries: 2, work: TidyTask.run),
        // Not at the full hour, when migrations are applied.
        Default(
            name: "validate", summary: "compare the schema with what the migrations say", schedule: "10 * * * *",
            isEnabled: true, timeout: .seconds(600), retries: 2, work: ValidateTask.run),
    ]

    static var names: [String] { all.map(\.name) }

    /// - Parameter open: the database that they work on; nil where only the schedules are asked for.
    /// - Throws: `ConfigurationError` for a task that there is not.
    static func definitions(
        _ configuration: Configuration, for open: OpenDatabase? = nil
    ) throws -> [TaskDefinition] {
        let store = configuration.store
        if let unknown = store.names(below: "tasks").first(where: { !names.contains($0) }) {
            let origin = store.settings.first { $0.key.hasPrefix("tasks.\(unknown).") }?.value.origin ?? .fallback
            let hint = closest(to: unknown, among: names).map { "did you mean '\($0)'" }
            throw ConfigurationError("\(origin)", nil, "there is no task '\(unknown)'", hint: hint)
        }
        let isEmbedded: Bool
        if let open {
            isEmbedded = open.isEmbedded
        } else if case .embedded? = configuration.databases.first?.source {
            isEmbedded = true
        } else {
            isEmbedded = false
        }
        return try all.map { one in
            let prefix = "tasks.\(one.name)"
            return TaskDefinition(
                name: one.name, summary: one.summary, schedule: try schedule(of: one, store),
                isEnabled: store.boolean("\(prefix).enabled") ?? isBackedUp(one, store) ?? one.isEnabled ?? isEmbedded,
                jitter: store.duration("\(prefix).jitter") ?? .zero,
                timeout: store.duration("\(prefix).timeout") ?? one.timeout,
                retries: store.integer("\(prefix).retries") ?? one.retries,
                backoff: store.duration("\(prefix).backoff") ?? .seconds(30)
            ) { context in
                guard let open else { throw UsageError("no database is open") }
                return try await one.work(open, configuration, context)
            }
        }
    }

    /// Where there is a repository, backups are made and tested.
    private static func isBackedUp(_ one: Default, _ store: SettingStore) -> Bool? {
        guard store.text("backup.repository") != nil else { return nil }
        switch one.name {
        case "backup", "prune", "verify": return true
        case "restore-test": return store.text("backup.encryption") == "none" || store.text("backup.identity") != nil
        default: return nil
        }
    }

    private static func schedule(of one: Default, _ store: SettingStore) throws -> Schedule {
        let prefix = "tasks.\(one.name)"
        if let every = store.duration("\(prefix).every") {
            guard store.settings["\(prefix).schedule"] == nil else {
                throw ConfigurationError(
                    "\(store.origin("\(prefix).every"))", nil, "'\(prefix)' has both a schedule and an interval")
            }
            guard every.components.seconds > 0 else {
                throw ConfigurationError(
                    "\(store.origin("\(prefix).every"))", nil, "'\(prefix).every' is less than a second")
            }
            return .every(seconds: Int(every.components.seconds))
        }
        let expression = try CronExpression(store.text("\(prefix).schedule") ?? one.schedule)
        return .cron(expression, TimeZone(identifier: store.text("\(prefix).zone") ?? "UTC") ?? .gmt)
    }
}

/// The task that applies pending migrations.
enum MigrateTask {
    static func run(_ open: OpenDatabase, _ configuration: Configuration, _ context: TaskContext) async throws -> String
    {
        var settings = MigratorSettings.make(configuration)
        settings.actor = ServiceInstance.name
        let migrator = try Migrator(
            database: open.database, systems: try open.requireSystems(), settings: settings, logger: context.logger)
        let outcome = try await migrator.up { action in
            context.logger.info(
                "applying a migration", [LogField("migration", "\(action.system.name)/\(action.migration.title)")])
        }
        for notice in outcome.notices { context.logger.notice(notice) }
        return "applied \(outcome.done.count), pending \(outcome.pending)"
    }
}

/// Names this process in the ledger: host, process and when it began.
enum ServiceInstance {
    static let name = "\(ProcessInfo.processInfo.hostName):\(getpid())"
}

import Foundation
import Scheduling
import Telemetry

/// A task of a feature: its work and its defaults, which the configuration can override.
public struct TaskSpec: Sendable {
    public let name: String
    /// A description in one line.
    public let summary: String
    /// The default schedule, as a cron expression.
    public let schedule: String
    /// The default time limit of one attempt.
    public let timeout: Duration
    /// How many times a failed run is retried by default.
    public let retries: Int
    /// Whether `reeve serve` also runs the task when it starts.
    public let runsAtStart: Bool
    /// The settings that override the defaults.
    let settings: TaskSettings
    /// The databases that the task runs for; empty: all.
    let databases: [String]
    /// Whether the schedule runs the task if `tasks.NAME.enabled` is not set.
    public let isOn: @Sendable (Configuration, _ isEmbedded: Bool) -> Bool
    /// Does the work, and returns a one-line description of what it did. The work must be safe to run again after an
    /// interruption.
    public let work: @Sendable (TaskCall) async throws -> String

    public init(
        _ name: String, _ summary: String, schedule: String, timeout: Duration, retries: Int,
        runsAtStart: Bool = false, settings: TaskSettings = .standard, databases: [String] = [],
        isOn: @escaping @Sendable (Configuration, _ isEmbedded: Bool) -> Bool = { _, _ in true },
        work: @escaping @Sendable (TaskCall) async throws -> String
    ) {
        self.name = name
        self.summary = summary
        self.schedule = schedule
        self.timeout = timeout
        self.retries = retries
        self.runsAtStart = runsAtStart
        self.settings = settings
        self.databases = databases
        self.isOn = isOn
        self.work = work
    }
}

/// The input of a task's work.
public struct TaskCall: Sendable {
    public let open: OpenDatabase
    public let configuration: Configuration
    public let logger: Logger
}

/// The schedule and state of a task, from its defaults and the configuration.
public struct TaskPlan: Sendable {
    public let spec: TaskSpec
    public let schedule: Schedule
    public let isEnabled: Bool

    /// - Throws: `ConfigurationError`.
    public init(_ spec: TaskSpec, _ configuration: Configuration, isEmbedded: Bool) throws {
        self.spec = spec
        schedule = try Self.schedule(spec, configuration)
        isEnabled = configuration[spec.settings.enabled, spec.name] ?? spec.isOn(configuration, isEmbedded)
    }

    private static func schedule(_ spec: TaskSpec, _ configuration: Configuration) throws -> Schedule {
        let settings = spec.settings
        if let every = configuration[settings.every, spec.name] {
            let origin = configuration.origin(settings.every, spec.name)
            let path = configuration.store.path(settings.every, spec.name)
            guard !configuration.isSet(settings.schedule, spec.name) else {
                throw ConfigurationError(
                    "\(origin)", nil, "'\(path.dropLast(".every".count))' has both a schedule and an interval")
            }
            guard every.components.seconds > 0 else {
                throw ConfigurationError("\(origin)", nil, "'\(path)' is less than a second")
            }
            return .every(seconds: Int(every.components.seconds))
        }
        let expression = try configuration[settings.schedule, spec.name] ?? CronExpression(spec.schedule)
        return .cron(expression, configuration[settings.zone, spec.name])
    }

    /// Returns the schedule in one database, with the values that `H` has there.
    public func schedule(in database: String) -> Schedule {
        guard case .cron(let expression, let zone) = schedule else { return schedule }
        return .cron(expression.spread(over: "\(database) \(spec.name)"), zone)
    }

    /// Returns the task for the scheduler of one database.
    public func definition(for open: OpenDatabase, _ configuration: Configuration) -> TaskDefinition {
        let (spec, settings) = (spec, spec.settings)
        return TaskDefinition(
            name: spec.name, summary: spec.summary, schedule: schedule(in: open.name), isEnabled: isEnabled,
            jitter: configuration[settings.jitter, spec.name] ?? .zero,
            timeout: configuration[settings.timeout, spec.name] ?? spec.timeout,
            retries: configuration[settings.retries, spec.name] ?? spec.retries,
            backoff: configuration[settings.backoff, spec.name] ?? .seconds(30)
        ) { context in
            try await spec.work(TaskCall(open: open, configuration: configuration, logger: context.logger))
        }
    }
}

/// The settings that every task has.
public struct TaskSettings: Sendable {
    /// Those of the features' tasks.
    public static let standard = TaskSettings("tasks.*", schedule: "schedule")
    /// Those of the tasks that the configuration defines.
    public static let custom = TaskSettings("tasks.custom.*", schedule: "cron")

    public let enabled: Setting<Bool?>
    let schedule: Setting<CronExpression?>
    let every: Setting<Duration?>
    let zone: Setting<TimeZone>
    let jitter: Setting<Duration?>
    let timeout: Setting<Duration?>
    let retries: Setting<Int?>
    let backoff: Setting<Duration?>

    /// - Parameters:
    ///   - prefix: the beginning of the settings' paths.
    ///   - word: the last word of the path of the schedule.
    private init(_ prefix: String, schedule word: String) {
        let isStandard = prefix == "tasks.*"
        func describe(_ text: String, _ key: String) -> String { isStandard ? text : "As tasks.NAME.\(key)." }
        enabled = Setting(
            "\(prefix).enabled", .boolean,
            isStandard
                ? "Whether the task runs on its schedule. By default, the task 'migrate' is enabled only on the "
                    + "embedded PostgreSQL." : "Whether the task runs on its schedule. By default, it does.")
        schedule = Setting(
            "\(prefix).\(word)", .schedule,
            describe(
                "When the task runs: a cron expression of five fields (also with L, W, # and H), or @hourly, @daily, @weekly, "
                    + "@monthly, @yearly.",
                "schedule"))
        every = Setting(
            "\(prefix).every", .duration(),
            describe("An interval, used instead of a schedule and counted from 1970-01-01T00:00:00Z.", "every"))
        zone = Setting(
            "\(prefix).zone", .zone, default: "UTC", describe("The IANA time zone of the schedule.", "zone"))
        jitter = Setting(
            "\(prefix).jitter", .duration(),
            describe(
                "Each run starts later by a random time of up to this length, so that not all runs start at the same "
                    + "time.", "jitter"))
        timeout = Setting(
            "\(prefix).timeout", .limit,
            isStandard
                ? "How long one attempt may take; more than 0s."
                : "How long one attempt may take; 1h by default. Then the statement is cancelled, or the command and "
                    + "its children receive SIGTERM, and five seconds later SIGKILL.")
        retries = Setting(
            "\(prefix).retries", .integer(0...100),
            "How many times a failed run is retried." + (isStandard ? "" : " By default, it is not retried."))
        backoff = Setting(
            "\(prefix).backoff", .duration(),
            describe("The pause before the first retry. It doubles with each retry.", "backoff"))
    }

    var all: [SettingKey] {
        [
            enabled.key, schedule.key, every.key, zone.key, jitter.key, timeout.key, retries.key, backoff.key,
        ]
    }

    public static let keys = standard.all + custom.all
}

/// Thrown by a task that has found a problem of the kind that it checks for. The run fails with this description.
public struct TaskFinding: Error, CustomStringConvertible {
    public let description: String

    public init(_ description: String) { self.description = description }
}

/// The name of this process in the ledger: the host name and the process ID.
public enum ServiceInstance {
    public static let name = "\(ProcessInfo.processInfo.hostName):\(getpid())"
}

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
    /// Whether the schedule runs the task if `tasks.NAME.enabled` is not set.
    public let isOn: @Sendable (Configuration, _ isEmbedded: Bool) -> Bool
    /// Does the work, and returns a one-line description of what it did. The work must be safe to run again after an
    /// interruption.
    public let work: @Sendable (TaskCall) async throws -> String

    public init(
        _ name: String, _ summary: String, schedule: String, timeout: Duration, retries: Int,
        runsAtStart: Bool = false,
        isOn: @escaping @Sendable (Configuration, _ isEmbedded: Bool) -> Bool = { _, _ in true },
        work: @escaping @Sendable (TaskCall) async throws -> String
    ) {
        self.name = name
        self.summary = summary
        self.schedule = schedule
        self.timeout = timeout
        self.retries = retries
        self.runsAtStart = runsAtStart
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
        isEnabled = configuration[TaskSettings.enabled, spec.name] ?? spec.isOn(configuration, isEmbedded)
    }

    private static func schedule(_ spec: TaskSpec, _ configuration: Configuration) throws -> Schedule {
        let prefix = "tasks.\(spec.name)"
        if let every = configuration[TaskSettings.every, spec.name] {
            let origin = configuration.origin(TaskSettings.every, spec.name)
            guard !configuration.isSet(TaskSettings.schedule, spec.name) else {
                throw ConfigurationError("\(origin)", nil, "'\(prefix)' has both a schedule and an interval")
            }
            guard every.components.seconds > 0 else {
                throw ConfigurationError("\(origin)", nil, "'\(prefix).every' is less than a second")
            }
            return .every(seconds: Int(every.components.seconds))
        }
        let expression = try configuration[TaskSettings.schedule, spec.name] ?? CronExpression(spec.schedule)
        return .cron(expression, configuration[TaskSettings.zone, spec.name])
    }

    /// Returns the task for the scheduler of one database.
    public func definition(for open: OpenDatabase, _ configuration: Configuration) -> TaskDefinition {
        let spec = spec
        return TaskDefinition(
            name: spec.name, summary: spec.summary, schedule: schedule, isEnabled: isEnabled,
            jitter: configuration[TaskSettings.jitter, spec.name] ?? .zero,
            timeout: configuration[TaskSettings.timeout, spec.name] ?? spec.timeout,
            retries: configuration[TaskSettings.retries, spec.name] ?? spec.retries,
            backoff: configuration[TaskSettings.backoff, spec.name] ?? .seconds(30)
        ) { context in
            try await spec.work(TaskCall(open: open, configuration: configuration, logger: context.logger))
        }
    }
}

/// The settings that every task has.
public enum TaskSettings {
    static let enabled = Setting<Bool?>(
        "tasks.*.enabled", .boolean,
        "Whether the task runs on its schedule. By default, the task 'migrate' is enabled only on the embedded "
            + "PostgreSQL.")
    static let schedule = Setting<CronExpression?>(
        "tasks.*.schedule", .schedule,
        "When the task runs: a cron expression of five fields, or @hourly, @daily, @weekly, @monthly, @yearly.")
    static let every = Setting<Duration?>(
        "tasks.*.every", .duration(), "An interval, used instead of a schedule and counted from 1970-01-01T00:00:00Z.")
    static let zone = Setting("tasks.*.zone", .zone, default: "UTC", "The IANA time zone of the schedule.")
    static let jitter = Setting<Duration?>(
        "tasks.*.jitter", .duration(),
        "Each run starts later by a random time of up to this length, so that not all runs start at the same time.")
    static let timeout = Setting<Duration?>(
        "tasks.*.timeout", .limit, "How long one attempt may take; more than 0s.")
    static let retries = Setting<Int?>("tasks.*.retries", .integer(0...100), "How many times a failed run is retried.")
    static let backoff = Setting<Duration?>(
        "tasks.*.backoff", .duration(), "The pause before the first retry. It doubles with each retry.")

    public static let keys = [
        enabled.key, schedule.key, every.key, zone.key, jitter.key, timeout.key, retries.key, backoff.key,
    ]
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

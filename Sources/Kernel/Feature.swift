import Ledger
import Postgres
import Processes
import Reporting
import SQL
import Telemetry

/// A feature of the program. It consists of its own folder, and of this value in the list of features.
///
/// Help, the configuration and its reference, the schedule, metrics and `reeve doctor` are generated from the list of
/// features. No other code depends on what a feature contributes.
public struct Feature: Sendable {
    public let name: String
    public var commands: [CommandSpec]
    public var settings: [SettingKey]
    /// Keys that the feature adds to `system.yaml`.
    public var sections: [SystemKey]
    public var tasks: [TaskSpec]
    /// Returns tasks that the configuration defines. Throws `ConfigurationError`.
    public var configuredTasks: @Sendable (Configuration) throws -> [TaskSpec]
    public var collectors: [Collector]
    /// The metrics of the feature that do not come from its collectors. The program sets them itself while it runs.
    public var metrics: [MetricDescription]
    public var checks: [Check]
    public var probes: [ReadinessProbe]
    /// The tables of the feature in the ledger.
    public var ledger: [LedgerPart]
    /// Finds mistakes in the configuration that no single value shows. Connects to nothing.
    public var mistakes: @Sendable (Configuration) -> [ConfigurationError]
    /// The feature's error types that have their own report.
    public var errors: [any ReportedError.Type]

    public init(
        _ name: String, commands: [CommandSpec] = [], settings: [SettingKey] = [], sections: [SystemKey] = [],
        tasks: [TaskSpec] = [], collectors: [Collector] = [], metrics: [MetricDescription] = [],
        checks: [Check] = [], probes: [ReadinessProbe] = [], ledger: [LedgerPart] = [],
        errors: [any ReportedError.Type] = [],
        configuredTasks: @escaping @Sendable (Configuration) throws -> [TaskSpec] = { _ in [] },
        mistakes: @escaping @Sendable (Configuration) -> [ConfigurationError] = { _ in [] }
    ) {
        self.name = name
        self.commands = commands
        self.settings = settings
        self.sections = sections
        self.tasks = tasks
        self.configuredTasks = configuredTasks
        self.collectors = collectors
        self.metrics = metrics
        self.checks = checks
        self.probes = probes
        self.ledger = ledger
        self.errors = errors
        self.mistakes = mistakes
    }
}

/// The features of a program. Help and references list commands and settings in the order of the features.
public struct FeatureList: Sendable {
    public let features: [Feature]

    public init(_ features: [Feature]) { self.features = features }

    public var commands: [CommandSpec] { features.flatMap(\.commands) }
    public var sections: [SystemKey] { features.flatMap(\.sections) }
    public var tasks: [TaskSpec] { features.flatMap(\.tasks) }
    public var collectors: [Collector] { features.flatMap(\.collectors) }
    public var metrics: [MetricDescription] {
        features.flatMap { $0.metrics + $0.collectors.flatMap(\.families) }
    }
    public var checks: [Check] { features.flatMap(\.checks) }
    public var probes: [ReadinessProbe] { features.flatMap(\.probes) }
    public var ledger: [LedgerPart] { features.flatMap(\.ledger) }

    /// The error types of the program and of the features, in the order of the reference.
    public var errors: [any ReportedError.Type] {
        [
            UsageError.self, ConfigurationError.self, ConfirmationNeeded.self, PostgresError.self, SQLScriptError.self,
            EmbeddedClusterError.self, LedgerError.self, PipelineError.self,
        ] + features.flatMap(\.errors)
    }

    public var errorCodes: [ErrorCode] { errors.flatMap { $0.codes } + ErrorReport.commonCodes }

    /// The settings of the program, of the features and of their tasks.
    public var settings: SettingCatalog {
        SettingCatalog(
            CoreSettings.keys + features.flatMap(\.settings) + TaskSettings.keys,
            knownNames: ["tasks": tasks.map(\.name), "schemas": ShippedSystems.names])
    }

    /// Reads the configuration with the settings of these features.
    ///
    /// - Throws: `ConfigurationError`.
    public func configuration(path: String?, environment: [String: String]) throws -> Configuration {
        try Configuration.load(path: path, environment: environment, catalog: settings)
    }

    /// Returns the tasks with their schedules and states according to the configuration.
    ///
    /// - Parameters:
    ///   - database: the database that the tasks run for; nil for the tasks of all databases.
    ///   - isEmbedded: whether the database is on the embedded cluster. By default, some tasks are enabled only on that
    ///     cluster.
    /// - Throws: `ConfigurationError` for a task that does not exist or is not defined completely.
    public func plans(
        _ configuration: Configuration, database: String? = nil, isEmbedded: Bool
    ) throws -> [TaskPlan] {
        let names = tasks.map(\.name)
        var mistakes: [ConfigurationError] = []
        func mistake(_ path: String, _ message: String, hint: String?) {
            mistakes.append(ConfigurationError("\(configuration.store.place(path))", nil, message, hint: hint))
        }
        for unknown in configuration.store.names(below: "tasks") where !names.contains(unknown) && unknown != "custom" {
            mistake(
                "tasks.\(unknown)", "the task '\(unknown)' does not exist",
                hint: didYouMean(unknown, among: names) ?? "define a task of your own below tasks.custom")
        }
        let own = try features.flatMap { feature in
            try mistakes.collect { try feature.configuredTasks(configuration) } ?? []
        }
        for name in configuration.store.names(below: "tasks.custom") where names.contains(name) {
            mistake("tasks.custom.\(name)", "a task has the name '\(name)' already", hint: "use another name")
        }
        let chosen = (tasks + own).filter { task in
            database.map { task.databases.isEmpty || task.databases.contains($0) } ?? true
        }
        let plans = try chosen.compactMap { task in
            try mistakes.collect { try TaskPlan(task, configuration, isEmbedded: isEmbedded) }
        }
        try ConfigurationError.check(mistakes)
        return plans
    }
}

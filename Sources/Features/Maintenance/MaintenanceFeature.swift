import Kernel

extension Feature {
    /// The maintenance of the database itself, and the tasks that the configuration defines.
    public static let maintenance = Feature(
        "maintenance", settings: CustomTask.keys, tasks: [AnalyzeTask.spec], checks: [CustomTask.check],
        configuredTasks: CustomTask.specs,
        mistakes: CustomTask.untrusted)
}

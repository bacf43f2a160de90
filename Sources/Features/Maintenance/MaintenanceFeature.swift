import Kernel

extension Feature {
    /// The maintenance of the database itself, the functions that systems declare for their upkeep, and the tasks that
    /// the configuration defines.
    public static let maintenance = Feature(
        "maintenance", settings: UpkeepTask.keys + CustomTask.keys, sections: [UpkeepSection.section.key],
        tasks: [AnalyzeTask.spec, UpkeepTask.spec], checks: [CustomTask.check, UpkeepTask.check],
        configuredTasks: CustomTask.specs,
        mistakes: { CustomTask.untrusted($0) + UpkeepTask.mistakes($0) })
}

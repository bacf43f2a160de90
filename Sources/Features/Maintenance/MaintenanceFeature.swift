import Kernel

extension Feature {
    /// Care of the database itself.
    public static let maintenance = Feature("maintenance", tasks: [AnalyzeTask.spec])
}

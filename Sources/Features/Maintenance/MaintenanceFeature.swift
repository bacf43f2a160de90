import Kernel

extension Feature {
    /// The maintenance of the database itself.
    public static let maintenance = Feature("maintenance", tasks: [AnalyzeTask.spec])
}

/// The priority of the programs that a task starts. Commands take it from the task that makes them, so that it need not
/// be passed through everything that starts programs.
///
///     try await ChildPriority.$current.withValue(.background(nice: 10)) { … }
public enum ChildPriority: Sendable, Equatable {
    /// That of this process.
    case inherited
    /// Behind everything else: with this nice value (1 to 19), I/O only when nothing else needs the disk, and ended
    /// first when memory runs out.
    case background(nice: Int)

    @TaskLocal public static var current = ChildPriority.inherited
}

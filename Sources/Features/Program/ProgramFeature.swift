import Kernel
import Scheduling

extension Feature {
    /// Commands about the program and what its features bring: checks, tasks, configuration.
    public static let program = Feature(
        "program",
        commands: [DoctorCommand.spec] + TaskCommands.all + SQLCommands.all + DatabaseCommands.all + ConfigCommands.all,
        collectors: [TaskMetrics.collector], errors: [SchedulingError.self])
}

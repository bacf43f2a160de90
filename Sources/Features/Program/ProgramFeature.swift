import Kernel
import Scheduling

extension Feature {
    /// The commands about the program itself and its features: checks, tasks, configuration.
    public static let program = Feature(
        "program",
        commands: [DoctorCommand.spec] + TaskCommands.all + SQLCommands.all + DatabaseCommands.all + ConfigCommands.all,
        collectors: [TaskMetrics.collector], errors: [SchedulingError.self])
}

import Kernel
import Ledger
import Telemetry

/// The metrics of task runs, read from the ledger, so that a restart of the service does not reset them.
enum TaskMetrics {
    private static let labels = ["database", "task"]
    private static let runs = MetricDescription(
        "reeve_task_runs_total", .counter, "Runs that have ended, by state, as counted in the ledger.",
        labels: labels + ["state"])
    private static let lastStart = MetricDescription(
        "reeve_task_last_start_timestamp_seconds", .gauge, "When the task was last started.", labels: labels)
    private static let lastSuccess = MetricDescription(
        "reeve_task_last_success_timestamp_seconds", .gauge, "When the task last succeeded.", labels: labels)

    static let collector = Collector("tasks", families: [runs, lastStart, lastSuccess]) { open, sample in
        let summaries = try await open.database.pool.with(within: .seconds(10)) { try RunLedger.summaries(on: $0) }
        for summary in summaries {
            sample.set(lastStart, summary.lastStarted.secondsSince1970, open.name, summary.task)
            if let time = summary.lastSucceeded {
                sample.set(lastSuccess, time.secondsSince1970, open.name, summary.task)
            }
            for (state, count) in summary.counts where count > 0 {
                sample.set(runs, Double(count), open.name, summary.task, state.rawValue)
            }
        }
    }
}

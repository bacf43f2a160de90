import Foundation
import Kernel
import Scheduling
import Telemetry

/// The metrics of `reeve serve`: those of the process itself, and those of the collectors.
struct ServiceMetrics: Sendable {
    private static let build = MetricDescription(
        "reeve_build_info", .gauge, "The version of the program, as a label. The value is always 1.",
        labels: ["version"])
    private static let started = MetricDescription(
        "reeve_process_start_time_seconds", .gauge, "When the process started, in seconds since 1970.")
    private static let up = MetricDescription(
        "reeve_database_up", .gauge, "Whether the database answers.", labels: ["database"])
    private static let nextDue = MetricDescription(
        "reeve_task_next_due_timestamp_seconds", .gauge, "When the task is next due.", labels: ["database", "task"])
    private static let duration = MetricDescription(
        "reeve_task_duration_seconds", .histogram, "How long the task's runs in this process took.",
        labels: ["database", "task"],
        buckets: [0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200])
    private static let connections = MetricDescription(
        "reeve_pool_connections", .gauge, "Connections of the pool, by state.", labels: ["database", "state"])
    private static let waiting = MetricDescription(
        "reeve_pool_waiting", .gauge, "Units of work that are waiting for a connection of the pool.",
        labels: ["database"])
    private static let answers = MetricDescription("reeve_scrapes_total", .counter, "Responses of /metrics.")
    private static let collectorUp = MetricDescription(
        "reeve_collector_up", .gauge, "Whether the collector's last attempt to read its metrics succeeded.",
        labels: ["collector", "database"])
    private static let collectorLastSuccess = MetricDescription(
        "reeve_collector_last_success_timestamp_seconds", .gauge, "When the collector last read its metrics.",
        labels: ["collector", "database"])

    /// The metric families of the service itself.
    static let families = [
        build, started, up, nextDue, duration, connections, waiting, answers, collectorUp, collectorLastSuccess,
        MetricRegistry.droppedSeries,
    ]

    let registry = MetricRegistry()
    let scrapes: Counter

    init() {
        registry.gauge(Self.build).set(1, ProgramVersion.current)
        registry.gauge(Self.started).set(Date().timeIntervalSince1970)
        scrapes = registry.counter(Self.answers)
    }

    func setUp(_ isUp: Bool, database: String) { registry.gauge(Self.up).set(isUp ? 1 : 0, database) }

    func observe(_ outcome: RunOutcome, of task: TaskDefinition, database: String) {
        registry.histogram(Self.duration).observe(outcome.duration.inSeconds, database, task.name)
    }

    /// Sets the metrics of when the tasks are next due.
    ///
    /// - Parameter time: the time of the database's clock, in seconds since 1970.
    func setDue(_ tasks: [TaskDefinition], database: String, time: Double) {
        let gauge = registry.gauge(Self.nextDue)
        for task in tasks where task.isEnabled {
            if let next = task.schedule.next(after: Int(time.rounded(.down))) {
                gauge.set(Double(next), database, task.name)
            }
        }
    }

    func readPool(of open: OpenDatabase) async {
        let usage = await open.database.pool.usage
        let gauge = registry.gauge(Self.connections)
        gauge.set(Double(usage.idle), open.name, "idle")
        gauge.set(Double(usage.lent), open.name, "in_use")
        registry.gauge(Self.waiting).set(Double(usage.waiting), open.name)
    }

    /// Replaces the metrics of a collector's last reading.
    func replace(_ collector: Collector, database: String, with sample: MetricSample) {
        registry.replace("\(collector.name)/\(database)", with: sample)
        registry.gauge(Self.collectorUp).set(1, collector.name, database)
        registry.gauge(Self.collectorLastSuccess).set(Date().timeIntervalSince1970, collector.name, database)
    }

    /// Records that a reading failed. The metrics of the last successful reading are kept.
    func setFailed(_ collector: Collector, database: String) {
        registry.gauge(Self.collectorUp).set(0, collector.name, database)
    }
}

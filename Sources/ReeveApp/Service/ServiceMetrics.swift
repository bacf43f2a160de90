import Catalog
import Foundation
import Ledger
import Migrations
import Postgres
import Scheduling
import Telemetry

/// The metrics of `reeve serve`.
struct ServiceMetrics: Sendable {
    let registry = MetricRegistry()
    private let databaseUp: Gauge
    private let taskRuns: Counter
    private let taskLastStart: Gauge
    private let taskLastSuccess: Gauge
    private let taskNextDue: Gauge
    private let taskDuration: Histogram
    private let poolConnections: Gauge
    private let poolWaiting: Gauge
    private let migrationsApplied: Gauge
    private let migrationsPending: Gauge
    private let driftObjects: Gauge
    private let auditEntries: Gauge
    private let backups: BackupMetrics
    let scrapes: Counter

    init() {
        let build = registry.gauge(
            "reeve_build_info", "The version of the program; the value is 1.", labels: ["version"])
        build.set(1, ReeveProgram.version)
        registry.gauge("reeve_process_start_time_seconds", "When the process began, in seconds since 1970.")
            .set(Date().timeIntervalSince1970)
        let task = ["database", "task"]
        databaseUp = registry.gauge("reeve_database_up", "Whether the database answers.", labels: ["database"])
        taskRuns = registry.counter(
            "reeve_task_runs_total", "Runs that ended, by how they ended, as the ledger counts them.",
            labels: task + ["state"])
        taskLastStart = registry.gauge(
            "reeve_task_last_start_timestamp_seconds", "When the task was last begun.", labels: task)
        taskLastSuccess = registry.gauge(
            "reeve_task_last_success_timestamp_seconds", "When the task last ended well.", labels: task)
        taskNextDue = registry.gauge(
            "reeve_task_next_due_timestamp_seconds", "When the task is due next.", labels: task)
        taskDuration = registry.histogram(
            "reeve_task_duration_seconds", "How long runs of this process took.", labels: task,
            buckets: [0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200])
        poolConnections = registry.gauge(
            "reeve_pool_connections", "Connections of the pool.", labels: ["database", "state"])
        poolWaiting = registry.gauge(
            "reeve_pool_waiting", "Units of work that wait for a connection.", labels: ["database"])
        migrationsApplied = registry.gauge(
            "reeve_migrations_applied", "Migrations that are applied.", labels: ["database", "system"])
        migrationsPending = registry.gauge(
            "reeve_migrations_pending", "Migrations that are not applied.", labels: ["database", "system"])
        driftObjects = registry.gauge(
            "reeve_schema_drift_objects", "Objects that differ from what the migrations say, by kind.",
            labels: ["database", "system", "kind"])
        backups = BackupMetrics(registry)
        auditEntries = registry.gauge("reeve_audit_entries", "Entries of the audit chain.", labels: ["database"])
        scrapes = registry.counter("reeve_scrapes_total", "Answers of /metrics.")
    }

    func setUp(_ isUp: Bool, database: String) { databaseUp.set(isUp ? 1 : 0, database) }

    func observe(_ outcome: RunOutcome, of task: TaskDefinition, database: String) {
        taskDuration.observe(outcome.duration.inSeconds, database, task.name)
    }

    /// Reads what the ledger knows, so that a restart blanks nothing.
    ///
    /// - Parameter time: the database's, in seconds since 1970.
    func read(_ open: OpenDatabase, tasks: [TaskDefinition], time: Double) async throws {
        let usage = await open.database.pool.usage
        poolConnections.set(Double(usage.idle), open.name, "idle")
        poolConnections.set(Double(usage.lent), open.name, "in_use")
        poolWaiting.set(Double(usage.waiting), open.name)
        let now = Int(time.rounded(.down))
        for task in tasks where task.isEnabled {
            if let next = task.schedule.next(after: now) { taskNextDue.set(Double(next), open.name, task.name) }
        }
        let (summaries, entries, drift, records, attempts) = try await open.database.pool.with(within: .seconds(10)) {
            connection in
            let head = try connection.query("SELECT seq FROM reeve.audit_head").first
            return (
                try RunLedger.summaries(on: connection), try head?.get(0, as: Int.self) ?? 0,
                try FindingLedger.counts(of: ValidateTask.check, on: connection),
                try BackupLedger.records(on: connection), try BackupLedger.lastAttempts(on: connection)
            )
        }
        backups.set(records, attempts: attempts, database: open.name)
        await backups.readFree(records, database: open.name)
        setDrift(drift, of: open, wasChecked: summaries.contains { $0.task == "validate" && $0.lastSucceeded != nil })
        auditEntries.set(Double(entries), open.name)
        for summary in summaries {
            taskLastStart.set(summary.lastStarted.secondsSince1970, open.name, summary.task)
            if let time = summary.lastSucceeded { taskLastSuccess.set(time.secondsSince1970, open.name, summary.task) }
            for (state, count) in summary.counts where count > 0 {
                taskRuns.setAtLeast(Double(count), open.name, summary.task, state.rawValue)
            }
        }
    }

    /// A system that was compared has a series for tables even when nothing differs, so that no alert starts from nothing.
    private func setDrift(_ counts: [FindingLedger.Count], of open: OpenDatabase, wasChecked: Bool) {
        if wasChecked {
            for system in open.systems { driftObjects.set(0, open.name, system.name, ObjectKind.table.name) }
        }
        for count in counts {
            driftObjects.set(Double(count.objects), open.name, count.system ?? "", count.objectKind)
        }
    }

    func set(_ status: [MigrationStatus], database: String) {
        for one in status {
            migrationsApplied.set(Double(one.applied.count), database, one.system.name)
            migrationsPending.set(Double(one.pending.count), database, one.system.name)
        }
    }
}

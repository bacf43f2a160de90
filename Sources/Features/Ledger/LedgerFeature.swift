import Auditing
import Kernel
import Ledger
import Reporting
import Telemetry

extension Feature {
    /// The ledger itself: the audit chain, its anchors, and the retention of its rows.
    public static let ledger = Feature(
        "ledger", commands: AuditCommands.all, settings: LedgerSettings.keys + [AuditWork.key.key],
        tasks: [AnchorTask.spec, TidyTask.spec], collectors: [AuditMetrics.collector],
        errors: [AuditError.self])
}

/// The settings of the ledger's retention.
enum LedgerSettings {
    /// The syntax of the durations of `ledger.keep`. The minimum is one day, so that no process still needs the rows
    /// that are removed.
    private static let kept = ValueSyntax.duration(.seconds(86400)...WrittenDuration.longest)
    private static let runs = Setting(
        "ledger.keep.runs", kept, default: "90d",
        "How long the ledger keeps runs, occurrences and backup attempts. The newest run of each task is always kept.")
    private static let events = Setting("ledger.keep.events", kept, default: "30d", "How long the ledger keeps events.")
    private static let findings = Setting(
        "ledger.keep.findings", kept, default: "90d", "How long the ledger keeps findings after they were cleared.")

    static let keys = [runs.key, events.key, findings.key]

    static func retention(_ configuration: Configuration) -> LedgerRetention {
        var retention = LedgerRetention()
        retention.runs = configuration[runs]
        retention.events = configuration[events]
        retention.findings = configuration[findings]
        return retention
    }
}

/// The task that anchors the audit chain.
enum AnchorTask {
    static let spec = TaskSpec(
        "anchor", "record the end of the audit chain outside the database", schedule: "*/10 * * * *",
        timeout: .seconds(300), retries: 1
    ) { call in
        let done = try await AuditWork(open: call.open, configuration: call.configuration, logger: call.logger).anchor()
        return "\(done.isNew ? "anchored" : "already anchored") up to entry \(done.anchor.entries)"
    }
}

/// The task that removes old rows of the ledger and old anchors.
enum TidyTask {
    static let spec = TaskSpec(
        "tidy", "remove expired runs, events and cleared findings from the ledger",
        schedule: "50 3 * * *",
        timeout: .seconds(3600), retries: 2
    ) { call in
        let retention = LedgerSettings.retention(call.configuration)
        let removed = try await call.open.database.pool.withConnection { try await retention.tidy(on: $0) }
        await AuditWork(open: call.open, configuration: call.configuration, logger: call.logger).thin()
        return
            "removed \(counted(removed.runs, "run")), \(counted(removed.occurrences, "occurrence")), "
            + "\(counted(removed.events, "event")), \(counted(removed.attempts, "backup attempt")), "
            + counted(removed.findings, "finding")
    }
}

/// The metric of the length of the audit chain.
enum AuditMetrics {
    private static let entries = MetricDescription(
        "reeve_audit_entries", .gauge, "Number of entries in the audit chain.", labels: ["database"])

    static let collector = Collector("audit", families: [entries]) { open, sample in
        let count = try await open.database.pool.with(within: .seconds(10)) { connection in
            try connection.query("SELECT seq FROM reeve.audit_head").first?.get(0, as: Int.self) ?? 0
        }
        sample.set(entries, Double(count), open.name)
    }
}

import Ledger
import Scheduling

/// The task that anchors the audit chain.
enum AnchorTask {
    static func run(_ open: OpenDatabase, _ configuration: Configuration, _ context: TaskContext) async throws -> String
    {
        let work = try AuditWork(open: open, configuration: configuration, logger: context.logger)
        let done = try await work.anchor()
        return "\(done.isNew ? "anchored" : "is anchored") up to entry \(done.anchor.entries)"
    }
}

/// The task that removes what the ledger no longer keeps.
enum TidyTask {
    static func run(_ open: OpenDatabase, _ configuration: Configuration, _ context: TaskContext) async throws -> String
    {
        let retention = retention(configuration)
        let removed = try await open.database.pool.withConnection { try await retention.tidy(on: $0) }
        try await AuditWork(open: open, configuration: configuration, logger: context.logger).thin()
        return
            "removed \(removed.runs) runs, \(removed.occurrences) occurrences, \(removed.events) events, "
            + "\(removed.attempts) attempts at backups, \(removed.findings) findings"
    }

    static func retention(_ configuration: Configuration) -> LedgerRetention {
        var retention = LedgerRetention()
        let store = configuration.store
        retention.runs = store.duration("ledger.keep.runs") ?? retention.runs
        retention.events = store.duration("ledger.keep.events") ?? retention.events
        retention.findings = store.duration("ledger.keep.findings") ?? retention.findings
        return retention
    }
}

import Ledger
import Postgres
import Processes
import Storage
import Telemetry

/// What the ledger knows of backups, as metrics.
struct BackupMetrics: Sendable {
    private let lastSuccess: Gauge
    private let lastAttempt: Gauge
    private let size: Gauge
    private let duration: Gauge
    private let lastProven: Gauge
    private let restoreSeconds: Gauge
    private let mismatches: Gauge
    private let free: Gauge

    init(_ registry: MetricRegistry) {
        let labels = ["database", "target"]
        lastSuccess = registry.gauge(
            "reeve_backup_last_success_timestamp_seconds", "When the last backup was complete.", labels: labels)
        lastAttempt = registry.gauge(
            "reeve_backup_last_attempt_timestamp_seconds", "When a backup was last begun, whatever became of it.",
            labels: labels)
        size = registry.gauge("reeve_backup_size_bytes", "The size of the last backup.", labels: labels)
        duration = registry.gauge(
            "reeve_backup_duration_seconds", "How long the last backup took.", labels: labels)
        lastProven = registry.gauge(
            "reeve_backup_last_proven_timestamp_seconds", "When a backup was last shown to restore.", labels: labels)
        restoreSeconds = registry.gauge(
            "reeve_backup_proven_restore_seconds", "How long the restore of that proof took.", labels: labels)
        mismatches = registry.gauge(
            "reeve_backup_mismatched_tables", "Tables that the newest restore test found to differ.", labels: labels)
        free = registry.gauge(
            "reeve_backup_storage_free_bytes", "Bytes that are free where backups lie.", labels: labels)
    }

    func set(_ records: [BackupRecord], attempts: [String: Timestamp], database: String) {
        for (place, time) in attempts { lastAttempt.set(time.secondsSince1970, database, place) }
        for (place, all) in Dictionary(grouping: records, by: \.place) {
            guard let last = all.last else { continue }
            lastSuccess.set(last.finishedAt.secondsSince1970, database, place)
            size.set(Double(last.bytes), database, place)
            duration.set(last.finishedAt.secondsSince1970 - last.startedAt.secondsSince1970, database, place)
            if let proven = all.filter({ $0.provenAt != nil }).max(by: {
                $0.provenAt ?? $0.startedAt < $1.provenAt ?? $1.startedAt
            }),
                let time = proven.provenAt
            {
                lastProven.set(time.secondsSince1970, database, place)
                restoreSeconds.set(proven.restoreSeconds ?? 0, database, place)
            }
            if let tested = all.last(where: { $0.mismatchedTables != nil }) {
                mismatches.set(Double(tested.mismatchedTables ?? 0), database, place)
            }
        }
    }

    /// How much is free in the folders among the places; of one that does not tell at once nothing new is said.
    func readFree(_ records: [BackupRecord], database: String) async {
        for place in Set(records.map(\.place)) where place.hasPrefix("/") {
            let bytes = try? await BoundedThreads.named(place).call(limit: .seconds(2)) { FolderStore(place).freeBytes }
            if let bytes = bytes ?? nil { free.set(Double(bytes), database, place) }
        }
    }
}

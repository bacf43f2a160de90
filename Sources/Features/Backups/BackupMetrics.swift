import Kernel
import Ledger
import Postgres
import Processes
import Storage
import Telemetry

/// The metrics of backups, read from the ledger.
enum BackupMetrics {
    private static let labels = ["database", "target"]
    private static let lastSuccess = MetricDescription(
        "reeve_backup_last_success_timestamp_seconds", .gauge,
        "When the newest backup was completed. A backup that was found in the repository, but not in the ledger, "
            + "counts only after a restore test has proven it.",
        labels: labels)
    private static let lastAttempt = MetricDescription(
        "reeve_backup_last_attempt_timestamp_seconds", .gauge,
        "When a backup was last started, even if it failed.", labels: labels)
    private static let size = MetricDescription(
        "reeve_backup_size_bytes", .gauge, "The size of the last backup.", labels: labels)
    private static let duration = MetricDescription(
        "reeve_backup_duration_seconds", .gauge, "How long the last backup took.", labels: labels)
    private static let lastProven = MetricDescription(
        "reeve_backup_last_proven_timestamp_seconds", .gauge,
        "When a restore test last proved a backup; 0 if none has been proved.", labels: labels)
    private static let missing = MetricDescription(
        "reeve_backup_missing", .gauge,
        "Backups that are gone from the repository although nothing has removed them.", labels: labels)
    private static let restoreSeconds = MetricDescription(
        "reeve_backup_proven_restore_seconds", .gauge, "How long the restore in the last successful restore test took.",
        labels: labels)
    private static let mismatches = MetricDescription(
        "reeve_backup_mismatched_tables", .gauge, "Tables that differed in the newest restore test.",
        labels: labels)
    private static let free = MetricDescription(
        "reeve_backup_storage_free_bytes", .gauge, "Free bytes in the repository.", labels: labels)

    static let collector = Collector(
        "backups",
        families: [
            lastSuccess, lastAttempt, size, duration, lastProven, missing, restoreSeconds, mismatches, free,
        ]
    ) { open, sample in
        let (records, attempts) = try await open.database.pool.with(within: .seconds(10)) { connection in
            (try BackupLedger.records(on: connection), try BackupLedger.lastAttempts(on: connection))
        }
        set(records, attempts, open.name, &sample)
        for place in Set(records.map(\.place)) where place.hasPrefix("/") {
            // If a folder does not answer within 2 s, its free space is not reported.
            let bytes = try? await BoundedThreads.named(place).call(limit: .seconds(2)) { FolderStore(place).freeBytes }
            if let bytes = bytes ?? nil { sample.set(free, Double(bytes), open.name, place) }
        }
    }

    private static func set(
        _ records: [BackupRecord], _ attempts: [String: Timestamp], _ database: String, _ sample: inout MetricSample
    ) {
        for (place, time) in attempts { sample.set(lastAttempt, time.secondsSince1970, database, place) }
        // A backup that was found in a repository, and not recorded by the process that made it, counts only after a
        // restore test has proven it.
        for (place, all) in Dictionary(grouping: records, by: \.place) {
            sample.set(missing, Double(all.count { $0.missedAt != nil }), database, place)
            if !all.contains(where: { $0.provenAt != nil }) { sample.set(lastProven, 0, database, place) }
        }
        let known = records.filter { $0.missedAt == nil && (!$0.isFound || $0.provenAt != nil) }
        for (place, all) in Dictionary(grouping: known, by: \.place) {
            guard let last = all.last else { continue }
            sample.set(lastSuccess, last.finishedAt.secondsSince1970, database, place)
            sample.set(size, Double(last.bytes), database, place)
            sample.set(
                duration, last.finishedAt.secondsSince1970 - last.startedAt.secondsSince1970, database, place)
            let proofs = all.compactMap { record in record.provenAt.map { (at: $0, record: record) } }
            if let proven = proofs.max(by: { $0.at < $1.at }) {
                sample.set(lastProven, proven.at.secondsSince1970, database, place)
                sample.set(restoreSeconds, proven.record.restoreSeconds ?? 0, database, place)
            }
            if let tested = all.compactMap(\.mismatchedTables).last {
                sample.set(mismatches, Double(tested), database, place)
            }
        }
    }
}

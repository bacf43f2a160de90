import Foundation
import Ledger
import Postgres

/// Taking over a database whose schema was created without Reeve: its migrations are recorded as applied, and not run.
///
///     let records = try await migrator.unrecorded(to: 12)
///     validator.settings.assumed = records    // and validate
///     try await migrator.record(records)
extension Migrator {
    /// Returns the records of the migrations that are not recorded as applied, as `record` writes them.
    ///
    /// - Parameter version: the last version; nil: all migrations, also the repeatable ones.
    /// - Throws: `MigrationError.unknownVersion`, or the first contradiction between the files and the ledger.
    public func unrecorded(to version: Int?) async throws -> [MigrationRecord] {
        let folders = try read()
        return try await direct { connection in
            let known = try self.records(on: connection)
            return try folders.flatMap { system, folder in
                let state = SystemState(
                    system: system, folder: folder, records: known.filter { $0.system == system.name })
                if let error = state.contradictions.first { throw try explained(error, folders, on: connection) }
                if let version, !folder.versioned.contains(where: { $0.version == version }) {
                    throw MigrationError.unknownVersion(system: system.name, version: version)
                }
                let chosen =
                    state.pendingVersioned.filter { $0.version ?? 0 <= version ?? .max }
                    + (version == nil ? state.pendingRepeatable : [])
                return chosen.map { Self.record($0, of: system) }
            }
        }
    }

    /// Records migrations as applied without running them.
    ///
    /// - Parameters:
    ///   - records: the result of `unrecorded`. Those that another run has recorded in the meantime are left.
    ///   - report: receives `waitsForRun`.
    /// - Returns: the records that were written.
    /// - Throws: `MigrationError.locked`, `.otherSchema`; `LedgerError`; `PostgresError`.
    @discardableResult
    public func record(
        _ records: [MigrationRecord], report: @escaping @Sendable (MigrationEvent) -> Void = { _ in }
    ) async throws -> [MigrationRecord] {
        let folders = try read()
        return try await database.withDirectConnection(named: RunLock.keeper, staysWhenIdle: true) { keeper in
            try await RunLock(settings: settings, logger: logger).acquire(on: keeper) {
                report(.waitsForRun(holder: $0))
            }
            return try await keeper.with { keeper in
                let known = try self.records(on: keeper).filter { $0.state == .applied }
                let missing = records.filter { one in
                    !known.contains { $0.system == one.system && $0.version == one.version && $0.name == one.name }
                }
                try keeper.transaction {
                    for (system, folder) in folders {
                        let own = missing.filter { $0.system == system.name }
                        if own.isEmpty { continue }
                        try register(system, madeSchema: false, on: keeper)
                        for one in own { try record(one, in: folder, on: keeper) }
                    }
                }
                return missing
            }
        }
    }

    private func record(
        _ record: MigrationRecord, in folder: MigrationFolder, on keeper: isolated Connection
    ) throws {
        let migration = (folder.versioned + folder.repeatable).first {
            $0.version == record.version && $0.name == record.name
        }
        guard let migration else { return }
        try keeper.execute(
            MigrationLedger.recordStatement(
                record, source: migration.up.text, milliseconds: 0, actor: settings.actor))
        if let version = record.version {
            for direction in [StepJournal.Direction.up, .down] {
                try StepJournal(system: record.system, version: version, direction: direction).clear(on: keeper)
            }
        }
        try Audit.append(
            actor: settings.actor, action: "migration.baseline", subject: "\(record.system)/\(migration.title)",
            detail: JSONText(#"{"run":false}"#), on: keeper)
    }

    private static func record(_ migration: Migration, of system: MigrationSystem) -> MigrationRecord {
        MigrationRecord(
            system: system.name, version: migration.version, name: migration.name,
            tokenDigest: migration.up.tokenDigest, textDigest: migration.up.textDigest, state: .applied,
            appliedAt: Timestamp(Date()))
    }
}

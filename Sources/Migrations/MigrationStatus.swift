import Ledger
import Postgres
import Reporting
import SQL

/// The state of one system.
public struct MigrationStatus: Sendable {
    public struct Pending: Sendable {
        public let version: Int?
        public let name: String
        /// Whether the migration was begun and interrupted.
        public let wasBegun: Bool
        /// Whether the migration is repeatable and its tokens changed since it was applied.
        public let isChanged: Bool
    }

    public let system: MigrationSystem
    public let applied: [MigrationRecord]
    public let pending: [Pending]
    /// The options of the opt-in migrations that are not chosen.
    public let optional: [String]
    /// The options of the opt-in migrations that are applied.
    public let appliedOptions: Set<String>
    /// The migrations whose revert was interrupted.
    public let reverting: [MigrationRecord]
    /// Contradictions between the ledger and the files, for instance an applied migration whose file was edited. `up`
    /// refuses to run then.
    public let contradictions: [MigrationError]
}

extension Migrator {
    /// Returns the state of each system. Changes nothing.
    public func status() async throws -> [MigrationStatus] {
        let folders = try read()
        let records = try await currentRecords()
        return folders.map { system, folder in
            let state = SystemState(
                system: system, folder: folder, records: records.filter { $0.system == system.name })
            let pending = (state.pendingVersioned + state.pendingRepeatable).map {
                let record = state.record(of: $0)
                return MigrationStatus.Pending(
                    version: $0.version, name: $0.name, wasBegun: record?.state == .applying,
                    isChanged: record?.state == .applied)
            }
            let optional = folder.versioned.filter { migration in
                migration.up.directives.option.map { !system.options.contains($0) } ?? false
                    && state.record(of: migration) == nil
            }
            return MigrationStatus(
                system: system, applied: records.filter { $0.system == system.name && $0.state == .applied },
                pending: pending, optional: optional.compactMap(\.up.directives.option),
                appliedOptions: Set(
                    folder.versioned.filter { state.record(of: $0)?.state == .applied }
                        .compactMap(\.up.directives.option)),
                reverting: records.filter { $0.system == system.name && $0.state == .reverting },
                contradictions: state.contradictions)
        }
    }

    /// Compares every applied migration with its file. Changes nothing.
    ///
    /// - Returns: all contradictions, not only the first.
    public func verify() async throws -> [Finding] {
        let records = try await currentRecords()
        var findings: [Finding] = []
        for system in systems {
            do {
                let folder = try MigrationFolder(reading: system.folder)
                let state = SystemState(
                    system: system, folder: folder, records: records.filter { $0.system == system.name })
                for error in state.contradictions {
                    let explained = try await explained(error, system, folder)
                    findings.append(
                        Finding(system.name, .error, explained.description, mend: explained.hint))
                }
                for migration in folder.versioned + folder.repeatable {
                    let action = try MigrationAction(system: system, migration: migration, direction: .up)
                    guard state.record(of: migration)?.state == .applying, let version = migration.version else {
                        continue
                    }
                    // The finished steps of an interrupted migration must not have been changed.
                    let journal = StepJournal(system: system.name, version: version, direction: .up)
                    _ = try StepPlan(action, try await direct { try journal.steps(on: $0) })
                }
            } catch let error as MigrationError {
                findings.append(Finding(system.name, .error, error.description, mend: error.hint))
            } catch let error as SQLScriptError {
                findings.append(Finding(system.name, .error, error.description, mend: error.hint))
            }
        }
        return findings
    }

    private func currentRecords() async throws -> [MigrationRecord] {
        try await direct { (connection: isolated Connection) in try self.records(on: connection) }
    }

    private func explained(
        _ error: MigrationError, _ system: MigrationSystem, _ folder: MigrationFolder
    ) async throws -> MigrationError {
        try await direct { (connection: isolated Connection) in
            try self.explained(error, [(system, folder)], on: connection)
        }
    }
}

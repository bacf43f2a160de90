import Ledger
import Postgres
import SQL

/// The migrations to apply or revert in a database, in order.
public struct MigrationPlan: Sendable {
    public let actions: [MigrationAction]
    /// Messages about conditions that do not prevent the run.
    public let notices: [String]
    /// Migrations whose comments or white space changed since they were applied.
    let rewritten: [(system: MigrationSystem, migration: Migration)]
    /// Repeatable migrations that were applied and whose files no longer exist.
    let forgotten: [MigrationRecord]

    public var isEmpty: Bool { actions.isEmpty }

    /// The actions whose files contain no statement.
    public var empty: [MigrationAction] { actions.filter { $0.script.statements.isEmpty } }
}

/// One migration to apply or revert.
public struct MigrationAction: Sendable {
    public enum Direction: String, Sendable { case up, down }

    public let system: MigrationSystem
    public let migration: Migration
    public let direction: Direction
    public let script: MigrationScript
    /// The steps of the script. There is one step, which is a transaction, unless a statement must run alone or the
    /// script has the directive `no-transaction`.
    public let steps: [MigrationStep]

    /// Whether an earlier run has begun the migration step by step. It continues step by step, even if the file has
    /// been changed so that it needs no steps.
    public var isContinued = false

    public var runsInOneTransaction: Bool {
        !isContinued && steps.count == 1 && steps[0].nonTransactional == nil && !script.directives.noTransaction
    }

    /// - Throws: `MigrationError.noWayDown`, `.transactionControl`, `.stepsInRepeatable`;
    ///   `SQLScriptError`.
    init(system: MigrationSystem, migration: Migration, direction: Direction) throws {
        guard let script = direction == .up ? migration.up : migration.down else {
            throw MigrationError.noWayDown(system: system.name, title: migration.title)
        }
        self.system = system
        self.migration = migration
        self.direction = direction
        self.script = script
        steps = try MigrationStep.steps(of: script)
        if migration.version == nil, !runsInOneTransaction {
            throw MigrationError.stepsInRepeatable(path: script.path)
        }
    }
}

/// The state that a system is migrated to.
public enum MigrationGoal: Sendable, Equatable {
    /// All migrations up to and including a version are applied; nil: all migrations.
    case up(to: Int?)
    /// All migrations after a version are reverted; nil: all migrations.
    case down(to: Int?)

    /// Whether all migrations of the systems are reverted. Version 0 is a migration of some systems; for the others, it
    /// is the state before the first migration.
    func revertsAll(_ folders: [(MigrationSystem, MigrationFolder)]) -> Bool {
        switch self {
        case .up: false
        case .down(to: nil): true
        case .down(to: 0?): !folders.contains { $0.1.versioned.contains { $0.version == 0 } }
        case .down: false
        }
    }
}

/// Decides which migrations to apply or revert, from the folders and the records of the ledger. Pure.
struct MigrationPlanner {
    let allowOutOfOrder: Bool

    /// - Parameter systems: the systems, each after those that it requires.
    /// - Throws: `MigrationError` if a folder contradicts the ledger.
    func plan(
        _ systems: [(MigrationSystem, MigrationFolder)], records: [MigrationRecord], goal: MigrationGoal
    ) throws -> MigrationPlan {
        var actions: [MigrationAction] = []
        var notices: [String] = []
        var rewritten: [(system: MigrationSystem, migration: Migration)] = []
        var forgotten: [MigrationRecord] = []
        for (system, folder) in systems {
            let own = records.filter { $0.system == system.name }
            let state = SystemState(system: system, folder: folder, records: own)
            if let error = state.contradictions.first(where: { !$0.isMoot(for: goal) }) { throw error }
            for migration in state.rewritten {
                notices.append(
                    "\(migration.up.path): comments or white space were changed after the migration was applied; the "
                        + "statements are unchanged"
                )
                rewritten.append((system, migration))
            }
            for record in state.forgotten {
                notices.append(
                    "\(system.name)/R__\(record.name) was applied, but its file is missing; its objects exist until a "
                        + "migration drops them"
                )
            }
            forgotten += state.forgotten
            switch goal {
            case .up(let version): actions += try up(state, to: version)
            case .down(let version): actions = try down(state, to: version) + actions
            }
        }
        return MigrationPlan(actions: actions, notices: notices, rewritten: rewritten, forgotten: forgotten)
    }

    private func up(_ state: SystemState, to target: Int?) throws -> [MigrationAction] {
        if let target, !state.folder.versioned.contains(where: { $0.version == target }) {
            throw MigrationError.unknownVersion(system: state.system.name, version: target)
        }
        if let half = state.halfReverted {
            throw MigrationError.halfReverted(system: state.system.name, title: half.title)
        }
        let pending = state.pendingVersioned.filter { $0.version ?? 0 <= target ?? .max }
        if !allowOutOfOrder, let highest = state.highestApplied,
            let late = pending.first(where: {
                $0.version ?? 0 < highest && $0.up.directives.option == nil && !state.wasBegun($0)
            })
        {
            throw MigrationError.outOfOrder(system: state.system.name, title: late.title, applied: highest)
        }
        // Repeatable migrations may depend on any versioned migration, so they run only after the last version.
        let isComplete = pending.count == state.pendingVersioned.count
        return try (pending + (isComplete ? state.pendingRepeatable : [])).map {
            var action = try MigrationAction(system: state.system, migration: $0, direction: .up)
            action.isContinued = state.wasBegun($0) && $0.version != nil
            return action
        }
    }

    private func down(_ state: SystemState, to target: Int?) throws -> [MigrationAction] {
        let isKnown = state.folder.versioned.contains { $0.version == target }
        if let target, target != 0, !isKnown {
            throw MigrationError.unknownVersion(system: state.system.name, version: target)
        }
        let revertsAll = target == nil || target == 0 && !isKnown
        let applied = state.appliedVersioned.filter { revertsAll || $0.version ?? 0 > target ?? 0 }
        if applied.isEmpty, !revertsAll { return [] }
        let repeatable = state.appliedRepeatable.filter { revertsAll || $0.down != nil }
        return try (repeatable.reversed() + applied.reversed()).map {
            var action = try MigrationAction(system: state.system, migration: $0, direction: .down)
            action.isContinued = state.record(of: $0)?.state == .reverting
            return action
        }
    }
}

/// The folder of one system together with its records in the ledger.
struct SystemState {
    let system: MigrationSystem
    let folder: MigrationFolder
    private let byVersion: [Int: MigrationRecord]
    private let byName: [String: MigrationRecord]

    init(system: MigrationSystem, folder: MigrationFolder, records: [MigrationRecord]) {
        self.system = system
        self.folder = folder
        byVersion = Dictionary(
            records.compactMap { record in record.version.map { ($0, record) } },
            uniquingKeysWith: { first, _ in first })
        byName = Dictionary(
            records.filter { $0.version == nil }.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    }

    func record(of migration: Migration) -> MigrationRecord? {
        migration.version.map { byVersion[$0] } ?? byName[migration.name]
    }

    func wasBegun(_ migration: Migration) -> Bool { record(of: migration)?.state == .applying }

    /// A migration whose revert was begun and not completed.
    var halfReverted: Migration? { folder.versioned.first { record(of: $0)?.state == .reverting } }

    /// The highest applied version. Opt-in migrations do not count, because they may be chosen at any time.
    var highestApplied: Int? {
        folder.versioned.last { migration in
            migration.up.directives.option == nil && record(of: migration).map { $0.state != .applying } == true
        }?.version
    }

    /// Returns whether a migration is part of a run: every migration that is not opt-in, and opt-in migrations whose
    /// option the system has chosen.
    private func isWanted(_ migration: Migration) -> Bool {
        migration.up.directives.option.map(system.options.contains) ?? true
    }

    var pendingVersioned: [Migration] {
        folder.versioned.filter { isWanted($0) && (record(of: $0)?.state ?? .applying) == .applying }
    }

    var pendingRepeatable: [Migration] {
        folder.repeatable.filter {
            guard let record = record(of: $0) else { return isWanted($0) }
            return record.state == .applying || record.tokenDigest != $0.up.tokenDigest
        }
    }

    var appliedVersioned: [Migration] { folder.versioned.filter { record(of: $0) != nil } }
    var appliedRepeatable: [Migration] { folder.repeatable.filter { record(of: $0) != nil } }

    var rewritten: [Migration] {
        (appliedVersioned + appliedRepeatable).filter {
            guard let record = record(of: $0), record.state == .applied else { return false }
            return record.tokenDigest == $0.up.tokenDigest && record.textDigest != $0.up.textDigest
        }
    }

    var forgotten: [MigrationRecord] {
        byName.values.filter { record in !folder.repeatable.contains { $0.name == record.name } }
    }

    /// All contradictions between the folder and the ledger, ordered by version.
    var contradictions: [MigrationError] {
        let files = Dictionary(folder.versioned.map { ($0.version, $0) }, uniquingKeysWith: { first, _ in first })
        return byVersion.values.sorted(by: { $0.version ?? 0 < $1.version ?? 0 }).compactMap { record in
            guard let migration = files[record.version] else {
                let title = Migration.title(version: record.version, name: record.name)
                return .missingFile(system: system.name, title: title)
            }
            if migration.name != record.name {
                return .renamed(
                    system: system.name, version: record.version ?? 0, applied: record.name, file: migration.name)
            }
            guard record.state == .applied, record.tokenDigest != migration.up.tokenDigest else { return nil }
            return .changed(
                system: system.name, title: migration.title, applied: record.tokenDigest,
                file: migration.up.tokenDigest,
                path: migration.up.path, difference: nil, revertTo: target(beforeReverting: migration))
        }
    }

    /// Returns the version to revert to so that a migration is reverted, or `none`; nil if the migration or a later one
    /// cannot be reverted.
    private func target(beforeReverting migration: Migration) -> String? {
        let later = appliedVersioned.filter { $0.version ?? 0 >= migration.version ?? 0 }
        guard later.allSatisfy({ $0.down != nil }) else { return nil }
        return folder.versioned.last { $0.version ?? 0 < migration.version ?? 0 }?.version.map(String.init) ?? "none"
    }
}

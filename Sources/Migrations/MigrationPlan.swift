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

    public var runsInOneTransaction: Bool {
        steps.count == 1 && steps[0].nonTransactional == nil && !script.directives.noTransaction
    }

    /// - Throws: `MigrationError.noWayDown`, `.transactionControl`, `.unnamedConcurrentIndex`, `.stepsInRepeatable`;
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

/// Statements that run in one transaction, or one statement that runs outside a transaction.
public struct MigrationStep: Sendable {
    public let statements: [SQLStatement]
    let nonTransactional: NonTransactionalStatement?

    public var runsAlone: Bool { nonTransactional != nil }

    static func steps(of script: MigrationScript) throws -> [MigrationStep] {
        var steps: [MigrationStep] = []
        var together: [SQLStatement] = []
        func close() {
            if !together.isEmpty { steps.append(MigrationStep(statements: together, nonTransactional: nil)) }
            together = []
        }
        for statement in script.statements {
            let words = try script.words(of: statement)
            try refuseTransactionControl(words, statement, script)
            if let nonTransactional = NonTransactionalStatement(words: words) {
                if case .createIndex(name: "", _) = nonTransactional {
                    throw MigrationError.unnamedConcurrentIndex(location: script.location(of: statement))
                }
                close()
                steps.append(MigrationStep(statements: [statement], nonTransactional: nonTransactional))
            } else {
                together.append(statement)
                if script.directives.noTransaction { close() }
            }
        }
        close()
        return steps.isEmpty ? [MigrationStep(statements: [], nonTransactional: nil)] : steps
    }

    private static func refuseTransactionControl(
        _ words: [String], _ statement: SQLStatement, _ script: MigrationScript
    ) throws {
        let starts = words.prefix(2).joined(separator: " ")
        let controls =
            ["BEGIN", "COMMIT", "END", "ABORT", "ROLLBACK"].contains(words.first ?? "")
            || ["START TRANSACTION", "PREPARE TRANSACTION"].contains(starts)
        if controls, !words.contains("SAVEPOINT"), starts != "ROLLBACK TO" {
            throw MigrationError.transactionControl(
                location: script.location(of: statement), statement: words.first ?? starts)
        }
    }
}

/// The state that a system is migrated to.
public enum MigrationGoal: Sendable, Equatable {
    /// All migrations up to and including a version are applied; nil: all migrations.
    case up(to: Int?)
    /// All migrations after a version are reverted.
    case down(to: Int)
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
            if let error = state.contradictions.first { throw error }
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
            try MigrationAction(system: state.system, migration: $0, direction: .up)
        }
    }

    private func down(_ state: SystemState, to target: Int) throws -> [MigrationAction] {
        let applied = state.appliedVersioned.filter { $0.version ?? 0 > target }
        if target != 0, !state.folder.versioned.contains(where: { $0.version == target }) {
            throw MigrationError.unknownVersion(system: state.system.name, version: target)
        }
        if applied.isEmpty, target != 0 { return [] }
        let repeatable = state.appliedRepeatable.filter { target == 0 || $0.down != nil }
        return try (repeatable.reversed() + applied.reversed()).map {
            try MigrationAction(system: state.system, migration: $0, direction: .down)
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
                path: migration.up.path, difference: nil)
        }
    }
}

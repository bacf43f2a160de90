import Catalog
import Hashing
import Ledger
import Postgres
import Reporting
import SQL

/// What the ledger knows of the applied migrations of one system beyond their records.
struct AppliedState: Sendable, Equatable {
    /// The applied texts of the migrations whose tokens differ from those of their files, by title.
    var sources: [String: String] = [:]
    /// The steps that are done, by number, of the migrations that were begun and not finished, by title.
    var steps: [String: [Int: StepJournal.Step]] = [:]

    /// - Throws: `PostgresError`.
    static func read(
        _ system: MigrationSystem, _ folder: MigrationFolder, _ records: [MigrationRecord],
        on connection: isolated Connection
    ) throws -> AppliedState {
        let state = SystemState(system: system, folder: folder, records: records)
        var result = AppliedState()
        for migration in folder.versioned + folder.repeatable {
            guard let record = state.record(of: migration) else { continue }
            if record.state == .applied, record.tokenDigest != migration.up.tokenDigest {
                result.sources[migration.title] = try MigrationLedger.source(
                    system: system.name, version: migration.version, name: migration.name, on: connection)
            } else if record.state == .applying, let version = migration.version {
                let journal = StepJournal(system: system.name, version: version, direction: .up)
                result.steps[migration.title] = try journal.steps(on: connection).filter { $0.value.state == .done }
            }
        }
        return result
    }
}

/// The selected migrations of one system: the applied migrations, or all migrations. An applied migration has the text
/// with which it was applied, even if its file was changed since.
struct MigrationSelection: Sendable {
    /// A migration, and those of its steps that are done; nil: all.
    typealias Selected = (migration: Migration, steps: [Int: StepJournal.Step]?)

    let system: MigrationSystem
    let selected: [Selected]
    /// SHA-256 of the name of the system, its schema, and the titles and token digests of the migrations.
    let digest: [UInt8]
    /// The number of migrations in the folder that are not applied.
    let pending: Int
    /// The applied migrations whose files were changed since, and those that were begun and not finished.
    let findings: [Finding]

    /// - Parameters:
    ///   - records: the system's records in the ledger; nil to select all migrations, except opt-in migrations that
    ///     were not chosen.
    ///   - applied: what the ledger knows beyond the records.
    /// - Throws: `MigrationError.missingFile` for an applied migration whose file does not exist; `SQLScriptError`.
    init(
        _ system: MigrationSystem, _ folder: MigrationFolder, records: [MigrationRecord]?,
        applied: AppliedState = AppliedState()
    ) throws {
        let all = folder.versioned + folder.repeatable
        if let records {
            let state = SystemState(system: system, folder: folder, records: records)
            if case .missingFile(let name, let title)? = state.contradictions.first {
                throw MigrationError.missingFile(system: name, title: title)
            }
            selected = try all.compactMap { try Self.selected($0, state, applied) }
            pending = state.pendingVersioned.count + state.pendingRepeatable.count
            findings =
                state.contradictions.map { Self.finding($0, folder, applied) }
                + folder.versioned.compactMap { Self.unfinished($0, state, applied) }
        } else {
            selected = all.filter { $0.up.directives.option.map(system.options.contains) ?? true }.map { ($0, nil) }
            (pending, findings) = (0, [])
        }
        var digest = Digest()
        digest.update("\(system.name)\u{0}\(system.schema)\u{0}".utf8)
        for (migration, steps) in selected {
            digest.update("\(migration.title)\u{0}".utf8)
            digest.update(migration.up.tokenDigest)
            for step in (steps ?? [:]).sorted(by: { $0.key < $1.key }) { digest.update(step.value.tokenDigest) }
            if steps != nil { digest.update("\u{0}".utf8) }
        }
        self.digest = digest.finish()
        // Applied opt-in migrations are selected, even if the configuration no longer chooses them.
        let options = Set(selected.compactMap(\.migration.up.directives.option))
        self.system = MigrationSystem(
            name: system.name, schema: system.schema, requires: [], description: system.description,
            folder: system.folder, options: options)
    }

    private static func selected(
        _ migration: Migration, _ state: SystemState, _ applied: AppliedState
    ) throws -> Selected? {
        guard let record = state.record(of: migration) else { return nil }
        if record.state == .applying { return applied.steps[migration.title].map { (migration, $0) } }
        guard let source = applied.sources[migration.title] else { return (migration, nil) }
        let script = try MigrationScript(path: migration.up.path, recorded: source)
        return (Migration(version: migration.version, name: migration.name, up: script, down: migration.down), nil)
    }

    private static func finding(
        _ error: MigrationError, _ folder: MigrationFolder, _ applied: AppliedState
    ) -> Finding {
        guard case .changed(_, let title, _, _, _, _, _) = error,
            let migration = folder.versioned.first(where: { $0.title == title }),
            let source = applied.sources[title]
        else { return Finding("", .error, error.description, mend: error.hint) }
        let explained = error.explained(applied: source, file: migration)
        return Finding(title, .error, explained.description, mend: explained.hint)
    }

    private static func unfinished(
        _ migration: Migration, _ state: SystemState, _ applied: AppliedState
    ) -> Finding? {
        let name = "\(state.system.name)/\(migration.title)"
        switch state.record(of: migration)?.state {
        case .applying:
            let done = applied.steps[migration.title]?.count ?? 0
            return Finding(
                migration.title, .error,
                "\(name) was begun and not finished: \(done == 0 ? "none" : "\(done)") of its steps is done",
                mend: "run 'reeve migrate up', which continues it")
        case .reverting:
            return Finding(
                migration.title, .error, "\(name) is partly reverted", mend: "run 'reeve migrate down' again")
        default: return nil
        }
    }

    /// Returns whether one of the migrations contains the name of an object, as opposed to code that computes the name.
    func names(_ identity: ObjectIdentity) -> Bool { selected.contains { $0.migration.up.names(identity.name) } }

    /// Returns those of some roles on whose existence the schema may depend.
    func rolesAskedFor(_ roles: [String]) -> [String] { selected.flatMap { $0.migration.up.rolesAskedFor(roles) } }

    /// The digest in hexadecimal digits.
    var hex: String { Bytes(digest).hex }
}

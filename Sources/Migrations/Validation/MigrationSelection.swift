import Hashing
import Ledger
import Postgres

/// The selected migrations of one system: the applied migrations, or all migrations.
struct MigrationSelection: Sendable {
    let system: MigrationSystem
    /// The titles of the selected migrations.
    let titles: Set<String>
    /// SHA-256 of the name of the system, its schema, and the titles and token digests of the migrations.
    let digest: [UInt8]
    /// The number of migrations in the folder that are not applied.
    let pending: Int

    /// - Parameter records: the system's records in the ledger; nil to select all migrations, except opt-in migrations
    ///   that were not chosen.
    /// - Throws: `MigrationError.missingFile` for an applied migration whose file does not exist.
    init(_ system: MigrationSystem, _ folder: MigrationFolder, records: [MigrationRecord]?) throws {
        let all = folder.versioned + folder.repeatable
        let chosen: [Migration]
        if let records {
            let state = SystemState(system: system, folder: folder, records: records)
            if case .missingFile(let name, let title)? = state.contradictions.first {
                throw MigrationError.missingFile(system: name, title: title)
            }
            chosen = all.filter { state.record(of: $0).map { $0.state != .applying } ?? false }
            pending = state.pendingVersioned.count + state.pendingRepeatable.count
        } else {
            chosen = all.filter { $0.up.directives.option.map(system.options.contains) ?? true }
            pending = 0
        }
        titles = Set(chosen.map(\.title))
        var digest = Digest()
        digest.update("\(system.name)\u{0}\(system.schema)\u{0}".utf8)
        for migration in chosen {
            digest.update("\(migration.title)\u{0}".utf8)
            digest.update(migration.up.tokenDigest)
        }
        self.digest = digest.finish()
        // Applied opt-in migrations are selected, even if the configuration no longer chooses them.
        let options = Set(chosen.compactMap(\.up.directives.option))
        self.system = MigrationSystem(
            name: system.name, schema: system.schema, requires: [], description: system.description,
            folder: system.folder, options: options)
    }

    /// The digest in hexadecimal digits.
    var hex: String { Bytes(digest).hex }
}

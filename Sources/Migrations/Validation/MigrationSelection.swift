import Hashing
import Ledger
import Postgres

/// The migrations of one system that count: those that are applied, or all of them.
struct MigrationSelection: Sendable {
    let system: MigrationSystem
    /// By title.
    let titles: Set<String>
    /// SHA-256 over the titles and token digests, the name of the system and its schema.
    let digest: [UInt8]
    /// Those of the folder that are not applied.
    let pending: Int

    /// - Parameter records: what the ledger knows of the system; nil for all migrations that are not opt-in or chosen.
    /// - Throws: `MigrationError.missingFile` for an applied migration whose file is gone.
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
        // What is applied is wanted, whatever the configuration says now.
        let options = Set(chosen.compactMap(\.up.directives.option))
        self.system = MigrationSystem(
            name: system.name, schema: system.schema, requires: [], description: system.description,
            folder: system.folder, options: options)
    }

    /// The digest in hexadecimal digits.
    var hex: String { Bytes(digest).hex }
}

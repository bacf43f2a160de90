import Backups
import Kernel
import Ledger
import Postgres

/// The re-encryption of backups.
extension BackupWork {
    /// Encrypts all backups again for the configured recipients. A backup that cannot be relied on is left unchanged,
    /// because its manifest would be signed, and recorded in the ledger.
    ///
    /// - Returns: the number of parts that were written again, and an error for each backup that was left unchanged.
    func rewrap(
        identity: String?, progress: @escaping @Sendable (String) -> Void
    ) async throws -> (parts: Int, damaged: [BackupError]) {
        let settings = BackupSettings.maker(configuration)
        guard !settings.recipients.isEmpty else { throw BackupError.noRecipients }
        guard let identity = BackupSettings.identity(configuration, given: identity) else {
            throw BackupError.needsIdentity(id: nil)
        }
        return try await alone { connection, lock in
            var result = (parts: 0, damaged: [BackupError]())
            for repository in repositories { try await reconcile(repository, actor: Invocation.person, on: connection) }
            for repository in repositories {
                let reviewed = try await review(repository, on: connection)
                let (place, usable) = (repository.store.place, Set(reviewed.review.usable.map(\.manifest.id)))
                for stored in reviewed.contents.manifests where !usable.contains(stored.manifest.id) {
                    let problem = reviewed.review.problem(with: stored.manifest.id)
                    result.damaged.append(.review(place: place, problem))
                }
                result.parts += try await repository.rewrap(
                    database: open.name, identity: identity, recipients: settings.recipients, under: lock,
                    rewriting: rewriting(on: connection), trusted: { usable.contains($0.manifest.id) },
                    damaged: { result.damaged.append($0) }, progress: progress)
                // A change of keys that was interrupted has left parts behind.
                _ = try await repository.removeOrphans(of: open.name, under: lock)
            }
            return result
        }
    }

    /// Signs the backups that are not signed with the first configured key. A backup is signed only if its manifest is
    /// the one that its maker has recorded in the ledger.
    ///
    /// - Returns: the IDs of the backups that were signed, and of those that were not.
    func sign() async throws -> (signed: [String], refused: [String]) {
        guard !keys.isEmpty else {
            throw UsageError(
                "no signing key is configured",
                hint: "make one with 'reeve backup key new-signing FILE', and set backup.signing_key to FILE")
        }
        return try await alone { connection, lock in
            var result = (signed: [String](), refused: [String]())
            for repository in repositories {
                try await reconcile(repository, actor: Invocation.person, on: connection)
                let place = repository.store.place
                let records = try await connection.with { try BackupLedger.records(on: $0) }.filter {
                    $0.place == place
                }
                // Whoever can write to the repository can make a backup be found.
                let known = Dictionary(records.filter { !$0.isFound }.map { ($0.id, $0.manifests) }) { one, _ in one }
                result.signed += try await repository.sign(
                    database: open.name, with: rewriting(on: connection), under: lock
                ) { stored in
                    let isKnown = known[stored.manifest.id]?.contains(stored.sha256) == true
                    if !isKnown { result.refused.append(stored.manifest.id) }
                    return isKnown
                }
            }
            return result
        }
    }

    private func rewriting(on connection: Connection) -> ManifestRewriting {
        ManifestRewriting(key: keys.first) { id, place, sha256, isWritten in
            try await connection.with { connection in
                if isWritten {
                    try BackupLedger.rewritten(id: id, place: place, manifest: sha256, on: connection)
                } else {
                    try BackupLedger.rewrite(id: id, place: place, manifest: sha256, on: connection)
                }
            }
        }
    }
}

import Hashing
import Ledger
import Storage

/// Writes manifests again, for a change of keys. The ledger learns of the new manifest before it is written, and drops
/// the old one after. So the ledger and the repository agree whenever the process is killed.
public struct ManifestRewriting: Sendable {
    /// The key that the manifests are signed with; nil: they are not signed.
    let key: SigningKey?
    /// Tells the ledger, with the ID of a backup, the place and the SHA-256 of the manifest, that the manifest will be
    /// written, or was written.
    let tell: @Sendable (_ id: String, _ place: String, _ sha256: String, _ isWritten: Bool) async throws -> Void

    public init(
        key: SigningKey?,
        tell:
            @escaping @Sendable (_ id: String, _ place: String, _ sha256: String, _ isWritten: Bool) async throws ->
            Void
    ) {
        self.key = key
        self.tell = tell
    }

    /// - Throws: `StorageError`; `BackupError.unreadable`; the errors of `tell`.
    func write(_ manifest: Manifest, to repository: Repository) async throws {
        let object = "\(manifest.prefix)/\(Manifest.name)"
        let bytes = try manifest.readable(as: object, signedBy: key)
        let sha256 = try Manifest.decode(bytes, object: object).sha256
        try await tell(manifest.id, repository.store.place, sha256, false)
        try await repository.store.write(bytes, to: object)
        try await tell(manifest.id, repository.store.place, sha256, true)
    }
}

extension Repository {
    /// Signs the manifests that are not signed with the key.
    ///
    /// - Parameter trusted: whether a manifest may be signed.
    /// - Returns: the IDs of the backups whose manifests were signed.
    /// - Throws: `BackupError.lockLost`; `StorageError`.
    public func sign(
        database: String, with rewriting: ManifestRewriting, under lock: BackupLock,
        trusted: (StoredManifest) -> Bool
    ) async throws -> [String] {
        guard let key = rewriting.key else { return [] }
        var signed: [String] = []
        for stored in try await stored(of: database) where !stored.isSigned(with: [key]) && trusted(stored) {
            try await lock.check()
            try await rewriting.write(stored.manifest, to: self)
            signed.append(stored.manifest.id)
        }
        return signed
    }
}

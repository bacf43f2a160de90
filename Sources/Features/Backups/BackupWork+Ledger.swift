import Backups
import Kernel
import Ledger
import Postgres
import Telemetry

/// The synchronization of the ledger with the repositories.
extension BackupWork {
    /// Returns what the ledger records about a backup.
    ///
    /// - Throws: `BackupError.badManifest` if the times in the manifest are not valid.
    static func entry(of manifest: Manifest, sha256: String) throws -> BackupLedger.Entry {
        do {
            return BackupLedger.Entry(
                id: manifest.id, bytes: manifest.bytes, startedAt: try Timestamp.fromPostgres(manifest.startedAt),
                finishedAt: try Timestamp.fromPostgres(manifest.finishedAt), manifest: sha256)
        } catch is PostgresError {
            throw BackupError.badManifest(
                object: "\(manifest.database)/\(manifest.id)",
                reason: "its times are implausible: \(manifest.startedAt) to \(manifest.finishedAt)")
        }
    }

    /// Records in the ledger the backups of a repository that the ledger lacks. The process that made such a backup was
    /// killed after it had written the manifest, or could not reach the ledger. The backups count as unproven.
    ///
    /// Records also which backups are gone. Such a record stays, so that the loss is told until an operator gives up
    /// the backup; the record of a backup whose removal was interrupted is dropped.
    ///
    /// - Throws: `StorageError`; `LedgerError`; `PostgresError`.
    func compare(with repository: Repository, actor: String, on connection: Connection) async throws {
        let place = BackupLedger.Place(repository.store.place, repository: try await repository.store.mark()?.id)
        // The ledger is read before and after the repository, because another process may add a backup meanwhile, or
        // begin to remove one.
        let before = try await records(of: place, on: connection)
        let there = try await repository.ids(of: open.name)
        let after = try await records(of: place, on: connection)
        for id in there.subtracting(after.filter { !$0.value.manifests.isEmpty }.keys).sorted() {
            try await find(id, in: repository, place, actor: actor, on: connection)
        }
        try await connection.with { try BackupLedger.see(ids: there, place: place.address, on: $0) }
        try await readProofs(of: after, in: repository, place, actor: actor, on: connection)
        for (id, record) in after.sorted(by: { $0.key < $1.key }) where before[id] != nil && !there.contains(id) {
            if record.excusedAt != nil {
                try await connection.with {
                    try BackupLedger.forget(id: id, place: place.address, actor: actor, on: $0)
                }
            } else if record.missedAt == nil {
                try await connection.with { try BackupLedger.miss(id: id, place: place.address, actor: actor, on: $0) }
                logger.error(
                    "a backup is gone from its repository, and nothing has removed it",
                    [LogField("backup", id), LogField("repository", place.address)])
            }
        }
    }

    /// Records the results of restore tests that another machine has stored in the repository. Only a signed result
    /// counts: any account that may write to the repository could store one.
    private func readProofs(
        of records: [String: BackupRecord], in repository: Repository, _ place: BackupLedger.Place, actor: String,
        on connection: Connection
    ) async throws {
        if keys.isEmpty { return }
        for stored in try await repository.contents(of: open.name).manifests {
            guard let proof = try await Proof.readSigned(stored, in: repository, keys: keys) else { continue }
            let known = records[stored.manifest.id]?.testedAt
            if let known, known >= proof.result.testedAt { continue }
            let entry = try Self.entry(of: stored.manifest, sha256: stored.sha256)
            try await connection.with {
                try BackupLedger.prove(entry, place: place, proof.result, actor: actor, on: $0)
            }
        }
    }

    private func find(
        _ id: String, in repository: Repository, _ place: BackupLedger.Place, actor: String, on connection: Connection
    ) async throws {
        do {
            let stored = try await repository.stored(id, of: open.name)
            let entry = try Self.entry(of: stored.manifest, sha256: stored.sha256)
            let isNew = try await connection.with {
                try BackupLedger.find(entry, place: place, actor: actor, on: $0)
            }
            if isNew { logger.notice("recorded a backup that was missing from the ledger", [LogField("backup", id)]) }
        } catch let error as BackupError {
            logger.warning("a backup is ignored", [LogField("error", error)])
        }
    }

    /// Compares the ledger with a repository. Call this only under the lock that `alone` acquires.
    ///
    /// - Throws: `BackupError.foreign` if the backups belong to another database; the errors of `compare`.
    func reconcile(_ repository: Repository, actor: String, on connection: Connection) async throws {
        _ = try await repository.claim(open.name, on: connection)
        try await compare(with: repository, actor: actor, on: connection)
    }

    /// Returns the records of the backups that are gone, after comparing the ledger with every repository.
    ///
    /// - Throws: the errors of `reconcile`. A repository that is another one than the ledger knows is not compared: all
    ///   of the known one's backups are gone.
    func gone() async throws -> [BackupRecord] {
        try await alone { connection, _ in
            var gone: [BackupRecord] = []
            for repository in repositories {
                let mark = try await repository.store.mark()?.id
                try await compare(with: repository, actor: Invocation.person, on: connection)
                gone += try await connection.with { try BackupLedger.records(on: $0) }.filter {
                    $0.place == repository.store.place
                        && ($0.missedAt != nil || $0.repository != nil && $0.repository != mark)
                }
            }
            return gone
        }
    }

    func forget(_ records: [BackupRecord], actor: String) async throws {
        try await withLedger { connection in
            for record in records {
                try BackupLedger.forget(id: record.id, place: record.place, actor: actor, on: connection)
            }
        }
    }

    private func records(
        of place: BackupLedger.Place, on connection: Connection
    ) async throws -> [String: BackupRecord] {
        try await connection.with { connection in
            let own = try BackupLedger.records(on: connection).filter {
                $0.place == place.address && ($0.repository == nil || $0.repository == place.repository)
            }
            return Dictionary(own.map { ($0.id, $0) }) { one, _ in one }
        }
    }
}

import Backups
import Kernel
import Ledger
import Postgres

/// The test and the restore of backups.
extension BackupWork {
    func test(
        _ manifest: Manifest, in repository: Repository, identity: String?, actor: String,
        progress: @escaping Restorer.Progress = { _, _ in }
    ) async throws -> Proof {
        let test = RestoreTest(
            repository: repository, manifest: manifest,
            settings: BackupSettings.restorer(configuration, identity: identity), folder: scratchFolder,
            beside: open.database.direct, checks: try BackupSettings.checks(open.systems), logger: logger)
        let entry = try Self.entry(of: manifest)
        let proof = try await test.run(progress: progress)
        try await withLedger { connection in
            try BackupLedger.prove(
                entry, place: repository.store.place, restoreSeconds: proof.restoreSeconds,
                differences: proof.differences.count,
                mismatchedTables: Set(proof.differences.filter { $0.kind == "table" }.map(\.object)).count,
                actor: actor, on: connection)
        }
        return proof
    }

    /// The folder for scratch clusters.
    var scratchFolder: String { "\(configuration.stateFolder)/scratch" }

    /// The options of a restore.
    struct RestoreOrder: Sendable {
        var identity: String?
        var makesRoles = false
        var isMasked = false
        /// Whether the current content of the target is replaced. The old content is kept in another database.
        var replaces = false
        /// Whether the target was created for this restore. The restore then sets the owner, the grants and the
        /// connection limit that the backup records.
        var isMade = false
        /// Trusted roles in addition to the configured ones.
        var trustedRoles: [String] = []
        var selection = PartialRestore.Selection()
        /// The record of an unfinished restore. If it is set, only the missing constraints of that restore are created.
        var unfinished: UnfinishedRestore?
    }

    /// Restores tables or schemas, or creates the constraints that an unfinished restore of tables or schemas has not
    /// created.
    ///
    /// - Returns: a note for each object that was left out, or that differs from the backup.
    func restoreTables(
        _ manifest: Manifest, from repository: Repository, into target: ConnectionSettings, _ order: RestoreOrder,
        progress: @escaping Restorer.Progress
    ) async throws -> [String] {
        let restore = PartialRestore(
            try restorer(manifest, repository, order), order.selection, folder: scratchFolder,
            beside: open.database.direct)
        if let record = order.unfinished { return try await restore.makeConstraints(record, in: target) }
        return try await restore.restore(into: target, progress: progress)
    }

    private func restorer(_ manifest: Manifest, _ repository: Repository, _ order: RestoreOrder) throws -> Restorer {
        var settings = BackupSettings.restorer(
            configuration, identity: order.identity, trusting: order.trustedRoles)
        settings.makesRoles = order.makesRoles
        settings.restoresAccess = order.replaces || order.isMade
        if order.isMasked {
            settings.masking = MaskSection.rules(open.systems)
            guard !settings.masking.isEmpty else {
                throw UsageError(
                    "no system defines columns to mask",
                    hint: "add 'mask:' to the system.yaml of a system, or name the systems with 'systems:' in "
                        + "reeve.yaml")
            }
        }
        return Restorer(repository: repository, manifest: manifest, settings: settings, logger: logger)
    }

    /// Restores a whole backup.
    ///
    /// - Returns: notes for the user.
    func restore(
        _ manifest: Manifest, from repository: Repository, into target: ConnectionSettings, _ order: RestoreOrder,
        progress: @escaping Restorer.Progress
    ) async throws -> [String] {
        let restorer = try restorer(manifest, repository, order)
        guard order.replaces else {
            try await restorer.restore(into: target, progress: progress)
            if order.isMade { return [] }
            return try await restorer.keptAccess(of: target).map { [$0] } ?? []
        }
        let former = try await Replacement(of: target, like: manifest).replace {
            try await restorer.restore(into: $0, progress: progress)
        }
        let unfinished = try? await Connection.opened(target) { connection in
            try await connection.with { try Replacement.unfinished(on: $0) }
        }
        return ["the previous contents are in the database '\(former)'; drop it when they are no longer needed"]
            + (unfinished ?? []).map {
                "the database '\($0)' belongs to an unfinished restore; unless that restore is running, drop it"
            }
    }
}

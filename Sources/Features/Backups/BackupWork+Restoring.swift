import Backups
import Kernel
import Ledger
import Postgres
import Processes
import Telemetry

/// The test and the restore of backups.
extension BackupWork {
    func test(
        _ found: FoundBackup, identity: String?, within limit: Duration? = nil, actor: String,
        progress: @escaping Restorer.Progress = { _, _ in }
    ) async throws -> Proof {
        var test = RestoreTest(
            repository: found.repository, stored: found.stored, signingKey: keys.first,
            settings: BackupSettings.restorer(configuration, identity: identity), folder: scratchFolder,
            beside: open.database.direct, checks: try BackupSettings.checks(open.systems), logger: logger)
        test.limit = limit
        let entry = try Self.entry(of: found.manifest, sha256: found.stored.sha256)
        let place = BackupLedger.Place(
            found.repository.store.place, repository: try await found.repository.store.mark()?.id)
        let proof = try await ChildPriority.$current.withValue(BackupSettings.testPriority(configuration)) {
            try await test.run(progress: progress)
        }
        do {
            try await withLedger { try BackupLedger.prove(entry, place: place, proof.result, actor: actor, on: $0) }
        } catch let error as PostgresError where error.kind != .server {
            // A machine that only tests need not reach the database, and the database may be what was lost.
            logger.warning(
                keys.isEmpty
                    ? "the result is in the repository, but not in the ledger, which cannot be reached; without a "
                        + "signing key it does not count there"
                    : "the result is in the repository; the ledger, which cannot be reached, learns of it with the next "
                        + "backup",
                [LogField("backup", found.manifest.id), LogField("error", error)])
        }
        return proof
    }

    /// Makes this database the owner of its backups, after a whole backup was restored into it. Its ledger is as old as
    /// the backup, so the absence of a backup that the ledger records is no loss. A repository that does not answer
    /// keeps the former owner, and is told of by the next backup.
    func takeOver(after what: String) async {
        do {
            try await withLedger { try BackupLedger.excuseAll(on: $0) }
            try await alone { connection, _ in
                for repository in repositories {
                    _ = try await repository.claim(open.name, on: connection, adopts: true)
                    try await compare(with: repository, actor: Invocation.person, on: connection)
                    // Nobody was asked, so only backups that can be relied on are taken over.
                    let sound = Set(try await review(repository, on: connection).review.sound.map(\.manifest.id))
                    try await connection.with {
                        try BackupLedger.adopt(
                            ids: sound, place: repository.store.place, actor: Invocation.person, on: $0)
                    }
                }
            }
        } catch {
            logger.warning(
                "the repositories do not know the restored database yet; take the backups over with 'reeve backup "
                    + "create --adopt --confirm=\(open.name)'",
                [LogField("after", what), LogField("error", error)])
        }
    }

    /// Whether a target is the database whose backups these are.
    func isOwn(_ target: ConnectionSettings) async -> Bool {
        let own = try? await open.database.withDirectConnection(named: "reeve backup") { connection in
            try await connection.with { try Manifest.Origin.read(on: $0) }
        }
        let other = try? await Connection.opened(target) { connection in
            try await connection.with { try Manifest.Origin.read(on: $0) }
        }
        return own != nil && own == other
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
        /// Whether the target is to become the database that was backed up. The restore then sets the owner, the grants
        /// and the connection limit that the backup records.
        var restoresAccess = false
        /// Whether the target was created for this restore. It is dropped if the restore fails.
        var isMade = false
        /// Trusted roles in addition to the configured ones.
        var trustedRoles: [String] = []
        /// The tablespaces that take the place of the backup's, by name.
        var tablespaces: [String: String] = [:]
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
        return try await droppingMade(target, like: manifest, order) {
            try await restore.restore(into: target, progress: progress)
        }
    }

    /// Runs `body`. If it fails, drops the target if it was created for this restore.
    private func droppingMade<T: Sendable>(
        _ target: ConnectionSettings, like manifest: Manifest, _ order: RestoreOrder, _ body: () async throws -> T
    ) async throws -> T {
        do {
            return try await body()
        } catch {
            // If only the hook has failed, or only constraints are missing, the contents are complete.
            switch error {
            case BackupError.leftClosed(_, .some, _), BackupError.constraintsLeft, BackupError.outcomeUnknown:
                throw error
            default: break
            }
            guard order.isMade else { throw error }
            // In a separate task, because the current task may be cancelled.
            try? await Task { try await Replacement(of: target, like: manifest).dropMade() }.value
            if case BackupError.leftClosed(_, nil, let cause) = error { throw cause }
            throw error
        }
    }

    private func restorer(
        _ manifest: Manifest, _ repository: Repository, _ order: RestoreOrder, within access: DatabaseAccess? = nil
    ) throws -> Restorer {
        var settings = BackupSettings.restorer(
            configuration, identity: order.identity, trusting: order.trustedRoles)
        settings.makesRoles = order.makesRoles
        settings.restoresAccess = order.replaces || order.isMade || order.restoresAccess
        settings.accessLimit = access
        settings.tablespaces = order.tablespaces
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
    /// - Returns: what the server refused, and notes for the user.
    func restore(
        _ manifest: Manifest, from repository: Repository, into target: ConnectionSettings, _ order: RestoreOrder,
        progress: @escaping Restorer.Progress
    ) async throws -> RestoreOutcome {
        try await droppingMade(target, like: manifest, order) {
            try await fill(manifest, from: repository, into: target, order, progress: progress)
        }
    }

    private func fill(
        _ manifest: Manifest, from repository: Repository, into target: ConnectionSettings, _ order: RestoreOrder,
        progress: @escaping Restorer.Progress
    ) async throws -> RestoreOutcome {
        guard order.replaces else {
            let restorer = try restorer(manifest, repository, order)
            var outcome = try await restorer.restore(into: target, progress: progress)
            if !order.isMade, !order.restoresAccess, let note = try await restorer.keptAccess(of: target) {
                outcome.notes.append(note)
            }
            return outcome
        }
        let replacement = Replacement(of: target, like: manifest, tablespaces: order.tablespaces)
        let restorer = try restorer(manifest, repository, order, within: try await replacement.formerAccess())
        var (former, outcome, withheld) = try await replacement.replace {
            try await restorer.restore(into: $0, progress: progress)
        }
        let unfinished = try? await Connection.opened(target) { connection in
            try await connection.with { try Replacement.unfinished(on: $0) }
        }
        if let withheld { outcome.notes.append(withheld) }
        outcome.notes +=
            ["the previous contents are in the database '\(former)'; drop it when they are no longer needed"]
            + (unfinished ?? []).map {
                "the database '\($0)' belongs to an unfinished restore; unless that restore is running, drop it"
            }
        return outcome
    }
}

extension Proof {
    /// The result as the ledger records it.
    var result: BackupLedger.TestResult {
        BackupLedger.TestResult(
            testedAt: (try? Timestamp.fromPostgres(testedAt)) ?? .now, restoreSeconds: restoreSeconds,
            differences: differences.count,
            mismatchedTables: Set(differences.filter { $0.kind == "table" }.map(\.object)).count)
    }
}

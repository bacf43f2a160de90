import Foundation
import Ledger
import Postgres
import Processes
import Storage
import Telemetry

/// Makes backups.
///
///     let maker = BackupMaker(database: database, name: "main", repositories: [repository], settings: settings)
///     let result = try await maker.make()
///
/// `make` takes a snapshot, reads the fingerprints of the contents in it, dumps the contents in parts, and writes the
/// manifest last. Tables that have not changed since the previous backup are not dumped again: the manifest refers to
/// their earlier parts.
public struct BackupMaker: Sendable {
    public struct Settings: Sendable {
        /// The age recipients that can decrypt the backup. If empty, the backup is not encrypted, and
        /// `isUnencryptedAllowed` must be true.
        public var recipients: [String] = []
        public var isUnencryptedAllowed = false
        /// The number of dumps that run concurrently.
        public var jobs = 2
        /// Whether unchanged tables are dumped, too.
        public var isFull = false
        public var lockWait: Duration = .zero
        public var version = ""
        /// The maximum write rate of all repositories together; nil: unlimited.
        public var bytesPerSecond: Int?
        /// Whether a repository is skipped if it has less free space than the backup is expected to need.
        public var checksRoom = true
        /// Whether the passwords of roles are backed up, as the server stores them. Requires a superuser.
        public var hasRolePasswords = false
        /// The keys that manifests are signed with. The first one signs; if there is none, the manifest is not signed.
        public var signingKeys: [SigningKey] = []
        /// The roles whose code may run with the rights of this role when their tables are read (`DatabaseContent`).
        public var trustedRoles: [String] = []
        /// Called with the ID of a backup before any of it is written. Each attempt has its own ID.
        public var begun: (@Sendable (String) -> Void)?
        /// This option has two effects:
        /// - If the repository contains backups of another database under this name, the backup takes over the name.
        /// - If the ledger records backups in the repository, but the repository has none, the backup is made
        ///   nevertheless.
        public var adopts = false
        /// Called when a step has ended, with its name and its duration. Steps overlap.
        public var timed: (@Sendable (String, Duration) -> Void)?
        var sizes = TableSlice.Sizes()
        /// The time between two checks that the session still holds the backup lock.
        var lockCheck: Duration = .seconds(30)
        /// How long to wait for a table that another session has locked.
        var tableWait: Duration = .seconds(30)
        /// The time between two checks whether a dump waits for a locked table.
        var tableWatch: Duration = .seconds(5)

        public init() {}
    }

    let database: Database
    let name: String
    let repositories: [Repository]
    let settings: Settings
    let logger: Logger

    public init(
        database: Database, name: String, repositories: [Repository], settings: Settings, logger: Logger = .silent
    ) {
        self.database = database.unlimited
        self.name = name
        self.repositories = repositories
        self.settings = settings
        self.logger = logger
    }

    /// A backup, the repositories that have it, and the repositories that could not be written, with their errors.
    public struct Result: Sendable {
        public let manifest: Manifest
        /// SHA-256 of the manifest, as `StoredManifest` has it.
        public let sha256: String
        public let places: [BackupLedger.Place]
        public let failed: [(place: String, error: any Error)]
    }

    /// Makes a backup.
    ///
    /// - Parameter progress: called for each finished part, with its name and its size in bytes.
    /// - Throws: `BackupError`, `PipelineError`, `StorageError`, `PostgresError`; the objects of the failed backup are
    ///   removed. If only some of the repositories fail, their errors are returned in `Result.failed` instead.
    public func make(progress: @escaping @Sendable (String, Int) -> Void = { _, _ in }) async throws -> Result {
        if settings.recipients.isEmpty, !settings.isUnencryptedAllowed { throw BackupError.noRecipients }
        try await BackupTools.check(encrypts: !settings.recipients.isEmpty)
        return try await database.withDirectConnection(named: "reeve backup") { connection in
            try await Repository.locked(on: connection, wait: settings.lockWait) {
                try await make(on: connection, $0, progress)
            }
        }
    }

    private func make(
        on connection: Connection, _ lock: BackupLock, _ progress: @escaping @Sendable (String, Int) -> Void
    ) async throws -> Result {
        try await connection.with { connection in
            if let backup = try RestoreMark.backup(on: connection) { throw BackupError.beingRestored(backup: backup) }
            try refuseUnreadable(on: connection)
        }
        let began = ContinuousClock.now
        let destinations = Destinations(repositories, bytesPerSecond: settings.bytesPerSecond)
        let marks = Gathered<BackupLedger.Place>()
        try await destinations.each { repository in
            let mark = try await repository.claim(name, on: connection, adopts: settings.adopts)
            marks.add([BackupLedger.Place(repository.store.place, repository: mark.id)])
            try await lock.check()
            let cleared = try await repository.store.clearUnfinished("\(name)/")
            if cleared > 0 {
                logger.notice("removed objects that an interrupted backup left behind", [LogField("objects", cleared)])
            }
            _ = try await repository.removeOrphans(of: name, under: lock)
        }
        settings.timed?("the repositories are prepared", ContinuousClock.now - began)
        let bytes = try await connection.with { connection in
            try refuseHiddenRows(on: connection)
            return try connection.query("SELECT pg_database_size(current_database())").first?.get(0, as: Int.self)
                ?? 0
        }
        try await destinations.each { try await checkRoom($0, databaseBytes: bytes) }
        let evidence = try await connection.with {
            try RepositoryReview.Evidence.read(keys: settings.signingKeys, on: $0)
        }
        let server = await connection.serverVersion
        let tools = try await BackupTools.dumping(server: server, beside: connection)
        // Another session may have requested a lock on a table after the snapshot's session locked it and before the
        // dump does. The dump then queues behind that session and times out. All locks are released, so that the other
        // session can proceed, and the backup is started again.
        var attempt = 0
        while true {
            attempt += 1
            let snapshot = try await timing("the tables are locked, and the snapshot is taken") {
                try await SnapshotTransaction.begin(
                    on: connection, trusting: settings.trustedRoles, wait: settings.tableWait)
            }
            var id: String?
            do {
                let plan = DumpPlan(
                    snapshot.relations, hasLargeObjects: snapshot.hasLargeObjects, server: server, settings.sizes)
                let run = BackupRun(
                    maker: self, tools: tools, snapshot: snapshot, plan: plan, lock: lock, destinations: destinations,
                    evidence: evidence, progress: progress)
                id = run.id
                if !snapshot.holdsLocks {
                    logger.notice(
                        "the server's lock table is too small to lock all tables beside pg_dump, so no table is "
                            + "locked, and the backup is started again if a table is altered or truncated meanwhile; "
                            + "to lock them, raise max_locks_per_transaction",
                        [LogField("relations", snapshot.relations.count)])
                } else if !run.budget.locksAll {
                    logger.notice(
                        "the server's lock table is too small to lock all tables in several dumps, so the dumps take "
                            + "turns; to run them concurrently, raise max_locks_per_transaction",
                        [LogField("relations", snapshot.relations.count)])
                }
                tellOfWholeTables(snapshot.relations)
                settings.begun?(run.id)
                let stored = try await run.finish()
                // The backup is complete, even if ending the snapshot fails.
                try? await snapshot.end()
                if !destinations.failed.isEmpty { await clear(run.id, in: destinations) }
                let places = destinations.live.compactMap { repository in
                    marks.all.first { $0.address == repository.store.place }
                }
                return Result(
                    manifest: stored.manifest, sha256: stored.sha256, places: places,
                    failed: destinations.failed)
            } catch {
                // The locks and the snapshot show who is in the way, and what has changed.
                let obstacle = await obstacle(error, snapshot)
                try? await snapshot.end()
                if let id { await clear(id, in: destinations) }
                guard let reason = try reasonToRepeat(obstacle, attempt) else { throw error }
                logger.notice("\(reason); the backup is started again", [LogField("attempt", attempt)])
                try await Task.sleep(for: .milliseconds(Int.random(in: 50...500) * attempt))
            }
        }
    }

    private static let attempts = 8

    /// Runs a step, and tells how long it took.
    func timing<T: Sendable>(_ step: String, _ body: () async throws -> T) async rethrows -> T {
        let began = ContinuousClock.now
        let result = try await body()
        settings.timed?(step, ContinuousClock.now - began)
        return result
    }

    private func tellOfWholeTables(_ relations: [DatabaseContent.Relation]) {
        let whole = relations.filter { $0.hasRows && $0.reading == .copy && TableSlice.isLarge($0, settings.sizes) }
        guard let largest = whole.max(by: { $0.bytes < $1.bytes }) else { return }
        logger.notice(
            "large tables are stored as a whole and not in slices, because they can run code of roles that are not "
                + "trusted; if you trust their owners, name the owners in trusted_roles",
            [LogField("tables", whole.count), LogField("largest", largest.path)])
    }

    /// Why a backup failed that may succeed if it is started again.
    private enum Obstacle {
        /// A table could not be locked. `sessions`: those that have locked a table, or wait to do so.
        case locks(sessions: [String])
        case change(SnapshotTransaction.Changed)
    }

    private func obstacle(_ error: any Error, _ snapshot: SnapshotTransaction) async -> Obstacle? {
        if error is CancellationError { return nil }
        if let change = error as? SnapshotTransaction.Changed { return .change(change) }
        if Self.isLockTimeout(error) {
            let sessions = try? await snapshot.connection.with { try LockHolders.read(on: $0) }
            return .locks(sessions: sessions ?? [])
        }
        // The dump of an object that was dropped or altered fails in many ways.
        let change = try? await database.withDirectConnection(named: "reeve backup") { connection in
            do {
                try await connection.with { try snapshot.checkUnchanged(on: $0) }
                let now = try await connection.with { try SnapshotTransaction.definitions(on: $0) }
                let before = try await snapshot.connection.with { try SnapshotTransaction.definitions(on: $0) }
                let gone = before.filter { now[$0.key] == nil }.values.sorted()
                return gone.isEmpty ? nil : SnapshotTransaction.Changed(what: SnapshotTransaction.list(gone))
            } catch let change as SnapshotTransaction.Changed {
                return change
            }
        }
        return change.flatMap { $0 }.map { .change($0) }
    }

    /// Returns why a backup that failed is started again; nil if it is not.
    ///
    /// - Throws: `BackupError.held`, `.changing`, if the last attempt failed for this reason.
    private func reasonToRepeat(_ obstacle: Obstacle?, _ attempt: Int) throws -> String? {
        switch obstacle {
        case .locks(let sessions):
            if attempt >= Self.attempts { throw BackupError.held(holders: sessions) }
            return "a table could not be locked"
                + (sessions.isEmpty ? "" : ", because of \(sessions.joined(separator: "; "))")
        case .change(let change):
            if attempt >= Self.attempts { throw BackupError.changing(attempts: attempt, last: change.what) }
            return "\(change.what) was altered, dropped or truncated"
        case nil: return nil
        }
    }

    private static func isLockTimeout(_ error: any Error) -> Bool {
        if let error = error as? PostgresError { return error.sqlState == "55P03" }
        guard let error = error as? PipelineError else { return false }
        // pg_dump implements --lock-wait-timeout as a statement timeout, so the error does not mention the lock
        // timeout. It quotes the statement LOCK TABLE.
        return error.program.hasSuffix("/pg_dump") && error.errorOutput.contains("LOCK TABLE")
    }

    /// Checks that a repository has enough free space. A full backup, and the first backup, are expected to need a
    /// third of the database's size. Any other backup is expected to need as much as the last backup has written.
    private func checkRoom(_ repository: Repository, databaseBytes: Int) async throws {
        guard settings.checksRoom, let free = try await repository.store.freeBytes() else { return }
        let last = settings.isFull ? nil : try await repository.manifests(of: name).last?.ownBytes
        let needed = last ?? databaseBytes / 3
        guard free < needed else { return }
        throw BackupError.noRoom(place: repository.store.place, free: free, needed: needed)
    }

    /// Removes the objects of the backup `id` from the repositories in which it is not complete. If the task is
    /// cancelled, the removal is limited to 5 s, because the next backup removes the remaining objects. Other objects
    /// without a manifest are not removed: by now, another process may hold the lock, and these objects may belong to
    /// the backup of that process.
    private func clear(_ id: String, in destinations: Destinations) async {
        let repositories = destinations.answering
        let prefix = "\(name)/\(id)/"
        let work = Task {
            await withTaskGroup(of: Void.self) { group in
                for repository in repositories {
                    group.addTask {
                        guard let objects = try? await repository.store.list(prefix).map(\.name) else { return }
                        // If the repository has the manifest, the backup is complete there.
                        if objects.contains(prefix + Manifest.name) { return }
                        for object in objects { try? await repository.store.delete(object) }
                        // Also remove the folder of the objects.
                        _ = try? await repository.store.clearUnfinished(prefix)
                    }
                }
            }
        }
        await withTaskCancellationHandler {
            await work.value
        } onCancel: {
            Deadline.after(.seconds(5)) { work.cancel() }
        }
    }

    /// Refuses, before anything is dumped, a backup whose manifest would not be readable later.
    private func refuseUnreadable(on connection: isolated Connection) throws {
        let now = Timestamp.now.rfc3339
        let needs = try DatabaseContent.needs(on: connection)
        let sketch = Manifest(
            format: Manifest.format, id: "ID", database: name,
            source: try connection.query("SELECT current_database()::text").first?.get(0) ?? "",
            reeve: settings.version, server: connection.serverVersion, pgDump: "", snapshot: "", wal: nil,
            startedAt: now, finishedAt: now, recipients: settings.recipients, tables: [], sequences: [],
            largeObjects: nil, extensions: needs.extensions, tablespaces: needs.tablespaces,
            neededRoles: needs.roles, locale: needs.locale, databaseBytes: needs.bytes, catalog: "",
            settings: try DatabaseContent.settings(on: connection).accepted,
            roles: try DatabaseContent.roles(on: connection),
            parts: [
                Manifest.Part(kind: .catalog).stored(
                    as: "\(name)/ID/catalog", bytes: 0, sha256: String(repeating: "0", count: 64))
            ])
        _ = try sketch.readable(as: "\(sketch.prefix)/\(Manifest.name)")
    }

    /// Refuses to back up as a role that row-level security policies apply to: the dump would lack rows, or fail
    /// halfway.
    private func refuseHiddenRows(on connection: isolated Connection) throws {
        let row = try connection.query(
            """
            SELECT current_user::text, (SELECT c.oid::regclass::text FROM pg_class c
                WHERE c.relrowsecurity AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE'))
                    AND c.relkind IN ('r', 'p') ORDER BY 1 LIMIT 1)
            FROM pg_roles WHERE rolname = current_user AND NOT rolsuper AND NOT rolbypassrls
            """
        ).first
        guard let row, let table: String = try row.get(1, as: String?.self) else { return }
        throw BackupError.hiddenRows(role: try row.get(0), table: table)
    }
}

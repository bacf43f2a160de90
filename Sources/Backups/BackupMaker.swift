import Foundation
import Ledger
import Postgres
import Processes
import Storage
import Telemetry

/// Makes backups.
///
///     let maker = BackupMaker(database: database, name: "main", repository: repository, settings: settings)
///     let manifest = try await maker.make()
///
/// holds a snapshot, reads the content's fingerprints at it, dumps at it in parts, and writes the manifest last. Tables
/// that are what they were in the backup before are not dumped again: their part is referred to.
public struct BackupMaker: Sendable {
    public struct Settings: Sendable {
        /// Who can read the backup; empty: everybody, which must be asked for.
        public var recipients: [String] = []
        public var isUnencryptedAllowed = false
        /// Dumps that run at once.
        public var jobs = 2
        /// Whether to dump also what has not changed.
        public var isFull = false
        public var lockWait: Duration = .zero
        public var version = ""
        /// nil: as fast as it goes; over all repositories together.
        public var bytesPerSecond: Int?
        /// Whether a repository without room for about what is expected is left alone.
        public var checksRoom = true
        /// Whether the passwords of roles, as the server keeps them, are backed up; needs a superuser.
        public var hasRolePasswords = false
        /// Called with the ID of a backup before anything of it is written; each attempt has its own ID.
        public var begun: (@Sendable (String) -> Void)?
        /// Whether the backups that another database has made under the name are taken over.
        public var adopts = false
        var sizes = TableSlice.Sizes()
        /// How often the lock is asked for while the dumps run.
        var lockCheck: Duration = .seconds(30)
        /// How long to wait for a table that somebody has locked.
        var tableWait: Duration = .seconds(30)
        /// How often to look whether a dump waits for one.
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
        self.database = database
        self.name = name
        self.repositories = repositories
        self.settings = settings
        self.logger = logger
    }

    /// A backup, and where it could not be written.
    public struct Result: Sendable {
        public let manifest: Manifest
        public let places: [String]
        public let failed: [(place: String, error: any Error)]
    }

    /// - Parameter progress: called for each part that is done, with its size in bytes.
    /// - Throws: `BackupError`, `PipelineError`, `StorageError`, `PostgresError`; nothing of the backup stays. That one of
    ///   several repositories could not be written is not thrown.
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
        try await connection.with { try refuseUnreadable(on: $0) }
        let destinations = Destinations(repositories, bytesPerSecond: settings.bytesPerSecond)
        try await destinations.each { repository in
            try await repository.claim(name, on: connection, adopts: settings.adopts)
            try await lock.check()
            let cleared = try await repository.store.clearUnfinished("\(name)/")
            if cleared > 0 {
                logger.notice("cleared what an earlier backup left", [LogField("objects", cleared)])
            }
            try await clearParts(repository, under: lock)
        }
        let bytes = try await connection.with { connection in
            try refuseHiddenRows(on: connection)
            return try connection.query("SELECT pg_database_size(current_database())").first?.get(0, as: Int.self)
                ?? 0
        }
        try await destinations.each { try await checkRoom($0, databaseBytes: bytes) }
        let server = await connection.serverVersion
        let tools = try await BackupTools.dumping(server: server, beside: connection)
        // Somebody who waits for a table stands between our lock on it and the dump's: then all is let go, and begun
        // anew after them.
        for attempt in 1... {
            let snapshot = try await SnapshotTransaction.begin(on: connection, wait: settings.tableWait)
            var id: String?
            do {
                let plan = DumpPlan(
                    snapshot.relations, hasLargeObjects: snapshot.hasLargeObjects, server: server, settings.sizes)
                let run = BackupRun(
                    maker: self, tools: tools, snapshot: snapshot, plan: plan, lock: lock, destinations: destinations,
                    progress: progress)
                id = run.id
                if run.isCrowded {
                    logger.notice(
                        "the server's lock table is small for so many tables, so one dump runs at a time; "
                            + "a higher max_locks_per_transaction lets several run",
                        [LogField("relations", snapshot.relations.count)])
                }
                settings.begun?(run.id)
                let manifest = try await run.finish()
                // The backup is whole, whatever becomes of this connection.
                try? await snapshot.end()
                if !destinations.failed.isEmpty { await clear(run.id, in: destinations) }
                return Result(
                    manifest: manifest, places: destinations.live.map(\.store.place), failed: destinations.failed)
            } catch {
                try? await snapshot.end()
                if let id { await clear(id, in: destinations) }
                guard attempt < Self.attempts, Self.isLockTimeout(error) else { throw error }
                logger.notice("a lock was not obtained; the backup starts again", [LogField("attempt", attempt)])
                try await Task.sleep(for: .milliseconds(Int.random(in: 50...500) * attempt))
            }
        }
        throw BackupError.changing(attempts: Self.attempts)
    }

    private static let attempts = 8

    private static func isLockTimeout(_ error: any Error) -> Bool {
        if let error = error as? PostgresError { return error.sqlState == "55P03" }
        guard let error = error as? PipelineError else { return false }
        // pg_dump's way to wait for a lock is a statement timeout.
        return error.program.hasSuffix("/pg_dump") && error.errorOutput.contains("LOCK TABLE")
    }

    /// A third of the database is about what a backup takes, or what the last one took.
    private func checkRoom(_ repository: Repository, databaseBytes: Int) async throws {
        guard settings.checksRoom, let free = try await repository.store.freeBytes() else { return }
        let last = settings.isFull ? nil : try await repository.manifests(of: name).last?.ownBytes
        let needed = last ?? databaseBytes / 3
        guard free < needed else { return }
        throw BackupError.noRoom(place: repository.store.place, free: free, needed: needed)
    }

    /// Removes what a backup that failed has written itself, also when that is because it was cancelled; not for long then,
    /// for the next backup does it too. The lock may be another's by now, and so may all else that no manifest names.
    private func clear(_ id: String, in destinations: Destinations) async {
        let repositories = destinations.answering
        let prefix = "\(name)/\(id)/"
        let work = Task {
            await withTaskGroup(of: Void.self) { group in
                for repository in repositories {
                    group.addTask {
                        guard let objects = try? await repository.store.list(prefix).map(\.name) else { return }
                        // With a manifest it is a backup.
                        if objects.contains(prefix + Manifest.name) { return }
                        for object in objects { try? await repository.store.delete(object) }
                        // And the folder that was made for them.
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

    /// Objects that no manifest names belong to an unfinished backup or change of keys. An unreadable manifest
    /// may name any of them, and may still be repaired by hand: then everything is kept.
    private func clearParts(_ repository: Repository, under lock: BackupLock) async throws {
        var isDamaged = false
        let manifests = try await repository.manifests(of: name) { _ in isDamaged = true }
        if isDamaged { return }
        let orphans = Repository.orphans(try await repository.store.list("\(name)/"), manifests)
        try await repository.remove(orphans, under: lock)
    }

    /// Refuses, before anything is dumped, a backup that is already known to be unreadable later.
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
            settings: try DatabaseContent.settings(on: connection), roles: try DatabaseContent.roles(on: connection),
            parts: [
                Manifest.Part(kind: .catalog).stored(
                    as: "\(name)/ID/catalog", bytes: 0, sha256: String(repeating: "0", count: 64))
            ])
        _ = try sketch.readable(as: "\(sketch.prefix)/\(Manifest.name)")
    }

    /// A role that policies apply to would dump a part of the rows, or fail half-way.
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

import Catalog
import Foundation
import Hashing
import Postgres
import Processes
import SQL
import Storage
import Telemetry

/// One backup from its snapshot to its manifest.
struct BackupRun: Sendable {
    let maker: BackupMaker
    let tools: BackupTools
    let snapshot: SnapshotTransaction
    let lock: BackupLock
    let destinations: Destinations
    /// What is known about the earlier backups.
    let evidence: RepositoryReview.Evidence
    let progress: @Sendable (String, Int) -> Void
    let id: String
    let plan: DumpPlan
    let budget: LockBudget
    private let startedAt: String

    init(
        maker: BackupMaker, tools: BackupTools, snapshot: SnapshotTransaction, plan: DumpPlan, lock: BackupLock,
        destinations: Destinations, evidence: RepositoryReview.Evidence,
        progress: @escaping @Sendable (String, Int) -> Void
    ) {
        self.maker = maker
        self.plan = plan
        self.snapshot = snapshot
        self.lock = lock
        self.destinations = destinations
        self.evidence = evidence
        self.progress = progress
        let jobs = maker.settings.jobs
        budget = LockBudget(
            relations: snapshot.relations.count, capacity: snapshot.lockCapacity, holdsLocks: snapshot.holdsLocks,
            jobs: jobs, sessions: plan.sessions(readers: jobs))
        startedAt = Timestamp.now.rfc3339
        // IDs sort by time, and differ even within the same second.
        let digits = startedAt.prefix(19).filter(\.isNumber)
        id =
            "\(digits.prefix(8))T\(digits.dropFirst(8))Z-"
            + String(UInt32.random(in: 0x1000_0000...UInt32.max), radix: 16)
        var tools = tools
        tools.application = "reeve backup \(id)"
        self.tools = tools
    }

    /// The properties of the database that are read in addition to the rows.
    private struct Surroundings: Sendable {
        let sequences: [Manifest.Sequence]
        let roles: [String]
        let settings: [String]
        let needs: DatabaseContent.Needs
        let source: String
        let largeObjects: Manifest.LargeObjects?
        let estate: String?
        let access: DatabaseAccess
        let origin: Manifest.Origin
    }

    /// The previous backup, and those objects of it that the new backup may refer to.
    struct Reuse: Sendable {
        /// The previous backup; nil if none of its objects may be reused.
        let previous: Manifest?
        let objects: Set<String>
        private let tables: [ExactText: Manifest.Table]
        private let slices: [ExactText: [Int: Manifest.Part]]

        init(previous: Manifest?, objects: Set<String>) {
            self.previous = previous
            self.objects = objects
            tables = Dictionary((previous?.tables ?? []).map { (ExactText($0.path), $0) }) { one, _ in one }
            let parts = (previous?.parts ?? []).filter { $0.slice != nil && objects.contains($0.object) }
            slices = Dictionary(grouping: parts) { ExactText($0.tables.first ?? "") }.mapValues { parts in
                Dictionary(parts.map { ($0.slice?.firstPage ?? 0, $0) }) { one, _ in one }
            }
        }

        /// Returns the part that has the rows of a slice, unless they have changed since; nil if there is none, or if
        /// it may not be reused.
        func part(for slice: TableSlice) -> Manifest.Part? {
            let relation = slice.relation
            let path = ExactText(relation.path)
            guard let table = tables[path], table.definition == relation.definition, table.root == relation.root,
                (table.isOfCopy ?? false) == relation.isOfCopy
            else { return nil }
            return slices[path]?[slice.first ?? 0]
        }
    }

    /// Makes the backup.
    ///
    /// - Throws: `BackupError.lockLost` or `PostgresError` if the lock on the backups is lost; `BackupError.held` if a
    ///   program waits too long for the lock of another session; the errors of the dumps and of the repositories.
    func finish() async throws -> StoredManifest {
        let watch = LockWatch(
            database: maker.database, application: tools.application, limit: maker.settings.tableWait,
            interval: maker.settings.tableWatch)
        return try await lock.watching(every: maker.settings.lockCheck) {
            try await withWatch({ try await watch.run() }, make)
        }
    }

    private func make() async throws -> StoredManifest {
        let server = await snapshot.connection.serverVersion
        // Start the dumps first. If another session requested a stronger lock on a table before the dumps start, the
        // dumps would queue behind that session.
        let previous = Task { try await destinations.newest(of: maker.name, against: evidence) }
        // A repository that hangs must not outlive the backup.
        return try await withTaskCancellationHandler {
            defer { previous.cancel() }
            return try await make(after: previous, server: server)
        } onCancel: {
            previous.cancel()
        }
    }

    private func make(after previous: Task<StoredManifest?, any Error>, server: Int) async throws -> StoredManifest {
        async let data = DataDump(self, plan) { try await reuse(of: try await previous.value) }.finish()
        async let catalogText = maker.timing("the catalog is read") { try await self.catalog() }
        let around = try await maker.timing("settings, roles and sequences are read") { try await surroundings() }
        var (parts, tables) = try await data
        let catalog = Array(try await catalogText.utf8)
        async let stored = store(catalog, kind: .catalog, name: "catalog.txt")
        async let roles = storeRoles()
        async let sequences = store(
            Array(Self.script(around.sequences).utf8), kind: .sequences, name: "sequences.sql")
        parts += try await [stored, roles, sequences]
        // Roles belong to the whole server, and are not part of the snapshot. Only roles that have not changed during
        // the backup are recorded. So the roles are read again at the end, on another connection, because the
        // connection with the snapshot still sees the old roles.
        let rolesAfter = try await maker.database.withDirectConnection(named: "reeve backup") { connection in
            try await connection.with { connection in
                try snapshot.checkUnchanged(on: connection)
                return try DatabaseContent.roles(on: connection)
            }
        }
        let manifest = Manifest(
            format: Manifest.format, id: id, database: maker.name, source: around.source,
            reeve: maker.settings.version, server: server, pgDump: String(tools.programs.majorVersion),
            snapshot: snapshot.id, wal: snapshot.wal, startedAt: startedAt, finishedAt: Timestamp.now.rfc3339,
            recipients: maker.settings.recipients, tables: tables, sequences: around.sequences,
            largeObjects: around.largeObjects, extensions: around.needs.extensions,
            tablespaces: around.needs.tablespaces, neededRoles: around.needs.roles, locale: around.needs.locale,
            databaseBytes: around.needs.bytes, catalog: Digest.hex(Digest.of(catalog)), settings: around.settings,
            roles: around.roles.filter(Set(rolesAfter).contains), parts: parts, estate: around.estate,
            access: around.access, origin: around.origin, previous: try await previous.value?.link)
        let name = "\(manifest.prefix)/\(Manifest.name)"
        let encoded = try manifest.readable(as: name, signedBy: maker.settings.signingKeys.first)
        let began = ContinuousClock.now
        defer { maker.settings.timed?("the manifest is written", ContinuousClock.now - began) }
        try await destinations.each { repository in
            _ = try await repository.claim(maker.name, on: snapshot.connection, adopts: maker.settings.adopts)
            try await repository.checkPresence(manifest)
            // If the lock is lost, another process may remove parts whose presence was just checked.
            try await lock.check()
            try Task.checkCancellation()
            // The backup exists as soon as its manifest does. The write runs in a separate task, which is not
            // cancelled: an interrupted write would leave it unclear whether the backup exists.
            try await Task { try await repository.store.write(encoded, to: name) }.value
        }
        return try Manifest.decode(encoded, object: name)
    }

    private func surroundings() async throws -> Surroundings {
        // Not on the connection of the snapshot, which would keep a lock on each sequence until the end.
        let values = try await maker.database.withDirectConnection(named: "reeve backup") { connection in
            try await connection.with { try DatabaseContent.sequenceValues(snapshot.relations, on: $0) }
        }
        return try await snapshot.connection.with { connection in
            let settings = try DatabaseContent.settings(on: connection)
            for setting in settings.leftOut {
                maker.logger.warning(
                    "a setting is not backed up because its value cannot be parsed", [LogField("setting", setting)])
            }
            return Surroundings(
                sequences: snapshot.relations.compactMap { values[ExactText($0.path)] },
                roles: try DatabaseContent.roles(on: connection),
                settings: settings.accepted,
                needs: try DatabaseContent.needs(on: connection),
                source: try connection.query("SELECT current_database()::text").first?.get(0) ?? "",
                largeObjects: try DatabaseContent.largeObjects(on: connection),
                estate: try RepositoryOwner.read(on: connection)?.estate,
                access: try DatabaseAccess.read(on: connection),
                origin: try Manifest.Origin.read(on: connection))
        }
    }

    /// Returns the newest backup, and those of its objects that every repository has. Returns neither if the new backup
    /// is to be full, or if the newest backup is encrypted for other recipients.
    private func reuse(of newest: StoredManifest?) async throws -> Reuse {
        guard !maker.settings.isFull, let last = newest?.manifest, last.recipients == maker.settings.recipients else {
            return Reuse(previous: nil, objects: [])
        }
        return Reuse(previous: last, objects: try await destinations.common(last))
    }

    // MARK: Parts

    /// Returns the schema as canonical text.
    private func catalog() async throws -> String {
        try await maker.database.withDirectConnection(named: "reeve backup") { connection in
            try await connection.with { try DatabaseContent.schema(snapshot.id, on: $0) }
        }
    }

    private func storeRoles() async throws -> Manifest.Part {
        let passwords = maker.settings.hasRolePasswords ? [] : ["--no-role-passwords"]
        let dump = try tools.command("pg_dumpall", ["--roles-only"] + passwords, on: maker.database.direct)
        return try await write([dump], nil, Manifest.Part(kind: .roles), "roles.sql")
    }

    /// Returns a script that sets each sequence to its value.
    private static func script(_ sequences: [Manifest.Sequence]) -> String {
        sequences.map { sequence in
            let path = ObjectIdentity(.sequence, schema: sequence.schema, sequence.name).path
            return "SELECT pg_catalog.setval(\(quoteLiteral(path)), \(sequence.value), \(sequence.isCalled));\n"
        }.joined()
    }

    /// Stores the output of one pg_dump.
    ///
    /// - Returns: nil if the part turns out not to be needed.
    func store(_ part: DumpPlan.Part, _ gate: PartGate) async throws -> Manifest.Part? {
        let arguments =
            [
                "-Fc", "-Z0", "--no-sync", "--lock-wait-timeout=5s", "--snapshot=\(snapshot.id)",
            ] + snapshot.records.map { "--exclude-schema=\(quotePattern($0))" } + part.arguments
        do {
            defer { gate.leave() }
            if !budget.locksAll { try await onOwnThread(named: "dump") { try gate.enter() } }
            return try await write(
                [try tools.command("pg_dump", arguments, on: maker.database.direct)], nil,
                Manifest.Part(kind: part.kind, tables: part.tables), part.name, gate)
        } catch is PartGate.NotWanted {
            return nil
        }
    }

    /// Reads the rows of a slice on a connection on which the snapshot is open, and stores them as a part.
    ///
    /// - Parameters:
    ///   - print: the fingerprint of the rows; nil: it is computed while the rows are read.
    ///   - earlier: a part of the previous backup that is returned, and nothing stored, if it has the same rows.
    func store(
        _ slice: TableSlice, _ print: ContentFingerprint?, unlessIn earlier: Manifest.Part?, name: String,
        from connection: Connection
    ) async throws -> Manifest.Part {
        let feed = ByteFeed()
        let hashed = Gathered<ContentFingerprint>()
        async let part = feeding(feed, slice, name) {
            // Without a fingerprint, the reading has failed. Its own error is thrown where the reading is awaited.
            guard let print = hashed.all.last else { throw CancellationError() }
            if let kept = earlier?.kept(for: slice, print) { throw Unchanged(part: kept) }
            return Manifest.Part.Slice(slice, print)
        }
        do {
            hashed.add([
                try await connection.with { try push(slice, print, to: feed, from: $0) }
            ])
            feed.finish()
        } catch is ByteFeed.Closed {
            // The pipeline has stopped reading its input. Its error is thrown below.
        } catch {
            feed.finish(error)
            _ = try? await part
            throw error
        }
        do {
            return try await part
        } catch let unchanged as Unchanged {
            return unchanged.part
        }
    }

    /// The rows that were dumped are in a part of the previous backup.
    private struct Unchanged: Error {
        let part: Manifest.Part
    }

    /// Pushes the script of a slice. Returns `print` if it is known, and the fingerprint of the pushed rows otherwise.
    private func push(
        _ slice: TableSlice, _ print: ContentFingerprint?, to feed: ByteFeed, from connection: isolated Connection
    ) throws -> ContentFingerprint {
        // The rows come one by one, and are pushed together.
        var batch = Array(slice.header.utf8)
        var passing = CopyFingerprint()
        try slice.copyOut(on: connection) { row in
            if print == nil { passing.add(row) }
            batch.append(contentsOf: row)
            guard batch.count >= 64 << 10 else { return }
            try feed.push(batch)
            batch.removeAll(keepingCapacity: true)
        }
        try feed.push(batch + TableSlice.footer.utf8)
        return print ?? passing.result
    }

    /// Stores what is pushed to `feed`.
    ///
    /// - Parameter ending: called at the end of the rows, and returns what the manifest says of them.
    private func feeding(
        _ feed: ByteFeed, _ slice: TableSlice, _ name: String,
        _ ending: @escaping @Sendable () throws -> Manifest.Part.Slice
    ) async throws -> Manifest.Part {
        defer { feed.close() }
        return try await write(
            [], CheckedChain.Source(next: { try feed.next() }, letGo: { feed.close() }),
            Manifest.Part(kind: .data, tables: [slice.relation.path]), name
        ) { part in
            var part = part
            part.slice = try ending()
            return part
        }
    }

    private func store(_ bytes: [UInt8], kind: Manifest.Part.Kind, name: String) async throws -> Manifest.Part {
        let once = SharedQueue([bytes])
        return try await write([], CheckedChain.Source(next: { once.next() }), Manifest.Part(kind: kind), name)
    }

    /// Compresses and encrypts the output of a program, or of `source`, and writes it to the repositories.
    ///
    /// - Parameter completed: called when everything has been written. If it throws an error, nothing is stored.
    private func write(
        _ commands: [Command], _ source: CheckedChain.Source?, _ part: Manifest.Part, _ name: String,
        _ gate: PartGate? = nil, completed: (Manifest.Part) throws -> Manifest.Part = { $0 }
    ) async throws -> Manifest.Part {
        let ending = maker.settings.recipients.isEmpty ? ".zst" : ".zst.age"
        let object = "\(maker.name)/\(id)/\(name)\(ending)"
        let sink = try destinations.open(object)
        let began = ContinuousClock.now
        do {
            let stages =
                commands.map { CheckedChain.Stage(command: $0, format: part.format) }
                + BackupTools.packing(maker.settings.recipients)
            try await sink.letGoOnCancel {
                try await CheckedChain(stages: stages).run(source) {
                    try gate?.enter()
                } take: {
                    try sink.take($0)
                }
            }
            let part = try completed(part)
            let (bytes, sha256) = try await sink.commit()
            progress(name, bytes)
            maker.settings.timed?("\(name) is written", ContinuousClock.now - began)
            return part.stored(as: object, bytes: bytes, sha256: sha256)
        } catch {
            await sink.discard()
            throw error
        }
    }
}

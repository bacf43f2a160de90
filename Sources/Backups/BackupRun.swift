import Catalog
import Foundation
import Hashing
import Ledger
import Postgres
import Processes
import Storage

/// One backup from its snapshot to its manifest.
struct BackupRun: Sendable {
    let maker: BackupMaker
    let tools: BackupTools
    let hold: SnapshotHold
    let progress: @Sendable (String, Int) -> Void
    private let id: String
    private let startedAt: String

    /// What is dumped together.
    private struct PartPlan: Sendable {
        let kind: Manifest.Part.Kind
        let name: String
        var tables: [String] = []
        let commands: [Command]
    }

    /// Tables up to this size share a part.
    private static let bundle = 64 << 20

    init(
        maker: BackupMaker, tools: BackupTools, hold: SnapshotHold, progress: @escaping @Sendable (String, Int) -> Void
    ) {
        self.maker = maker
        self.tools = tools
        self.hold = hold
        self.progress = progress
        let now = Timestamp(microseconds: Int64(Date().timeIntervalSince1970 * 1_000_000))
        startedAt = now.rfc3339
        // Sorts by time, and is no other's of the same second.
        let digits = startedAt.prefix(19).filter(\.isNumber)
        id =
            "\(digits.prefix(8))T\(digits.dropFirst(8))Z-"
            + String(UInt32.random(in: 0x1000_0000...UInt32.max), radix: 16)
    }

    private var settings: ConnectionSettings { maker.database.direct }

    func finish() async throws -> Manifest {
        let start = try await hold.connection.with { connection in
            (
                try DatabaseContent.sequenceValues(hold.relations, on: connection),
                try DatabaseContent.largeObjects(on: connection), try DatabaseContent.roles(on: connection),
                try DatabaseContent.settings(on: connection)
            )
        }
        let snapshot = hold.snapshot
        let catalog = try await maker.database.withDirectConnection(named: "reeve backup") { connection in
            try await connection.with { try DatabaseContent.schema(snapshot, on: $0) }
        }
        var (parts, tables) = try await dump(largeObjects: start.1)
        parts.append(try await store(Array(catalog.utf8), kind: .catalog, name: "catalog.txt"))
        let last = try await hold.connection.with { try DatabaseContent.sequenceValues(hold.relations, on: $0) }
        // Roles are the whole server's, and outside of snapshots: those that came or went meanwhile prove nothing. Read
        // anew, for the connection that holds the snapshot sees what was.
        let rolesAfter = try await maker.database.withDirectConnection(named: "reeve backup") { connection in
            try await connection.with { try DatabaseContent.roles(on: $0) }
        }
        let source = try await hold.connection.with {
            try $0.query("SELECT current_database()::text").first?.get(0, as: String.self) ?? ""
        }
        let manifest = Manifest(
            format: Manifest.format, id: id, database: maker.name, source: source, reeve: maker.settings.version,
            server: await hold.connection.serverVersion, pgDump: String(tools.programs.majorVersion),
            snapshot: snapshot,
            wal: hold.wal, startedAt: startedAt,
            finishedAt: Timestamp(microseconds: Int64(Date().timeIntervalSince1970 * 1_000_000)).rfc3339,
            recipients: maker.settings.recipients, tables: tables,
            sequences: hold.relations.filter { $0.kind == "S" }.map { sequence in
                Manifest.Sequence(
                    schema: sequence.schema, name: sequence.name, first: start.0[sequence.path] ?? nil,
                    last: last[sequence.path] ?? nil)
            }, largeObjects: start.1, catalog: Bytes(Digest.of(catalog.utf8)).hex, settings: start.3,
            roles: start.2.filter(Set(rolesAfter).contains),
            parts: parts)
        try maker.repository.write(manifest.encoded(), to: "\(manifest.prefix)/\(Manifest.name)")
        return manifest
    }

    // MARK: Fingerprints

    /// Of all tables at the snapshot, on as many connections as there are jobs; large tables first.
    private func fingerprints() async throws -> [Manifest.Table] {
        let waiting = hold.relations.filter(\.hasRows).sorted { $0.bytes > $1.bytes }
        let queue = SharedQueue(waiting)
        let snapshot = hold.snapshot
        let locks = SnapshotHold.locks(hold.relations)
        let results = try await withThrowingTaskGroup(of: [Manifest.Table].self) { group in
            for _ in 0..<max(1, maker.settings.jobs) {
                group.addTask {
                    try await maker.database.withDirectConnection(named: "reeve backup fingerprints") { connection in
                        try await connection.with { connection in
                            try connection.execute(
                                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '5s'")
                            // At once, before anybody waits for a stronger lock and holds up those that come behind.
                            for lock in locks { try connection.execute(lock) }
                            try connection.execute("SET TRANSACTION SNAPSHOT \(quoteLiteral(snapshot))")
                            try connection.execute(
                                "SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0")
                            var done: [Manifest.Table] = []
                            while let relation = queue.next() {
                                done.append(try DatabaseContent.fingerprint(relation, on: connection))
                            }
                            try connection.execute("ROLLBACK")
                            return done
                        }
                    }
                }
            }
            var all: [Manifest.Table] = []
            for try await some in group { all += some }
            return all
        }
        return results.sorted { ($0.schema, $0.name) < ($1.schema, $1.name) }
    }

    // MARK: Parts

    private func plans(largeObjects: Manifest.LargeObjects?) -> [PartPlan] {
        let snapshot = "--snapshot=\(hold.snapshot)"
        func archive(_ arguments: [String]) -> [Command] {
            [
                tools.command(
                    "pg_dump", ["-Fc", "-Z0", "--no-sync", "--lock-wait-timeout=5s", snapshot] + arguments, on: settings
                )
            ]
        }
        var plans = [
            PartPlan(
                kind: .roles, name: "roles.sql",
                commands: [tools.command("pg_dumpall", ["--roles-only", "--no-role-passwords"], on: settings)]),
            PartPlan(kind: .before, name: "schema-before.dump", commands: archive(["--section=pre-data"])),
            PartPlan(kind: .after, name: "schema-after.dump", commands: archive(["--section=post-data"])),
        ]
        if largeObjects?.count != 0 {
            plans.append(
                PartPlan(
                    kind: .largeObjects, name: "large-objects.dump",
                    commands: archive(["--section=data", "--blobs", "--exclude-table=*.*"])))
        }
        let sequences = hold.relations.filter { $0.kind == "S" }
        if !sequences.isEmpty {
            plans.append(
                PartPlan(
                    kind: .sequences, name: "sequences.dump",
                    commands: archive(["--section=data"] + sequences.map { "--table=\(Self.pattern($0))" })))
        }
        for (number, bundle) in bundles().enumerated() {
            plans.append(
                PartPlan(
                    kind: .data, name: "data-\(number + 1).dump", tables: bundle.map(\.path),
                    commands: archive(["--section=data"] + bundle.map { "--table=\(Self.pattern($0))" })))
        }
        return plans
    }

    /// Exactly this table: quoted, a pattern has no wildcards.
    private static func pattern(_ relation: DatabaseContent.Relation) -> String {
        "\(quoteIdentifier(relation.schema)).\(quoteIdentifier(relation.name))"
    }

    /// Large tables by themselves, the largest first; small ones together, for each pg_dump reads the whole catalog.
    private func bundles() -> [[DatabaseContent.Relation]] {
        let tables = hold.relations.filter(\.hasRows)
        // All are dumped at once: their number is bounded.
        let bound = max(Self.bundle, tables.reduce(0) { $0 + $1.bytes } / 12)
        var bundles = tables.filter { $0.schema != "reeve" && $0.bytes >= bound }.sorted { $0.bytes > $1.bytes }.map {
            [$0]
        }
        var current: [DatabaseContent.Relation] = []
        var size = 0
        // The ledger changes with each backup; what lies with it would never be unchanged.
        let own = tables.filter { $0.schema == "reeve" }
        if !own.isEmpty { bundles.append(own) }
        for table in tables where table.bytes < bound && table.schema != "reeve" {
            if size + table.bytes > bound || current.count == 2000 {
                bundles.append(current)
                current = []
                size = 0
            }
            current.append(table)
            size += table.bytes
        }
        if !current.isEmpty { bundles.append(current) }
        return bundles
    }

    /// What one of the things done at once gave.
    private enum Result: Sendable {
        case part(Manifest.Part?)
        case tables([Manifest.Table])
    }

    /// Starts all dumps at once, so that each has its locks before somebody who waits for a stronger one holds it up; none
    /// goes on before the fingerprints tell what has changed, and then only as many at a time as there are jobs.
    private func dump(largeObjects: Manifest.LargeObjects?) async throws -> ([Manifest.Part], [Manifest.Table]) {
        let plans = plans(largeObjects: largeObjects)
        let places = DispatchSemaphore(value: max(1, maker.settings.jobs))
        let gates = plans.map { _ in PartGate(places) }
        return try await withThrowingTaskGroup(of: Result.self) { group in
            for (plan, gate) in zip(plans, gates) { group.addTask { .part(try await store(plan, gate)) } }
            group.addTask { .tables(try await fingerprints()) }
            var parts: [Manifest.Part] = []
            var tables: [Manifest.Table] = []
            do {
                for try await result in group {
                    switch result {
                    case .part(let part): parts += [part].compactMap { $0 }
                    case .tables(let found):
                        tables = found
                        let kept = maker.settings.isFull ? [] : try unchanged(found, plans)
                        let done = Set(kept.map(\.tables))
                        parts += kept
                        for (plan, gate) in zip(plans, gates) {
                            gate.open(plan.kind != .data || !done.contains(plan.tables))
                        }
                    }
                }
            } catch {
                for gate in gates { gate.open(false) }
                throw error
            }
            return (parts.sorted { ($0.kind.rawValue, $0.object) < ($1.kind.rawValue, $1.object) }, tables)
        }
    }

    /// The parts of the newest backup whose tables all hold what they held, and are defined as they were.
    private func unchanged(_ tables: [Manifest.Table], _ plans: [PartPlan]) throws -> [Manifest.Part] {
        guard let last = try maker.repository.manifests(of: maker.name).last,
            last.recipients == maker.settings.recipients
        else { return [] }
        let now = Dictionary(tables.map { (Self.path($0), $0) }, uniquingKeysWith: { first, _ in first })
        let then = Dictionary(last.tables.map { (Self.path($0), $0) }, uniquingKeysWith: { first, _ in first })
        let there = Set(try maker.repository.store.list("\(maker.name)/").map { [$0.name, "\($0.bytes)"] })
        let planned = Set(plans.filter { $0.kind == .data }.map(\.tables))
        return last.parts.filter { part in
            part.kind == .data && planned.contains(part.tables) && there.contains([part.object, "\(part.bytes)"])
                && part.tables.allSatisfy { now[$0] != nil && now[$0] == then[$0] }
        }
    }

    private static func path(_ table: Manifest.Table) -> String {
        ObjectIdentity(.table, schema: table.schema, table.name).description
    }

    /// - Returns: nil for a part that is not wanted after all.
    private func store(_ plan: PartPlan, _ gate: PartGate) async throws -> Manifest.Part? {
        do {
            defer { gate.leave() }
            return try await write(
                Pipeline(plan.commands + BackupTools.packing(maker.settings.recipients)), nil, plan.kind, plan.name,
                plan.tables, gate)
        } catch is PartGate.NotWanted {
            return nil
        }
    }

    private func store(_ bytes: [UInt8], kind: Manifest.Part.Kind, name: String) async throws -> Manifest.Part {
        let once = SharedQueue([bytes])
        return try await write(
            Pipeline(BackupTools.packing(maker.settings.recipients)), { once.next() }, kind, name, [])
    }

    private func write(
        _ pipeline: Pipeline, _ source: (@Sendable () throws -> [UInt8]?)?, _ kind: Manifest.Part.Kind, _ name: String,
        _ tables: [String], _ gate: PartGate? = nil
    ) async throws -> Manifest.Part {
        let ending = maker.settings.recipients.isEmpty ? ".zst" : ".zst.age"
        let object = "\(maker.name)/\(id)/\(name)\(ending)"
        let sink = PartSink(try maker.repository.store.write(object))
        do {
            try await pipeline.run(source: source) {
                try gate?.enter()
                try sink.take($0)
            }
            let (bytes, sha256) = try sink.commit()
            progress(name, bytes)
            return Manifest.Part(kind: kind, object: object, tables: tables, bytes: bytes, sha256: sha256)
        } catch {
            sink.discard()
            throw error
        }
    }
}

/// Holds a dump back until it is known to be wanted, and until it is its turn.
private final class PartGate: @unchecked Sendable {
    // The flags of turn and wish are under the lock; `isInside` is the pipeline's thread's, until that has ended.
    struct NotWanted: Error {}

    private let places: DispatchSemaphore
    private let lock = NSCondition()
    private var isWanted: Bool?
    private var isInside = false

    init(_ places: DispatchSemaphore) { self.places = places }

    /// Says whether the part is wanted; only the first word counts.
    func open(_ isWanted: Bool) {
        lock.withLock {
            if self.isWanted == nil { self.isWanted = isWanted }
            lock.broadcast()
        }
    }

    /// Waits for its turn, once.
    func enter() throws {
        if isInside { return }
        let isWanted = lock.withLock {
            while self.isWanted == nil { lock.wait() }
            return self.isWanted ?? false
        }
        guard isWanted else { throw NotWanted() }
        places.wait()
        isInside = true
    }

    func leave() {
        if isInside { places.signal() }
        isInside = false
    }
}

/// Hands out pieces of work, each once, to whoever asks.
final class SharedQueue<Item: Sendable>: @unchecked Sendable {
    // All under the lock.
    private var items: ArraySlice<Item>
    private let lock = NSLock()

    init(_ items: [Item]) { self.items = items[...] }

    func next() -> Item? { lock.withLock { items.popFirst() } }
}

/// Writes an object and hashes what is written.
private final class PartSink: @unchecked Sendable {
    // Used by the pipeline's thread alone until that has ended.
    private let writer: any ObjectWriter
    private var digest: Digest? = Digest()
    private var count = 0

    init(_ writer: any ObjectWriter) { self.writer = writer }

    func take(_ bytes: UnsafeRawBufferPointer) throws {
        try writer.write(bytes)
        digest?.update(bytes)
        count += bytes.count
    }

    func commit() throws -> (bytes: Int, sha256: String) {
        try writer.commit()
        guard let digest = digest.take() else { return (count, "") }
        return (count, Bytes(digest.finish()).hex)
    }

    func discard() { writer.discard() }
}

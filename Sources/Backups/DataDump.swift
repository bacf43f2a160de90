import Catalog
import Foundation
import Postgres
import Processes
import SQL

/// Reads the fingerprints of a backup's rows, and dumps the rows in parts.
///
/// Small tables are read first, because their fingerprints decide which of pg_dump's parts are needed. Then each slice
/// of a large table is dumped, and its rows are hashed in passing. A slice that has probably not changed since the
/// previous backup is hashed first, and dumped only if it has.
final class DataDump: @unchecked Sendable {
    // `prints`, `unread`, `parts` and `changing` are under the lock.
    private let run: BackupRun
    private let plan: DumpPlan
    private let reuse: Task<BackupRun.Reuse, any Error>
    private let gates: [PartGate]
    private let slots: DispatchSemaphore
    private let lock = NSLock()
    private var prints: [DatabaseContent.Relation: ContentFingerprint] = [:]
    private let small: Set<DatabaseContent.Relation>
    private let names: [TableSlice: String]
    private var unread: Int
    private var parts: [Manifest.Part] = []
    /// The tables whose last slice was not in the previous backup. The next slice probably is not, either: an update of
    /// a whole table changes all slices, and new rows are in the last ones.
    private var changing: Set<DatabaseContent.Relation> = []

    /// - Parameter reuse: finds the parts that may be reused. The search is started immediately; its result is awaited
    ///   when needed.
    init(_ run: BackupRun, _ plan: DumpPlan, reuse: @escaping @Sendable () async throws -> BackupRun.Reuse) {
        self.run = run
        self.plan = plan
        self.reuse = Task { try await reuse() }
        let slots = DispatchSemaphore(value: run.budget.slots)
        self.slots = slots
        let dumps = DispatchSemaphore(value: run.budget.dumps)
        gates = plan.parts.map { _ in PartGate(slots, dumps) }
        small = Set(plan.small)
        unread = small.count
        names = Dictionary(plan.slices.enumerated().map { ($1, "rows-\($0 + 1).sql") }) { one, _ in one }
    }

    /// Dumps the rows.
    ///
    /// - Throws: the errors of reading, dumping and writing, after all readers and programs have ended.
    func finish() async throws -> (parts: [Manifest.Part], tables: [Manifest.Table]) {
        try await withTaskCancellationHandler {
            try await dump()
        } onCancel: {
            reuse.cancel()
        }
        let tables = prints.map { relation, print in
            Manifest.Table(
                schema: relation.schema, name: relation.name, rows: print.rows, digest: print.digest,
                definition: relation.definition, isOfCopy: relation.isOfCopy ? true : nil, root: relation.root)
        }
        return (
            parts.sorted { ($0.kind.rawValue, $0.object) < ($1.kind.rawValue, $1.object) },
            tables.sorted { ($0.schema, $0.name) < ($1.schema, $1.name) }
        )
    }

    private func dump() async throws {
        for (part, gate) in zip(plan.parts, gates) where part.kind != .data || part.tables.isEmpty { gate.open(true) }
        if plan.small.isEmpty { try await decide() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (part, gate) in zip(plan.parts, gates) {
                group.addTask { [self] in
                    if let part = try await run.store(part, gate) { keep(part) }
                }
            }
            group.addTask { [self] in
                try await run.maker.timing("the contents of the tables are read") { try await read() }
            }
            do {
                for try await _ in group {}
            } catch {
                for gate in gates { gate.open(false) }
                reuse.cancel()
                throw error
            }
        }
    }

    private func read() async throws {
        let readers = ContentReaders(
            run.maker.database.direct, snapshot: run.snapshot, count: run.budget.slots,
            locksAll: run.budget.locksAll, slots: slots)
        let work = ContentReaders.Work.bundled(plan.small, by: run.budget.tablesAtOnce) + plan.slices.map { .slice($0) }
        try await readers.run(work) { [self] prints in
            try await take(prints)
        } slice: { [self] slice, connection in
            try await take(slice, from: connection)
        }
    }

    private func take(_ more: ContentReaders.Prints) async throws {
        let isComplete = lock.withLock {
            prints.merge(more, uniquingKeysWith: +)
            guard unread > 0 else { return false }
            unread -= more.keys.filter(small.contains).count
            return unread == 0
        }
        if isComplete { try await decide() }
    }

    private func keep(_ part: Manifest.Part) { lock.withLock { parts.append(part) } }

    // MARK: Unchanged parts

    /// Starts the dumps of the parts whose tables have changed since the previous backup. For the other parts, reuses
    /// the objects of earlier backups.
    private func decide() async throws {
        let (previous, reusable) = (try await reuse.value.previous, try await reuse.value.objects)
        let now = lock.withLock { prints }
        let digests = Dictionary(
            now.map {
                (ExactText($0.key.path), [$0.value.digest, "\($0.value.rows)", $0.key.definition, $0.key.root ?? ""])
            }
        ) {
            one, _ in one
        }
        let then = Dictionary(
            (previous?.tables ?? []).map {
                (ExactText($0.path), [$0.digest, "\($0.rows)", $0.definition, $0.root ?? ""])
            }
        ) { one, _ in one }
        for (part, gate) in zip(plan.parts, gates) where part.kind == .data && !part.tables.isEmpty {
            let before = previous?.parts.first { $0.kind == .data && $0.slice == nil && $0.tables == part.tables }
            if let before, reusable.contains(before.object),
                part.tables.map(ExactText.init).allSatisfy({ digests[$0] != nil && digests[$0] == then[$0] })
            {
                keep(before)
                gate.open(false)
            } else {
                gate.open(true)
            }
        }
    }

    private func take(_ slice: TableSlice, from connection: Connection) async throws {
        let earlier = try await reuse.value.part(for: slice)
        let relation = slice.relation
        // If the guess is wrong, the rows are read twice, or compressed in vain.
        let isGuessedChanged = lock.withLock { changing.contains(relation) }
        var print: ContentFingerprint?
        if !relation.isOfCopy || earlier != nil && !isGuessedChanged {
            print = try await connection.with { try slice.fingerprint(on: $0) }
        }
        let part: Manifest.Part
        if let earlier, let print, let kept = earlier.kept(for: slice, print) {
            part = kept
        } else {
            part = try await run.store(
                slice, print, unlessIn: earlier, name: names[slice] ?? "rows.sql", from: connection)
        }
        keep(part)
        let isKept = part.object == earlier?.object
        lock.withLock {
            if isKept { changing.remove(relation) } else { changing.insert(relation) }
        }
        if let slice = part.slice {
            try await take([relation: ContentFingerprint(rows: slice.rows, digest: slice.digest)])
        }
    }
}

extension Manifest.Part {
    /// Returns the part as a part of a new backup, if it has the rows of the slice.
    func kept(for slice: TableSlice, _ print: ContentFingerprint) -> Manifest.Part? {
        guard self.slice?.rows == print.rows, self.slice?.digest == print.digest else { return nil }
        var part = self
        part.slice = Slice(slice, print)
        return part
    }
}

extension Manifest.Part.Slice {
    init(_ slice: TableSlice, _ print: ContentFingerprint) {
        self.init(firstPage: slice.first ?? 0, endPage: slice.end, rows: print.rows, digest: print.digest)
    }
}

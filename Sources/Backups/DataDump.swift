import Catalog
import Foundation
import Postgres
import Processes
import SQL

/// Reads the fingerprints of a backup's rows, and dumps the rows in parts.
///
/// Small tables are read first, because their fingerprints decide which of pg_dump's parts are needed. Then each slice
/// of a large table is read, and dumped by the same connection if the slice has changed.
final class DataDump: @unchecked Sendable {
    // `prints`, `unread` and `parts` are under the lock.
    private let run: BackupRun
    private let plan: DumpPlan
    private let reuse: Task<BackupRun.Reuse, any Error>
    private let gates: [PartGate]
    private let slots: DispatchSemaphore
    private let lock = NSLock()
    private var prints: [DatabaseContent.Relation: ContentFingerprint] = [:]
    private let small: Set<DatabaseContent.Relation>
    private var unread: Int
    private var parts: [Manifest.Part] = []

    /// - Parameter reuse: finds the parts that may be reused. The search is started immediately; its result is awaited
    ///   when needed.
    init(_ run: BackupRun, _ plan: DumpPlan, reuse: @escaping @Sendable () async throws -> BackupRun.Reuse) {
        self.run = run
        self.plan = plan
        self.reuse = Task { try await reuse() }
        let slots = DispatchSemaphore(value: run.isCrowded ? 1 : max(1, run.maker.settings.jobs))
        self.slots = slots
        gates = plan.parts.map { _ in PartGate(slots) }
        small = Set(plan.small)
        unread = small.count
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
                definition: relation.definition, isOfCopy: relation.reading == .copy ? true : nil, root: relation.root)
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
            run.maker.database.direct, snapshot: run.snapshot, count: run.isCrowded ? 1 : run.maker.settings.jobs,
            locksAll: !run.isCrowded, slots: slots)
        let work = ContentReaders.Work.bundled(plan.small) + plan.slices.map { .slice($0) }
        try await readers.run(work) { [self] prints in
            try await take(prints)
        } slice: { [self] slice, print, connection in
            try await take([slice.relation: print])
            try await dump(slice, print, connection)
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

    private func dump(_ slice: TableSlice, _ print: ContentFingerprint, _ connection: Connection) async throws {
        let path = slice.relation.path
        let kept = Manifest.Part.Slice(
            firstPage: slice.first ?? 0, endPage: slice.end, rows: print.rows, digest: print.digest)
        let (previous, reusable) = (try await reuse.value.previous, try await reuse.value.objects)
        let before = previous?.parts.first {
            $0.tables == [path] && $0.slice?.firstPage == kept.firstPage && $0.slice?.digest == kept.digest
                && $0.slice?.rows == kept.rows && reusable.contains($0.object)
        }
        let isSame =
            previous?.tables.contains {
                $0.path == path && $0.definition == slice.relation.definition && $0.root == slice.relation.root
            } ?? false
        if var before, isSame {
            before.slice = kept
            return keep(before)
        }
        let number = plan.slices.firstIndex(of: slice) ?? 0
        keep(try await run.store(slice, kept, name: "rows-\(number + 1).sql", from: connection))
    }
}

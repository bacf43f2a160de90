import Catalog
import Foundation
import Postgres
import SQL

/// Connections that read the tables of a database in parallel, in the same snapshot if there is one.
struct ContentReaders: Sendable {
    let settings: ConnectionSettings
    /// The snapshot in which all connections read; nil if no other session changes the database.
    let snapshot: SnapshotTransaction?
    let count: Int
    /// Whether each reader locks all tables when it begins. Otherwise, it locks only the tables that it reads, one unit
    /// of work at a time.
    let locksAll: Bool
    /// Limits the number of reads and dumps that run concurrently.
    let slots: DispatchSemaphore

    init(
        _ settings: ConnectionSettings, snapshot: SnapshotTransaction? = nil, count: Int, locksAll: Bool = true,
        slots: DispatchSemaphore? = nil
    ) {
        self.settings = settings
        self.snapshot = snapshot
        self.count = max(1, count)
        self.locksAll = locksAll
        self.slots = slots ?? DispatchSemaphore(value: max(1, count))
    }

    /// A unit of work for one reader.
    enum Work: Sendable {
        case small([DatabaseContent.Relation])
        case slice(TableSlice)

        /// Small tables are read together, because a round trip costs more than reading them.
        ///
        /// - Parameter size: the number of tables that are read together.
        static func bundled(_ relations: [DatabaseContent.Relation], by size: Int = 40) -> [Work] {
            Dictionary(grouping: relations) { $0.isOfCopy ? .copy : $0.reading }.flatMap { reading, relations in
                let size = reading == .copy ? 1 : size
                return stride(from: 0, to: relations.count, by: size).map {
                    Work.small(Array(relations[$0..<min($0 + size, relations.count)]))
                }
            }
        }
    }

    typealias Prints = [DatabaseContent.Relation: ContentFingerprint]

    /// Distributes the work among the readers.
    ///
    /// - Parameters:
    ///   - small: called with the fingerprints of tables that were read as a whole.
    ///   - slice: called with each slice, and a connection that reads it.
    func run(
        _ work: [Work], small: @escaping @Sendable (Prints) async throws -> Void,
        slice: @escaping @Sendable (TableSlice, Connection) async throws -> Void
    ) async throws {
        let queue = SharedQueue(work)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<min(count, max(1, work.count)) {
                group.addTask {
                    try await Connection.opened(settings.named("reeve backup reader")) { connection in
                        try await connection.with { try open(on: $0) }
                        while let next = queue.next() {
                            try Task.checkCancellation()
                            try await read(next, on: connection, small, slice)
                            if !locksAll {
                                // Release the locks.
                                try await connection.with { connection in
                                    try connection.execute("ROLLBACK")
                                    try open(on: connection)
                                }
                            }
                        }
                        try await connection.with { _ = try $0.execute("ROLLBACK") }
                    }
                }
            }
            for try await _ in group {}
        }
    }

    /// Begins the transaction of a reader.
    private func open(on connection: isolated Connection) throws {
        try connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '5s'")
        if let snapshot {
            // Lock immediately. A later request would queue behind every session that waits for a stronger lock.
            if locksAll { for lock in RelationLocks.statements(snapshot.relations) { try connection.execute(lock) } }
            try connection.execute("SET TRANSACTION SNAPSHOT \(quoteLiteral(snapshot.id))")
        }
        try connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0")
        try ContentFingerprint.pinSettings(on: connection)
    }

    private func read(
        _ work: Work, on connection: Connection, _ small: @Sendable (Prints) async throws -> Void,
        _ slice: @Sendable (TableSlice, Connection) async throws -> Void
    ) async throws {
        // Waits on the connection's own thread, where waiting blocks no other task.
        try await connection.with { [slots] _ in slots.wait() }
        defer { slots.signal() }
        switch work {
        case .small(let relations):
            let prints = try await connection.with { connection in
                if relations.contains(where: \.isOfCopy) {
                    return try relations.map { try CopyFingerprint.read($0, on: connection) }
                }
                let requests = relations.map { TableSlice(relation: $0, first: nil, end: nil).request }
                return try ReadFailure.describing(relations) {
                    try connection.keepingSettings {
                        try ContentFingerprint.read(requests, on: connection)
                    }
                }
            }
            try await small(Dictionary(zip(relations, prints)) { one, _ in one })
        case .slice(let piece): try await slice(piece, connection)
        }
    }

    /// Returns the fingerprints of all tables among the relations.
    func prints(of relations: [DatabaseContent.Relation], server: Int) async throws -> Prints {
        let tables = relations.filter(\.hasRows)
        let slices = tables.flatMap { TableSlice.slices(of: $0, server: server) }
        let large = slices.filter { $0.first != nil }.sorted { $0.relation.bytes > $1.relation.bytes }
        let whole = slices.filter { $0.first == nil }.map(\.relation)
        let gathered = Gathered()
        try await run(large.map { .slice($0) } + Work.bundled(whole)) {
            gathered.add($0)
        } slice: { slice, connection in
            gathered.add([slice.relation: try await connection.with { try slice.fingerprint(on: $0) }])
        }
        return gathered.prints
    }

    /// Collects fingerprints. The readers add fingerprints under the lock. `prints` is read after the readers have
    /// ended.
    private final class Gathered: @unchecked Sendable {
        private let lock = NSLock()
        private(set) var prints: Prints = [:]

        func add(_ more: Prints) { lock.withLock { prints.merge(more, uniquingKeysWith: +) } }
    }
}

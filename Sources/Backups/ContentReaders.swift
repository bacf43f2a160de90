import Catalog
import Foundation
import Postgres

/// Connections that share the work of reading the tables of a database, at one snapshot where one is held.
struct ContentReaders: Sendable {
    let settings: ConnectionSettings
    /// nil: nobody changes anything.
    let hold: SnapshotHold?
    let count: Int
    /// As much at once as there are jobs, dumps included.
    let places: DispatchSemaphore

    init(_ settings: ConnectionSettings, hold: SnapshotHold? = nil, count: Int, places: DispatchSemaphore? = nil) {
        self.settings = settings
        self.hold = hold
        self.count = max(1, count)
        self.places = places ?? DispatchSemaphore(value: max(1, count))
    }

    /// What a reader is given to do.
    enum Work: Sendable {
        case small([DatabaseContent.Relation])
        case slice(TableSlice)

        /// Small tables together, for each trip costs more than they do.
        static func bundled(_ relations: [DatabaseContent.Relation]) -> [Work] {
            stride(from: 0, to: relations.count, by: 40).map {
                .small(Array(relations[$0..<min($0 + 40, relations.count)]))
            }
        }
    }

    typealias Prints = [DatabaseContent.Relation: ContentFingerprint]

    /// Gives each piece of work to one of the readers.
    ///
    /// - Parameters:
    ///   - small: is told the fingerprints of tables that are read whole.
    ///   - slice: is told the fingerprint of a slice; with the connection, on which the snapshot is open, it may read more.
    func run(
        _ work: [Work], small: @escaping @Sendable (Prints) async throws -> Void,
        slice: @escaping @Sendable (TableSlice, ContentFingerprint, Connection) async throws -> Void
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
                        }
                        try await connection.with { _ = try $0.execute("ROLLBACK") }
                    }
                }
            }
            for try await _ in group {}
        }
    }

    private func open(on connection: isolated Connection) throws {
        try connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '5s'")
        if let hold {
            // At once, before anybody waits for a stronger lock and holds up those that come behind.
            for lock in SnapshotHold.locks(hold.relations) { try connection.execute(lock) }
            try connection.execute("SET TRANSACTION SNAPSHOT \(quoteLiteral(hold.snapshot))")
        }
        try connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0")
        try ContentFingerprint.pinSettings(on: connection)
    }

    private func read(
        _ work: Work, on connection: Connection, _ small: @Sendable (Prints) async throws -> Void,
        _ slice: @Sendable (TableSlice, ContentFingerprint, Connection) async throws -> Void
    ) async throws {
        // On the connection's own thread, where waiting holds up nobody.
        try await connection.with { [places] _ in places.wait() }
        defer { places.signal() }
        switch work {
        case .small(let relations):
            let requests = relations.map { DatabaseContent.request(TableSlice(relation: $0, first: nil, end: nil)) }
            let prints = try await connection.with { try ContentFingerprint.read(requests, on: $0) }
            try await small(Dictionary(zip(relations, prints)) { one, _ in one })
        case .slice(let piece):
            let request = DatabaseContent.request(piece)
            let print = try await connection.with { try ContentFingerprint.read(request, on: $0) }
            try await slice(piece, print, connection)
        }
    }

    /// The fingerprints of all tables.
    func prints(of relations: [DatabaseContent.Relation], server: Int) async throws -> Prints {
        let tables = relations.filter(\.hasRows)
        let slices = tables.flatMap { TableSlice.slices(of: $0, server: server) }
        let large = slices.filter { $0.first != nil }.sorted { $0.relation.bytes > $1.relation.bytes }
        let whole = slices.filter { $0.first == nil }.map(\.relation)
        let gathered = Gathered()
        try await run(large.map { .slice($0) } + Work.bundled(whole)) {
            gathered.add($0)
        } slice: { slice, print, _ in
            gathered.add([slice.relation: print])
        }
        return gathered.prints
    }

    /// Under the lock while it is filled; read when that is over.
    private final class Gathered: @unchecked Sendable {
        private let lock = NSLock()
        private(set) var prints: Prints = [:]

        func add(_ more: Prints) { lock.withLock { prints.merge(more, uniquingKeysWith: +) } }
    }
}

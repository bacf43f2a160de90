import Catalog
import Postgres
import SQL

/// A transaction with an exported snapshot, and with locks on everything that is dumped in that snapshot.
///
/// Another session lists the relations, and this one locks them in ACCESS SHARE mode before it has a snapshot, until the
/// list contains nothing that is not locked. The snapshot is taken and exported only after that. Everything that can be
/// seen in the snapshot must be locked. So no TRUNCATE and no ALTER TABLE can happen between the snapshot and the dump.
/// With pg_dump alone they can, because pg_dump takes its snapshot before it locks the tables.
///
/// If the server's lock table is too small for these locks and those of one pg_dump, nothing is locked. Instead, the
/// relations are compared after the dump with those of the snapshot (`checkUnchanged`).
struct SnapshotTransaction: Sendable {
    let connection: Connection
    /// The snapshot's name, as `pg_export_snapshot` returns it.
    let id: String
    let wal: String?
    /// The relations, in the order of their names.
    let relations: [DatabaseContent.Relation]
    let hasLargeObjects: Bool
    /// The schemas that are records of unfinished restores, and are not dumped.
    var records: [String] = []
    /// The number of locks that the server's lock table can hold (`RelationLocks.capacity`).
    let lockCapacity: Int
    /// Whether this transaction holds locks on all relations.
    let holdsLocks: Bool
    /// The fingerprint of the types, by which the text of rows is made; nil if this transaction holds locks on them.
    var types: String?

    /// Whether everything that the backup depends on is locked.
    var isPinned: Bool { holdsLocks && types == nil }

    /// Thrown if a relation or a type was changed or dropped although it was not locked. The backup is to be made again.
    struct Changed: Error {
        let what: String
    }

    private static let attempts = 10

    /// - Parameters:
    ///   - trusted: the roles whose code may run when their tables are read (`DatabaseContent.relations`).
    ///   - wait: how long to wait for a locked table.
    /// - Throws: `BackupError.changing`, `.held`; `PostgresError`.
    static func begin(
        on connection: Connection, trusting trusted: [String] = [], wait: Duration
    ) async throws -> SnapshotTransaction {
        try await Connection.opened(connection.settings.named("reeve backup")) { lister in
            var change = ""
            for number in 1...attempts {
                do {
                    let attempt = Attempt(lister: lister, trusted: trusted, wait: wait, hasBarrier: number > 2)
                    switch try await attempt.run(on: connection) {
                    case .begun(let snapshot): return snapshot
                    case .changed(let what): change = what
                    }
                } catch let error as PostgresError where error.sqlState == "55P03" {
                    throw BackupError.held(holders: (try? await connection.with { try LockHolders.read(on: $0) }) ?? [])
                }
                try await Task.sleep(for: .milliseconds(Int.random(in: 5...20) * number))
            }
            throw BackupError.changing(attempts: attempts, last: change)
        }
    }

    private static func identity(_ relation: DatabaseContent.Relation) -> [String] {
        [
            String(relation.id), relation.path, relation.kind, relation.definition, relation.storage, relation.version,
        ]
    }

    /// Returns the names of the objects that pg_dump reads without a lock, by their OIDs.
    static func definitions(on connection: isolated Connection) throws -> [Int: String] {
        let rows = try connection.query(
            """
            SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('v', 'm', 'f', 'c') AND \(UserSchemas.condition("n.nspname"))
            UNION ALL SELECT p.oid, pg_catalog.format('%I.%I', n.nspname, p.proname)
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE \(UserSchemas.condition("n.nspname"))
            """)
        return Dictionary(try rows.map { (try $0.get(0), try $0.get(1)) }) { first, _ in first }
    }

    static func list(_ names: [String]) -> String {
        names.prefix(5).joined(separator: ", ") + (names.count > 5 ? " and \(names.count - 5) more" : "")
    }

    /// Checks, after everything was dumped, that no relation and no type of the snapshot was changed, truncated or
    /// dropped since. Does nothing if all of them are locked.
    ///
    /// - Parameter connection: another connection than that of the snapshot, which sees what was committed since.
    /// - Throws: `Changed`; `PostgresError`.
    func checkUnchanged(on connection: isolated Connection) throws {
        if let types, try TypeLock.fingerprint(on: connection) != types { throw Changed(what: "a type") }
        if holdsLocks { return }
        let now = Set(try DatabaseContent.relations(on: connection).map(Self.identity))
        let changed = relations.filter { !now.contains(Self.identity($0)) }.map(\.path)
        if !changed.isEmpty { throw Changed(what: Self.list(changed)) }
    }

    /// Ends the transaction, and with it the snapshot and the locks.
    func end() async throws {
        try await connection.with { _ = try $0.execute("ROLLBACK") }
    }
}

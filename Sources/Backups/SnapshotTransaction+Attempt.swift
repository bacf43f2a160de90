import Catalog
import Postgres
import SQL
import Telemetry

extension SnapshotTransaction {
    /// One attempt to lock everything and to take a snapshot.
    struct Attempt: Sendable {
        /// Another session, which lists the relations.
        let lister: Connection
        /// The roles whose code may run when their tables are read (`DatabaseContent.relations`).
        let trusted: [String]
        /// How long to wait for a locked table.
        let wait: Duration
        /// Whether changes of the catalog are held up (`CatalogBarrier`).
        let hasBarrier: Bool

        enum Outcome {
            case begun(SnapshotTransaction)
            /// Something was created or changed after it was listed.
            case changed(String)
        }

        /// A session that creates and drops a table in a loop stops as soon as the table is locked. So with each round
        /// there are fewer of them.
        private static let rounds = 10

        func run(on connection: Connection) async throws -> Outcome {
            do {
                let outcome = try await carryOut(on: connection)
                try await lister.with { try CatalogBarrier.lower(on: $0) }
                return outcome
            } catch {
                // The task may have been cancelled.
                await Task {
                    try? await lister.with { if $0.isInTransaction { try $0.execute("ROLLBACK") } }
                    try? await connection.with { if $0.isInTransaction { try $0.execute("ROLLBACK") } }
                }.value
                throw error
            }
        }

        private func carryOut(on connection: Connection) async throws -> Outcome {
            let names = try await lister.with { try RelationLocks.names(on: $0) }
            let capacity = try await lister.with { try RelationLocks.capacity(on: $0) }
            // pg_dump needs as many locks again.
            let locks = 2 * names.count <= capacity
            let pins = try await lister.with { try Self.canPin(on: $0) }
            try await connection.with { connection in
                try connection.execute(
                    """
                    BEGIN ISOLATION LEVEL REPEATABLE READ \(pins ? "READ WRITE" : "READ ONLY");
                    SET LOCAL idle_in_transaction_session_timeout = 0;
                    SET LOCAL lock_timeout = \(wait.milliseconds)
                    """)
                // Until the tables are locked, only SET, SAVEPOINT and LOCK are allowed: a SELECT, even one without a
                // table, would take the snapshot.
                try ContentFingerprint.pinSettings(on: connection)
            }
            if locks { try await lockTables(names, on: connection) }
            return try await connection.with { connection in
                do {
                    return try takeSnapshot(capacity: capacity, locks: locks, pins: pins, on: connection)
                } catch let error as PostgresError
                    where error.sqlState == "40001" || hasBarrier && error.sqlState == "55P03"
                {
                    // A schema or a type was changed before it was locked, or what changes it waits at the barrier.
                    try connection.execute("ROLLBACK")
                    return .changed(error.message)
                }
            }
        }

        /// Locks what is listed, until nothing is listed that is not locked.
        private func lockTables(_ names: [RelationLocks.Name], on connection: Connection) async throws {
            var (locked, new): (Set<RelationLocks.Name>, _) = ([], names)
            func list() async throws {
                new = try await lister.with { try RelationLocks.names(on: $0) }.filter { !locked.contains($0) }
            }
            for _ in 1...Self.rounds where !new.isEmpty {
                let some = new
                try await connection.with { try RelationLocks.lock(some, on: $0) }
                locked.formUnion(some)
                try await list()
            }
            for _ in 1...Self.rounds where hasBarrier {
                guard try await lister.with({ try CatalogBarrier.raise(on: $0) }) else { return }
                try await list()
                let some = new
                if some.isEmpty { return }
                // A session that has locked a table, and is held up by the barrier, must be let go.
                let areLocked = try await connection.with {
                    try RelationLocks.lock(some, within: .milliseconds(200), on: $0)
                }
                if areLocked {
                    locked.formUnion(some)
                    try await list()
                    if new.isEmpty { return }
                }
                try await lister.with { try CatalogBarrier.lower(on: $0) }
            }
        }

        /// The transaction has a snapshot from here on.
        private func takeSnapshot(
            capacity: Int, locks: Bool, pins: Bool, on connection: isolated Connection
        ) throws -> Outcome {
            if hasBarrier {
                try connection.execute("SET LOCAL lock_timeout = \(CatalogBarrier.patience.milliseconds)")
            }
            if pins {
                try connection.execute("\(SchemaLock.names); \(TypeLock.definitions); SET TRANSACTION READ ONLY")
            }
            let row = try connection.query(
                """
                SELECT pg_export_snapshot(), CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn()::text END,
                    EXISTS (SELECT FROM pg_largeobject_metadata)
                """
            ).first
            let types = try pins ? nil : TypeLock.fingerprint(on: connection)
            if locks {
                // Look before anything else locks tables.
                let held = try RelationLocks.held(on: connection)
                let new = try RelationLocks.names(on: connection).filter { !$0.isSequence && !held.contains($0.id) }
                if !new.isEmpty { return try changed(new.map(\.path), on: connection) }
            }
            let relations = try DatabaseContent.relations(trusting: trusted, on: connection)
            if locks, try !RelationLocks.lockSequences(relations, on: connection) {
                return try changed(["a sequence"], on: connection)
            }
            let records: [String] = try connection.query(
                "SELECT nspname::text FROM pg_namespace WHERE \(UserSchemas.isRestore("nspname")) ORDER BY 1"
            ).map { try $0.get(0) }
            guard let row else { return try changed([], on: connection) }
            return .begun(
                SnapshotTransaction(
                    connection: connection, id: try row.get(0), wal: try row.get(1), relations: relations,
                    hasLargeObjects: try row.get(2), records: records, lockCapacity: capacity, holdsLocks: locks,
                    types: types))
        }

        private func changed(_ what: [String], on connection: isolated Connection) throws -> Outcome {
            try connection.execute("ROLLBACK")
            return .changed(SnapshotTransaction.list(what))
        }

        /// Whether the role may lock rows of the catalog. The role must be a superuser, and the server must not be a
        /// standby.
        private static func canPin(on connection: isolated Connection) throws -> Bool {
            try connection.query(
                "SELECT rolsuper AND NOT pg_is_in_recovery() FROM pg_roles WHERE rolname = current_user"
            ).first?.get(0) ?? false
        }
    }
}

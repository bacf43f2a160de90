import Ledger
import Postgres
import SQL

/// The objects that a statement that runs alone finds before it begins. A later run compares them with the objects that
/// exist then, and so knows what an interrupted statement has done.
struct StatementEvidence: Codable, Equatable, Sendable {
    /// The OIDs of the objects that the statement names, in its order; null if there is no such object.
    var objects: [Int?] = []
    /// The OIDs of the indexes of the statement's table.
    var indexes: [Int] = []
}

/// Checks in the catalog whether a statement that runs alone was completed, and removes what an incomplete run left
/// behind.
///
/// Names are resolved by the server, in the session of the migration. Objects are then known by their OIDs.
struct LoneStatement: Sendable {
    let statement: NonTransactionalStatement
    let text: SQLStatement
    let script: MigrationScript
    /// The session of the migration. What has to be removed is removed here, because it may have to wait for others.
    let connection: Connection
    /// A session with Reeve's own settings.
    let keeper: Connection

    /// Returns the objects that the statement finds, to be recorded before it runs.
    func evidence() async throws -> StatementEvidence {
        switch statement {
        case .createIndex(let index):
            let table = try await relation(index.table)
            return StatementEvidence(objects: [table], indexes: try await indexes(of: table).map(\.oid))
        case .dropIndex(let name): return StatementEvidence(objects: [try await relation(name)])
        case .reindex(let scope):
            let object = try await object(of: scope)
            let leftovers = try await ReindexLeftovers(scope).find(of: object, on: keeper)
            return StatementEvidence(objects: [object], indexes: leftovers.map(\.oid))
        case .detachPartition(let parent, let partition):
            return StatementEvidence(objects: [try await relation(parent), try await relation(partition)])
        case .createDatabase(let name), .dropDatabase(let name):
            return StatementEvidence(objects: [try await database(name)])
        case .procedure, .other: return StatementEvidence()
        }
    }

    /// Removes what an interrupted run of the statement left behind, and returns whether that run completed the
    /// statement.
    ///
    /// - Parameters:
    ///   - before: the recorded evidence; nil if none was recorded.
    ///   - wasStarted: whether an earlier run began the statement and did not record its end.
    func wasDone(before: StatementEvidence?, wasStarted: Bool) async throws -> Bool {
        switch statement {
        case .createIndex(let index): return try await wasBuilt(index, before, wasStarted)
        case .dropIndex:
            guard wasStarted, let object = before?.objects.first ?? nil else { return false }
            return try await !exists(object, in: "pg_class")
        case .reindex(let scope):
            if wasStarted, let before { try await dropLeftovers(of: scope, before) }
            return false
        case .detachPartition(let parent, let partition):
            if let before { return try await wasDetached(before.objects, wasStarted: wasStarted) }
            let objects = [try await relation(parent), try await relation(partition)]
            return try await wasDetached(objects, wasStarted: wasStarted)
        case .createDatabase(let name):
            guard wasStarted, let before, before.objects == [nil] else { return false }
            return try await database(name) != nil
        case .dropDatabase:
            guard wasStarted, let object = before?.objects.first ?? nil else { return false }
            return try await !exists(object, in: "pg_database")
        case .procedure, .other: return false
        }
    }

    /// Checks the result of a statement that has succeeded.
    ///
    /// With IF NOT EXISTS, CREATE INDEX succeeds if an index of the name exists, even if that index is invalid.
    ///
    /// - Throws: `MigrationError.invalidIndex`.
    func check(after before: StatementEvidence) async throws {
        guard case .createIndex(let index) = statement, index.toleratesExisting, let name = index.name else { return }
        let (table, known) = (try await relation(index.table), Set(before.indexes))
        let found = try await twins(index, of: table)
        if let invalid = found.first(where: { $0.hasName && !$0.isValid && known.contains($0.oid) }) {
            throw MigrationError.invalidIndex(
                name: name, location: script.location(of: text),
                dropStatement: "DROP INDEX CONCURRENTLY \(invalid.name)")
        }
    }

    /// After a failure, drops what the statement has left behind. An invalid index is not used by queries and slows
    /// down every write.
    ///
    /// - Throws: `PostgresError` if something remains.
    func cleanUp(after before: StatementEvidence) async throws {
        switch statement {
        case .createIndex(let index):
            guard let table = before.objects.first ?? nil else { return }
            for one in try await twins(index, of: table)
            where !one.isValid && one.isSame && !before.indexes.contains(one.oid) {
                try await drop(one)
            }
        case .reindex(let scope): try await dropLeftovers(of: scope, before)
        default: break
        }
    }

    // MARK: Indexes

    private func wasBuilt(_ index: IndexStatement, _ before: StatementEvidence?, _ wasStarted: Bool) async throws
        -> Bool
    {
        let recorded = before?.objects.first ?? nil
        var table = recorded
        if table == nil { table = try await relation(index.table) }
        // Without a record of an earlier run, only an invalid index can be in the way.
        if !wasStarted, try await !indexes(of: table).contains(where: { !$0.isValid }) { return false }
        var isDone = false
        for one in try await twins(index, of: table) where one.isSame {
            let isNew = !(before?.indexes ?? []).contains(one.oid)
            if one.isValid {
                if wasStarted, isNew, index.name != nil || before != nil { isDone = true }
            } else if index.name != nil || wasStarted && before != nil && isNew {
                try await drop(one)
            }
        }
        return isDone
    }

    private func twins(_ index: IndexStatement, of table: Int?) async throws -> [IndexTwin.Candidate] {
        guard let table else { return [] }
        return try await connection.with {
            try IndexTwin(statement: index, text: text, script: script).candidates(of: table, on: $0)
        }
    }

    private func drop(_ index: IndexTwin.Candidate) async throws {
        try await connection.with { _ = try $0.execute("DROP INDEX CONCURRENTLY IF EXISTS \(index.name)") }
    }

    private func dropLeftovers(of scope: ReindexScope, _ before: StatementEvidence) async throws {
        for one in try await ReindexLeftovers(scope).find(of: before.objects.first ?? nil, on: keeper)
        where !before.indexes.contains(one.oid) {
            try await connection.with { _ = try $0.execute("DROP INDEX CONCURRENTLY IF EXISTS \(one.name)") }
        }
    }

    private func indexes(of table: Int?) async throws -> [(oid: Int, name: String, isValid: Bool)] {
        guard let table else { return [] }
        return try await keeper.with { keeper in
            try keeper.query(
                """
                SELECT x.indexrelid::int8 AS oid, format('%I.%I', n.nspname, c.relname) AS name,
                    x.indisvalid AND x.indisready AS is_valid
                FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE x.indrelid = $1::int8::oid
                """, [table]
            ).map { (try $0.get("oid"), try $0.get("name"), try $0.get("is_valid")) }
        }
    }

    // MARK: Partitions

    private func wasDetached(_ objects: [Int?], wasStarted: Bool) async throws -> Bool {
        guard objects.count == 2, let parent = objects[0], let partition = objects[1] else { return false }
        let row = try await keeper.with { keeper in
            try keeper.query(
                """
                SELECT inhdetachpending AS is_pending, inhparent::regclass::text AS parent,
                    inhrelid::regclass::text AS partition
                FROM pg_inherits WHERE inhparent = $1::int8::oid AND inhrelid = $2::int8::oid
                """, [parent, partition]
            ).first.map { row in
                (
                    isPending: try row.get("is_pending", as: Bool.self),
                    statement: "ALTER TABLE \(try row.get("parent", as: String.self)) DETACH PARTITION "
                        + "\(try row.get("partition", as: String.self)) FINALIZE"
                )
            }
        }
        guard let row else { return wasStarted }
        guard row.isPending else { return false }
        try await connection.with { _ = try $0.execute(row.statement) }
        return true
    }

    // MARK: Names

    /// Returns the OID of the relation that a name refers to in the script; nil if there is none, or if the name has
    /// Unicode escapes.
    private func relation(_ name: String) async throws -> Int? {
        if hasUnicodeEscapes(name) { return nil }
        return try await connection.with { connection in
            try connection.query("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid::pg_catalog.int8", [name])
                .first?.get(0)
        }
    }

    /// Returns the OID of the index, table or schema that a REINDEX names.
    private func object(of scope: ReindexScope) async throws -> Int? {
        switch scope {
        case .index(let name), .table(let name): return try await relation(name)
        case .schema(let name):
            if hasUnicodeEscapes(name) { return nil }
            return try await keeper.with { keeper in
                try keeper.query(
                    "SELECT oid::int8 FROM pg_namespace WHERE nspname = (parse_ident($1))[1]::name", [name]
                )
                .first?.get(0)
            }
        case .database: return nil
        }
    }

    private func database(_ name: String) async throws -> Int? {
        if hasUnicodeEscapes(name) { return nil }
        return try await keeper.with { keeper in
            try keeper.query("SELECT oid::int8 FROM pg_database WHERE datname = (parse_ident($1))[1]::name", [name])
                .first?.get(0)
        }
    }

    private func exists(_ object: Int, in catalog: String) async throws -> Bool {
        try await keeper.with { keeper in
            try !keeper.query("SELECT FROM pg_catalog.\(catalog) WHERE oid = $1::int8::oid", [object]).isEmpty
        }
    }
}

import Postgres

/// Puts a restored database in the place of one that is there, which stays under another name: nothing is lost.
public struct Replacement: Sendable {
    private let target: ConnectionSettings
    private let manifest: Manifest

    public init(of target: ConnectionSettings, like manifest: Manifest) {
        self.target = target
        self.manifest = manifest
    }

    /// A database that is to make room.
    private struct Former: Sendable {
        let name: String
        let owner: String
        let access: DatabaseAccess
        /// What the new one is called until then, and what this one is called after.
        let made: String
        let later: String
        let prepared: [String]

        var renaming: [String] {
            [
                "ALTER DATABASE \(quoteIdentifier(name)) RENAME TO \(quoteIdentifier(later))",
                "ALTER DATABASE \(quoteIdentifier(made)) RENAME TO \(quoteIdentifier(name))",
            ]
        }
    }

    /// Makes a database beside the target, lends it to be filled, and exchanges the two.
    ///
    /// The new one gets the former one's grants and connection limit where the manifest does not know those of its source.
    ///
    /// - Returns: what the former one is called now.
    /// - Throws: `PostgresError`: 42501 where the role may not make databases; `BackupError.prepared`; what `fill` throws,
    ///   with the target as it was; `BackupError.notExchanged`, with both databases as they were;
    ///   `.exchangeUnknown` where the server was lost and nobody can tell whether they were exchanged.
    public func replace(_ fill: @Sendable (ConnectionSettings) async throws -> Void) async throws -> String {
        let former = try await former()
        if !former.prepared.isEmpty {
            throw BackupError.prepared(database: former.name, transactions: former.prepared)
        }
        let made = target.database(former.made)
        try await run(
            "CREATE DATABASE \(quoteIdentifier(former.made)) OWNER \(quoteIdentifier(former.owner)) TEMPLATE template0 "
                + manifest.locale.clause)
        do {
            try await fill(made)
            if manifest.access == nil { try await give(former.access, to: made) }
        } catch {
            // A task of its own, for this one may be cancelled.
            try? await Task { try await run("DROP DATABASE IF EXISTS \(quoteIdentifier(former.made)) WITH (FORCE)") }
                .value
            // The database was dropped, so that it is not closed any more.
            if case BackupError.leftClosed(_, _, let cause) = error { throw cause }
            throw error
        }
        // Also when this task is cancelled meanwhile: the work is done.
        try await Task { try await settle(former) }.value
        return former.later
    }

    /// Exchanges the two, and returns once they are exchanged.
    private func settle(_ former: Former) async throws {
        do {
            try await exchange(former)
        } catch let error as PostgresError where error.kind == .commitOutcomeUnknown {
            throw BackupError.exchangeUnknown(
                database: former.name, made: former.made, later: former.later, statements: former.renaming,
                cause: error)
        } catch {
            throw BackupError.notExchanged(
                database: former.name, made: former.made, statements: former.renaming, cause: error)
        }
    }

    private func former() async throws -> Former {
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                let row = try connection.query(
                    """
                    SELECT datname::text, pg_get_userbyid(datdba)::text, to_char(now(), 'YYYYMMDD_HH24MISS'),
                        ARRAY(SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1)
                    FROM pg_database WHERE datname = current_database()
                    """
                ).first
                guard let row else { throw PostgresError(.badValue, "no row describes the current database") }
                let (name, stamp): (String, String) = (try row.get(0), try row.get(2))
                let stem = Self.stem(name)
                // One that a restore has left closed is not its owner's meanwhile.
                let left = try ClosedDatabase.read(on: connection)
                let access = try DatabaseAccess.read(on: connection)
                return Former(
                    name: name, owner: try left?.ownerName(on: connection) ?? row.get(1),
                    access: DatabaseAccess(limit: left?.limit ?? access.limit, grants: access.grants),
                    made: "\(stem)_new_\(stamp)", later: "\(stem)_before_\(stamp)", prepared: try row.get(3))
            }
        }
    }

    /// What the names of the databases beside one begin with: 63 bytes are a name's limit.
    private static func stem(_ name: String) -> String { name.clipped(toBytes: 40) }

    /// The databases that restores were making when they were killed, beside the one that the connection is to: those with
    /// such a name, as far as nobody is connected to them.
    ///
    /// - Throws: `PostgresError`.
    public static func unfinished(on connection: isolated Connection) throws -> [String] {
        let name: String = try connection.query("SELECT current_database()::text").first?.get(0) ?? ""
        return try connection.query(
            """
            SELECT d.datname::text FROM pg_database d
            WHERE starts_with(d.datname, $1) AND substr(d.datname, length($1) + 1) ~ '^[0-9]{8}_[0-9]{6}$'
                AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)
            ORDER BY 1
            """, ["\(stem(name))_new_"]
        ).map { try $0.get(0) }
    }

    private func give(_ access: DatabaseAccess, to made: ConnectionSettings) async throws {
        try await Connection.opened(made.restoring) { connection in
            try await connection.with { connection in
                try connection.transaction {
                    try access.grant(on: connection)
                    let name: String = try connection.query("SELECT current_database()::text").first?.get(0) ?? ""
                    try connection.execute("ALTER DATABASE \(quoteIdentifier(name)) CONNECTION LIMIT \(access.limit)")
                }
            }
        }
    }

    /// Renames both in one transaction. The first statement locks the database, so that new sessions wait until it has
    /// another name, and itself waits 5 s for sessions to end; existing sessions are ended meanwhile.
    private func exchange(_ former: Former) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await endSessions(in: former.name) }
            defer { group.cancelAll() }
            try await Connection.opened(maintenance) { connection in
                try await connection.with { connection in
                    try connection.transaction { for sql in former.renaming { try connection.execute(sql) } }
                }
            }
        }
    }

    /// Ends what is connected to a database, and what connects again, until this task is cancelled. Of one that this role
    /// may not end, the statement that waits for it tells.
    private func endSessions(in database: String) async {
        try? await Connection.opened(maintenance) { connection in
            while !Task.isCancelled {
                try await connection.with { connection in
                    let sessions = try connection.query(
                        "SELECT pid FROM pg_stat_activity WHERE datname = $1", [database])
                    for session in sessions {
                        let pid: Int = try session.get(0)
                        _ = try? connection.query("SELECT pg_terminate_backend($1::int)", [pid])
                    }
                }
                try await Task.sleep(for: .milliseconds(100))
            }
        }
    }

    /// Makes the target where it does not exist yet.
    ///
    /// - Returns: whether it was made.
    public func makeIfMissing() async throws -> Bool {
        guard let name = target.parameters["dbname"] else { return false }
        let isThere: Bool = try await Connection.opened(maintenance) { connection in
            try await connection.with {
                try $0.query("SELECT count(*) > 0 FROM pg_database WHERE datname = $1", [name]).first?.get(0) ?? false
            }
        }
        if isThere { return false }
        try await run("CREATE DATABASE \(quoteIdentifier(name)) TEMPLATE template0 \(manifest.locale.clause)")
        return true
    }

    private var maintenance: ConnectionSettings { target.database("postgres").restoring }

    private func run(_ statements: String...) async throws {
        try await Connection.opened(maintenance) { connection in
            try await connection.with { connection in for sql in statements { try connection.execute(sql) } }
        }
    }
}

import Postgres
import SQL

/// Replaces an existing database with a restored one. The existing database is kept under another name, so nothing is
/// lost.
public struct Replacement: Sendable {
    private let target: ConnectionSettings
    private let manifest: Manifest
    private let tablespaces: [String: String]

    /// - Parameter tablespaces: the tablespaces that take the place of the backup's, by name.
    public init(of target: ConnectionSettings, like manifest: Manifest, tablespaces: [String: String] = [:]) {
        self.target = target
        self.manifest = manifest
        self.tablespaces = tablespaces
    }

    /// The database that is replaced.
    private struct Former: Sendable {
        let name: String
        let owner: String
        let access: DatabaseAccess
        /// `made`: the name of the new database until the exchange. `later`: the name of the existing database after
        /// the exchange.
        let made: String
        let later: String
        let prepared: [String]
        /// Whether the restoring role is a superuser.
        let isSuperuser: Bool

        var renaming: [String] {
            [
                "ALTER DATABASE \(quoteIdentifier(name)) RENAME TO \(quoteIdentifier(later))",
                "ALTER DATABASE \(quoteIdentifier(made)) RENAME TO \(quoteIdentifier(name))",
            ]
        }
    }

    /// Creates a database on the same server, calls `fill` with it, and then exchanges names: the new database gets the
    /// name of the target, and the former database gets a new name.
    ///
    /// `fill` restores the owner, the grants and the connection limit that the manifest records. Those that the
    /// manifest does not record are copied from the former database.
    ///
    /// - Returns: the new name of the former database, the value of `fill`, and a message about access that the backup
    ///   has and the former database did not have, and that was withheld.
    /// - Throws: `PostgresError`: 42501 if the role may not create databases; `BackupError.prepared`; the errors of
    ///   `fill`, with the target unchanged; `BackupError.notExchanged`, with both databases unchanged;
    ///   `.exchangeUnknown` if the connection was lost, and it is unknown whether the names were exchanged.
    public func replace<T: Sendable>(
        _ fill: @Sendable (ConnectionSettings) async throws -> T
    ) async throws -> (former: String, value: T, withheld: String?) {
        let former = try await former()
        if !former.prepared.isEmpty {
            throw BackupError.prepared(database: former.name, transactions: former.prepared)
        }
        let made = target.database(former.made)
        try await make(former)
        let value: T
        do {
            value = try await fill(made)
        } catch {
            // Runs in a separate task, because the current task may be cancelled.
            try? await Task { try await run("DROP DATABASE IF EXISTS \(quoteIdentifier(former.made)) WITH (FORCE)") }
                .value
            // The database that the restore has left closed was dropped, so only the cause is reported.
            if case BackupError.leftClosed(_, _, let cause) = error { throw cause }
            throw error
        }
        // The exchange is not cancelled with this task, because the restore is complete.
        let withheld = try await Task { try await settle(former) }.value
        return (former.later, value, withheld)
    }

    /// The access of the database that is replaced. The restored database gets no more, also before it has its name.
    ///
    /// - Throws: `PostgresError`.
    public func formerAccess() async throws -> DatabaseAccess { try await former().access }

    /// Exchanges the names of the former database and the new one.
    private func settle(_ former: Former) async throws -> String? {
        do {
            return try await exchange(former)
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
                        ARRAY(SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1),
                        (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
                    FROM pg_database WHERE datname = current_database()
                    """
                ).first
                guard let row else { throw PostgresError(.badValue, "no row describes the current database") }
                let (name, stamp): (String, String) = (try row.get(0), try row.get(2))
                let stem = Self.stem(name)
                // A database that a restore has left closed belongs to the restoring role for the time being. Its
                // former owner is recorded in a setting of the database.
                let left = try ClosedDatabase.read(on: connection)
                let access = try DatabaseAccess.read(on: connection)
                return Former(
                    name: name, owner: try left?.ownerName(on: connection) ?? row.get(1),
                    access: DatabaseAccess(
                        limit: left?.limit ?? access.limit, grants: access.grants,
                        isTemplate: left?.isTemplate ?? access.isTemplate),
                    made: "\(stem)_new_\(stamp)", later: "\(stem)_before_\(stamp)", prepared: try row.get(3),
                    isSuperuser: try row.get(4))
            }
        }
    }

    /// Returns the common prefix of `made` and `later`: the name of the former database, cut to 40 bytes, because the
    /// length of a name is limited to 63 bytes.
    private static func stem(_ name: String) -> String { name.clipped(toBytes: 40) }

    /// Returns the databases that restores of the current database left behind when they were killed: those whose name
    /// has the form of `Former.made`, and that no session is connected to.
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

    /// Creates the new database, which other roles cannot connect to. If a superuser restores, the database belongs to
    /// that superuser until it is filled, because the owner could connect. Any other role creates the database for the
    /// former owner. The creation fails, before anything is restored, if the role is not a member of the owner's role.
    private func make(_ former: Former) async throws {
        try await Connection.opened(maintenance) { connection in
            try await connection.with { connection in
                try connection.createClosedDatabase(
                    former.made, owner: former.isSuperuser ? nil : former.owner, locale: try clause(on: connection))
            }
        }
    }

    /// Gives the new database no more access than the former one had: a privilege that the former database did not
    /// grant, and a higher connection limit, are withheld. If the manifest does not record the owner, the new database
    /// gets that of the former one. If it records nothing of this, the new database gets everything from the former
    /// one.
    ///
    /// - Returns: a message about what was withheld; nil if nothing was.
    private func give(_ former: Former, on connection: isolated Connection) throws -> String? {
        let recorded = manifest.access
        let now = try DatabaseAccess.read(of: former.made, on: connection)
        let wanted = recorded == nil ? former.access : now.narrowed(to: former.access)
        let database = "ALTER DATABASE \(quoteIdentifier(former.made))"
        try wanted.grant(on: former.made, over: connection)
        if wanted.limit != now.limit { try connection.execute("\(database) CONNECTION LIMIT \(wanted.limit)") }
        if now.isTemplate == true, wanted.isTemplate != true {
            try connection.execute("\(database) IS_TEMPLATE false")
        }
        if recorded?.owner == nil, now.owner != former.owner {
            try connection.execute("\(database) OWNER TO \(quoteIdentifier(former.owner))")
        }
        guard let recorded, !recorded.narrowed(to: former.access).isMet(by: recorded) else { return nil }
        return "what the backup grants on the database, and the former database did not, was withheld; the backup has: "
            + recorded.description
    }

    /// Sets the access of the new database, and renames both databases, in one transaction. The first renaming locks
    /// the former database, so that new sessions wait until it is renamed. PostgreSQL waits up to 5 s for existing
    /// sessions of the database to end; they are terminated in the meantime.
    private func exchange(_ former: Former) async throws -> String? {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await endSessions(in: former.name) }
            defer { group.cancelAll() }
            return try await Connection.opened(maintenance) { connection in
                try await connection.with { connection in
                    try connection.transaction {
                        let withheld = try give(former, on: connection)
                        for sql in former.renaming { try connection.execute(sql) }
                        return withheld
                    }
                }
            }
        }
    }

    /// Terminates all sessions of a database, including new ones, until this task is cancelled. If this role may not
    /// terminate a session, the statement that waits for the session to end reports the failure.
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

    /// Creates the target if it does not exist.
    ///
    /// - Returns: whether it was made.
    public func makeIfMissing() async throws -> Bool {
        guard let name = target.parameters["dbname"] else { return false }
        if try await isThere() { return false }
        // The restore grants what the backup records. Until then, only the owner can connect.
        try await Connection.opened(maintenance) { connection in
            try await connection.with { try $0.createClosedDatabase(name, locale: try clause(on: $0)) }
        }
        return true
    }

    /// Whether the target exists.
    public func isThere() async throws -> Bool {
        guard let name = target.parameters["dbname"] else { return true }
        return try await Connection.opened(maintenance) { connection in
            try await connection.with {
                try $0.query("SELECT count(*) > 0 FROM pg_database WHERE datname = $1", [name]).first?.get(0) ?? false
            }
        }
    }

    /// Drops the target, which `makeIfMissing` has made.
    public func dropMade() async throws {
        guard let name = target.parameters["dbname"] else { return }
        try await run("DROP DATABASE IF EXISTS \(quoteIdentifier(name)) WITH (FORCE)")
    }

    /// The options of CREATE DATABASE: the locale, and the tablespace if the server has it.
    private func clause(on connection: isolated Connection) throws -> String {
        guard let old = manifest.access?.tablespace, old != "pg_default",
            case let name = tablespaces[old] ?? old,
            try !connection.query("SELECT FROM pg_tablespace WHERE spcname = $1", [name]).isEmpty
        else { return manifest.locale.clause }
        return "\(manifest.locale.clause) TABLESPACE \(quoteIdentifier(name))"
    }

    private var maintenance: ConnectionSettings { target.database("postgres").restoring }

    private func run(_ statements: String...) async throws {
        try await Connection.opened(maintenance) { connection in
            try await connection.with { connection in for sql in statements { try connection.execute(sql) } }
        }
    }
}

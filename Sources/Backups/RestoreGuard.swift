import Postgres
import SQL

/// Keeps sessions out of a database while it is restored.
///
/// During the restore, the database belongs to the restoring role. Otherwise, its owner could change the connection
/// limit, or copy the database as a template.
struct RestoreGuard: Sendable {
    private let target: ConnectionSettings

    /// The ID of the backup that is restored.
    private let backup: String

    /// The connection limit, the owner and the template flag that the database gets when it is opened; nil: the former
    /// ones.
    private let limit: Int?
    private let owner: String?
    private let isTemplate: Bool?

    init(_ target: ConnectionSettings, restoring backup: String, _ access: DatabaseAccess? = nil) {
        self.target = target
        self.backup = backup
        (limit, owner, isTemplate) = (access?.limit, access?.owner, access?.isTemplate)
    }

    private struct State: Sendable {
        let name: String
        /// `owner`: the owner before the restore, or before an unfinished restore that has left the database closed.
        /// `ownerNow`: the current owner.
        let owner: String
        let ownerNow: String
        /// The owner after the restore.
        let heir: String
        let user: String
        let limit: Int
        /// `isTemplate`: whether the database is a template after the restore. `isTemplateNow`: whether it is one now.
        let isTemplate: Bool
        let isTemplateNow: Bool
        let isSuperuser: Bool
        /// The former state, stored in the database in case this process is killed.
        let note: ClosedDatabase
        /// Whether an unfinished restore has left the database closed.
        let wasClosed: Bool
        /// The identifiers of the database's prepared transactions.
        let prepared: [String]

        /// The statements that keep other sessions out.
        var closing: [String] {
            let database = "ALTER DATABASE \(quoteIdentifier(name))"
            var statements = [
                "\(database) CONNECTION LIMIT 0",
                "\(database) SET \(quoteIdentifier(ClosedDatabase.setting)) TO \(quoteLiteral(note.text))",
            ]
            if ownerNow != user { statements.insert("\(database) OWNER TO \(quoteIdentifier(user))", at: 0) }
            if isTemplateNow { statements.append("\(database) IS_TEMPLATE false") }
            return statements
        }

        /// The statements that open the database again, with the former connection limit and owner or with new ones.
        var opening: [String] {
            let database = "ALTER DATABASE \(quoteIdentifier(name))"
            var statements = ["\(database) CONNECTION LIMIT \(limit)"]
            if isTemplate { statements.append("\(database) IS_TEMPLATE true") }
            if heir != user { statements.append("\(database) OWNER TO \(quoteIdentifier(heir))") }
            statements.append("\(database) RESET \(quoteIdentifier(ClosedDatabase.setting))")
            return statements
        }
    }

    /// Closes the database, fills it, and opens it again with its connection limit. After an error the database stays
    /// closed: its contents are incomplete, or, if `last` has failed, complete but not released yet. If the role is not
    /// a superuser, the database is marked, and not closed.
    ///
    /// - Parameters:
    ///   - fill: restores the contents.
    ///   - last: called once the contents are complete, before other sessions may connect.
    /// - Throws: the errors of `fill` and `last`, wrapped in `BackupError.leftClosed` if the restoring role was made
    ///   the owner; `BackupError.prepared`; `PostgresError`, also if sessions stay connected to the database.
    func closed(_ fill: () async throws -> Void, last: () async throws -> Void) async throws {
        let before = try await state()
        // A role that is not a superuser would lock itself out with a connection limit of 0.
        guard before.isSuperuser else {
            try await marked {
                try await fill()
                try await last()
            }
            if let limit { try await run(["ALTER DATABASE \(quoteIdentifier(before.name)) CONNECTION LIMIT \(limit)"]) }
            return
        }
        // Refuse a database with prepared transactions. Their locks would hold up the restore, and no session could
        // connect to end them.
        if !before.prepared.isEmpty {
            throw BackupError.prepared(database: before.name, transactions: before.prepared)
        }
        try await run(before.closing)
        let others = try await othersStaying()
        if others > 0 {
            if !before.wasClosed { try await run(before.opening) }
            throw PostgresError(
                .misuse, "\(others == 1 ? "a session is" : "\(others) sessions are") connected to '\(before.name)'",
                hint: "end the connections, or restore into another database")
        }
        try await leavingClosed(before, isWhole: false, fill)
        try await leavingClosed(before, isWhole: true, last)
        try await run(before.opening)
    }

    /// Marks the database while it is open and filled. After an error the mark stays.
    private func marked(_ fill: () async throws -> Void) async throws {
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { try RestoreMark.set(backup, on: $0) }
        }
        try await fill()
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { try RestoreMark.remove(on: $0) }
        }
    }

    private func leavingClosed(_ before: State, isWhole: Bool, _ body: () async throws -> Void) async throws {
        do {
            try await body()
        } catch let error where before.owner != before.user && !(error is CancellationError) {
            throw BackupError.leftClosed(
                database: before.name, reopening: isWhole ? before.opening : nil, cause: error)
        }
    }

    private func state() async throws -> State {
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                let row = try connection.query(
                    """
                    SELECT datname::text, datconnlimit, rolsuper, pg_get_userbyid(datdba)::text, rolname::text,
                        datistemplate, datdba::int8,
                        ARRAY(SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1)
                    FROM pg_database, pg_roles
                    WHERE datname = current_database() AND rolname = current_user
                    """
                ).first
                guard let row else {
                    throw PostgresError(.badValue, "the server returned no row about the current database")
                }
                let left = try ClosedDatabase.read(on: connection)
                let (now, isNow): (String, Bool) = (try row.get(3), try row.get(5))
                let note = ClosedDatabase(
                    owner: try left?.owner ?? row.get(6), limit: try limit ?? left?.limit ?? row.get(1),
                    isTemplate: isTemplate ?? left?.isTemplate ?? isNow, backup: backup)
                let former = try left?.ownerName(on: connection) ?? now
                return State(
                    name: try row.get(0), owner: former, ownerNow: now, heir: owner ?? former, user: try row.get(4),
                    limit: note.limit, isTemplate: note.isTemplate, isTemplateNow: isNow, isSuperuser: try row.get(2),
                    note: note,
                    wasClosed: left != nil, prepared: try row.get(7))
            }
        }
    }

    /// Returns how many other sessions are still in the database after some seconds. Sessions that have just been
    /// closed need a moment to end.
    private func othersStaying() async throws -> Int {
        try await Connection.opened(target.restoring) { connection in
            let start = ContinuousClock.now
            var limit = Duration.seconds(5)
            while true {
                // End the starting sessions first, and then count the others: if a session finishes starting between
                // the two queries, the second query counts it.
                let starting = try await connection.with { try endStarting(on: $0) }
                // A session that was ended while it started ends only after its start, on a busy server much later.
                if starting > 0 { limit = .seconds(30) }
                let count: Int = try await connection.with {
                    try $0.query(
                        """
                        SELECT count(*) FROM pg_stat_activity
                        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
                        """
                    ).first?.get(0) ?? 0
                }
                if starting + count == 0 || .now > start + limit { return starting + count }
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    /// Ends the sessions that are still starting. Such a session may have passed the check of the connection limit
    /// before the database was closed, and any role can keep its own sessions in this state (`post_auth_delay`). A
    /// starting session is not in pg_stat_activity yet, or since version 18 without its database, but holds a lock on
    /// the database (`InitPostgres` of PostgreSQL's postinit.c).
    ///
    /// - Returns: the number of these sessions.
    private func endStarting(on connection: isolated Connection) throws -> Int {
        try connection.query(
            """
            SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks l JOIN pg_database d ON d.oid = l.objid
            WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND d.datname = current_database()
                AND l.pid NOT IN (SELECT a.pid FROM pg_stat_activity a WHERE a.datid IS NOT NULL)
            """
        ).first?.get(0) ?? 0
    }

    /// Runs the statements in one transaction.
    private func run(_ statements: [String]) async throws {
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                try connection.transaction { for statement in statements { try connection.execute(statement) } }
            }
        }
    }
}

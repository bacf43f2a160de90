import Postgres

/// Keeps sessions out of a database while it is restored.
///
/// Meanwhile the database is that of the role that restores: its owner could set the limit himself, or have it copied as a
/// template.
struct RestoreGuard: Sendable {
    private let target: ConnectionSettings

    /// The ID of the backup that is restored.
    private let backup: String

    /// What it is opened with; nil: as it was.
    private let limit: Int?
    private let owner: String?

    init(_ target: ConnectionSettings, restoring backup: String, _ access: DatabaseAccess? = nil) {
        self.target = target
        self.backup = backup
        (limit, owner) = (access?.limit, access?.owner)
    }

    private struct State: Sendable {
        let name: String
        /// That it belonged to before, and now.
        let owner: String
        let ownerNow: String
        /// Whose it is to be.
        let heir: String
        let user: String
        let limit: Int
        let isTemplate: Bool
        let isSuperuser: Bool
        /// What a killed process would forget.
        let note: ClosedDatabase
        /// Whether a restore that did not end has left it closed.
        let wasClosed: Bool

        /// What keeps others out.
        var closing: [String] {
            let database = "ALTER DATABASE \(quoteIdentifier(name))"
            var statements = [
                "\(database) CONNECTION LIMIT 0",
                "\(database) SET \(quoteIdentifier(ClosedDatabase.setting)) TO \(quoteLiteral(note.text))",
            ]
            if ownerNow != user { statements.insert("\(database) OWNER TO \(quoteIdentifier(user))", at: 0) }
            if isTemplate { statements.append("\(database) IS_TEMPLATE false") }
            return statements
        }

        /// What makes it as it was, or as it is to be.
        var opening: [String] {
            let database = "ALTER DATABASE \(quoteIdentifier(name))"
            var statements = ["\(database) CONNECTION LIMIT \(limit)"]
            if isTemplate { statements.append("\(database) IS_TEMPLATE true") }
            if heir != user { statements.append("\(database) OWNER TO \(quoteIdentifier(heir))") }
            statements.append("\(database) RESET \(quoteIdentifier(ClosedDatabase.setting))")
            return statements
        }
    }

    /// Fills the database with the door closed, and opens it as far as it was open. After an error it stays closed: what
    /// is there is half a database, or, where `last` has failed, a whole one that is not yet for others.
    ///
    /// - Parameters:
    ///   - fill: makes the database whole.
    ///   - last: what comes before others are let in.
    /// - Throws: what these throw; as `BackupError.leftClosed` where the database was taken from its owner.
    func closed(_ fill: () async throws -> Void, last: () async throws -> Void) async throws {
        let before = try await state()
        // A role that is no superuser would lock itself out.
        guard before.isSuperuser else {
            try await fill()
            try await last()
            if let limit { try await run(["ALTER DATABASE \(quoteIdentifier(before.name)) CONNECTION LIMIT \(limit)"]) }
            return
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
                        datistemplate, datdba::int8
                    FROM pg_database, pg_roles
                    WHERE datname = current_database() AND rolname = current_user
                    """
                ).first
                guard let row else {
                    throw PostgresError(.badValue, "the server returned no row about the current database")
                }
                let left = try ClosedDatabase.read(on: connection)
                let (now, isTemplate): (String, Bool) = (try row.get(3), try row.get(5))
                let note = ClosedDatabase(
                    owner: try left?.owner ?? row.get(6), limit: try limit ?? left?.limit ?? row.get(1),
                    isTemplate: left?.isTemplate ?? isTemplate, backup: backup)
                let former = try left?.ownerName(on: connection) ?? now
                return State(
                    name: try row.get(0), owner: former, ownerNow: now, heir: owner ?? former, user: try row.get(4),
                    limit: note.limit, isTemplate: note.isTemplate, isSuperuser: try row.get(2), note: note,
                    wasClosed: left != nil)
            }
        }
    }

    /// Sessions that do not end within a few seconds; those that have just been closed take a moment.
    private func othersStaying() async throws -> Int {
        try await Connection.opened(target.restoring) { connection in
            let end = ContinuousClock.now + .seconds(5)
            while true {
                let count: Int = try await connection.with {
                    try $0.query(
                        """
                        SELECT count(*) FROM pg_stat_activity
                        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
                        """
                    ).first?.get(0) ?? 0
                }
                if count == 0 || .now > end { return count }
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    /// All of them, or none.
    private func run(_ statements: [String]) async throws {
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                try connection.transaction { for statement in statements { try connection.execute(statement) } }
            }
        }
    }
}

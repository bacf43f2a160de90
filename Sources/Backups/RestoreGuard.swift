import Postgres

/// Keeps sessions out of a database while it is restored.
struct RestoreGuard: Sendable {
    private let target: ConnectionSettings

    init(_ target: ConnectionSettings) { self.target = target }

    private struct State: Sendable {
        let name: String
        let limit: Int
        let isSuperuser: Bool
    }

    /// Does it with the door closed, and opens it as far as it was open. After an error it stays closed: what is there is
    /// half a database.
    func closed(_ body: () async throws -> Void) async throws {
        let before = try await state()
        // Others than superusers would keep themselves out.
        guard before.isSuperuser else { return try await body() }
        try await limit(before.name, 0)
        let others = try await othersStaying()
        if others > 0 {
            try await limit(before.name, before.limit)
            throw PostgresError(
                .misuse, "\(others == 1 ? "a session is" : "\(others) sessions are") in '\(before.name)'",
                hint: "end what is connected, or restore into another database")
        }
        try await body()
        try await limit(before.name, before.limit)
    }

    private func state() async throws -> State {
        try await Connection.opened(target.named("reeve restore")) { connection in
            try await connection.with { connection in
                let row = try connection.query(
                    """
                    SELECT datname::text, datconnlimit, rolsuper FROM pg_database, pg_roles
                    WHERE datname = current_database() AND rolname = current_user
                    """
                ).first
                guard let row else { throw PostgresError(.badValue, "the database does not know itself") }
                // One that was left closed is opened when it is whole.
                let limit: Int = try row.get(1)
                return State(name: try row.get(0), limit: limit == 0 ? -1 : limit, isSuperuser: try row.get(2))
            }
        }
    }

    /// Sessions that do not end within a few seconds; those that have just been closed take a moment.
    private func othersStaying() async throws -> Int {
        try await Connection.opened(target.named("reeve restore")) { connection in
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

    private func limit(_ name: String, _ number: Int) async throws {
        try await Connection.opened(target.named("reeve restore")) { connection in
            try await connection.with {
                _ = try $0.execute("ALTER DATABASE \(quoteIdentifier(name)) CONNECTION LIMIT \(number)")
            }
        }
    }
}

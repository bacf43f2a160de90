import Postgres

/// Puts a restored database in the place of one that is there, which stays under another name: nothing is lost.
public struct Replacement: Sendable {
    private let target: ConnectionSettings
    private let locale: DatabaseLocale

    public init(of target: ConnectionSettings, like manifest: Manifest) {
        self.target = target
        locale = manifest.locale
    }

    /// Makes a database beside the target, lends it to be filled, and exchanges the two.
    ///
    /// - Returns: what the former one is called now.
    /// - Throws: `PostgresError`: 42501 where the role may not make databases; what `fill` throws, with the target as it
    ///   was.
    public func replace(_ fill: @Sendable (ConnectionSettings) async throws -> Void) async throws -> String {
        let (name, owner, stamp) = try await Connection.opened(target.named("reeve restore")) { connection in
            try await connection.with { connection in
                let row = try connection.query(
                    """
                    SELECT datname::text, pg_get_userbyid(datdba)::text, to_char(now(), 'YYYYMMDD_HH24MISS')
                    FROM pg_database WHERE datname = current_database()
                    """
                ).first
                guard let row else {
                    throw PostgresError(.badValue, "the server returned no row about the current database")
                }
                return (
                    try row.get(0, as: String.self), try row.get(1, as: String.self), try row.get(2, as: String.self)
                )
            }
        }
        // 63 bytes are a name's limit.
        let made = "\(name.clipped(toBytes: 40))_new_\(stamp)"
        let former = "\(name.clipped(toBytes: 40))_before_\(stamp)"
        try await run(
            "CREATE DATABASE \(quoteIdentifier(made)) OWNER \(quoteIdentifier(owner)) TEMPLATE template0 \(locale.clause)"
        )
        do {
            try await fill(target.database(made))
        } catch {
            // A task of its own, for this one may be cancelled.
            try? await Task { try await run("DROP DATABASE IF EXISTS \(quoteIdentifier(made)) WITH (FORCE)") }.value
            // That is gone, and not closed.
            if case BackupError.leftClosed(_, _, let cause) = error { throw cause }
            throw error
        }
        // As a whole, also when this task is cancelled meanwhile: half-way there is no database of the name.
        try await Task {
            try await run(
                "ALTER DATABASE \(quoteIdentifier(name)) CONNECTION LIMIT 0",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = \(quoteLiteral(name))",
                "ALTER DATABASE \(quoteIdentifier(name)) RENAME TO \(quoteIdentifier(former))",
                "ALTER DATABASE \(quoteIdentifier(made)) RENAME TO \(quoteIdentifier(name))",
                "ALTER DATABASE \(quoteIdentifier(former)) CONNECTION LIMIT -1")
        }.value
        return former
    }

    /// Makes the target where it does not exist yet.
    public func makeIfMissing() async throws {
        guard let name = target.parameters["dbname"] else { return }
        let isThere: Bool = try await Connection.opened(maintenance) { connection in
            try await connection.with {
                try $0.query("SELECT count(*) > 0 FROM pg_database WHERE datname = $1", [name]).first?.get(0) ?? false
            }
        }
        if !isThere { try await run("CREATE DATABASE \(quoteIdentifier(name)) TEMPLATE template0 \(locale.clause)") }
    }

    private var maintenance: ConnectionSettings { target.database("postgres").named("reeve restore") }

    private func run(_ statements: String...) async throws {
        try await Connection.opened(maintenance) { connection in
            try await connection.with { connection in for sql in statements { try connection.execute(sql) } }
        }
    }
}

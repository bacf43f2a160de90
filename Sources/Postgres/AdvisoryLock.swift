import Foundation

/// A session-level advisory lock, on a number that is derived from a name (PostgreSQL manual, section 13.3.5).
///
/// The lock is acquired by repeated attempts that do not wait in the server. A session that waits for the lock *within*
/// the server holds a snapshot. If the holder of the lock then runs CREATE INDEX CONCURRENTLY, that command waits for
/// the snapshot, and both sessions wait for ever.
public struct AdvisoryLock: Sendable {
    public let name: String
    public let key: Int64

    /// Creates a lock whose key is a hash of `name` and `secret`.
    ///
    /// - Parameter secret: keeps roles that do not know the secret from acquiring the lock beforehand. Any role that
    ///   may connect can acquire any key, and while a lock is held, `pg_locks` shows its key to every role.
    public init(_ name: String, secret: String = "") {
        self.name = name
        // FNV-1a, 64 bits (RFC draft-eastlake-fnv). The result is the same in all versions and on all machines.
        let hash = (name + secret).utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        key = Int64(bitPattern: hash)
    }

    /// Tries to acquire the lock until it is acquired or `wait` has passed.
    ///
    /// - Parameters:
    ///   - wait: how long to try. With zero, the lock is tried once.
    ///   - waiting: called once, after the first attempt has failed, with the session that holds the lock.
    /// - Returns: whether the lock was acquired. An acquired lock is held until `release`, or until the connection is
    ///   closed.
    /// - Throws: `PostgresError` of kind `configuration` behind a pooler: a session-level lock would remain on the
    ///   pooler's own connection to the server.
    public func acquire(
        on connection: Connection, wait: Duration, waiting: @Sendable (AdvisoryLockHolder?) -> Void = { _ in }
    ) async throws -> Bool {
        let end = ContinuousClock.now + wait
        var pause = 0.02
        var told = false
        while true {
            if try await tryOnce(on: connection) { return true }
            if !told {
                told = true
                waiting(try await holder(on: connection))
            }
            let left = ContinuousClock.now.duration(to: end)
            if left <= .zero { return false }
            let jittered = Duration.seconds(pause * Double.random(in: 0.5...1))
            try await Task.sleep(for: min(jittered, left))
            pause = min(pause * 1.5, 1)
        }
    }

    /// Releases the lock.
    public func release(on connection: Connection) async throws {
        try await connection.with { [key] in
            _ = try $0.query("SELECT pg_catalog.pg_advisory_unlock($1::pg_catalog.int8)", [key])
        }
    }

    private func tryOnce(on connection: Connection) async throws -> Bool {
        try await connection.with { [key, name] connection in
            guard !connection.isPooled else {
                throw PostgresError(
                    .configuration, "the lock '\(name)' requires a direct connection",
                    hint: "set direct_url to the server's own address")
            }
            return try connection.query("SELECT pg_catalog.pg_try_advisory_lock($1::pg_catalog.int8)", [key])
                .first?.get(0, as: Bool.self) ?? false
        }
    }

    /// Returns the session that holds the lock, with the details that the current role may see; nil if no session holds
    /// it.
    public func holder(on connection: Connection) async throws -> AdvisoryLockHolder? {
        try await connection.with { [key] connection in
            let sql = """
                SELECT l.pid, a.usename::pg_catalog.text, a.application_name, a.backend_start
                FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)
                WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
                  AND (l.classid::pg_catalog.int8 << 32 | l.objid::pg_catalog.int8) = $1::pg_catalog.int8
                """
            return try connection.query(sql, [key]).first.map {
                AdvisoryLockHolder(
                    process: try $0.get("pid"), user: try $0.get("usename"),
                    application: try $0.get("application_name"),
                    connectedAt: try $0.get("backend_start"))
            }
        }
    }
}

/// The session that holds an advisory lock.
public struct AdvisoryLockHolder: Sendable, CustomStringConvertible {
    public let process: Int
    public let user: String?
    public let application: String?
    public let connectedAt: Timestamp?

    public var description: String {
        var text = "process \(process)"
        if let user { text += " of \(user)" }
        if let application, !application.isEmpty { text += " (\(application))" }
        if let connectedAt { text += ", connected since \(connectedAt.rfc3339)" }
        return text
    }
}

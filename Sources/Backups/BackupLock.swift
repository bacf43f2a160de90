import Ledger
import Postgres

/// The lock under which only one process at a time adds or removes backups of a database.
///
/// The session of `connection` holds the lock. If the server has ended that session, another process may hold the lock,
/// and parts without a manifest may belong to the backup that the other process is making. So the lock is checked again
/// before anything is removed.
public struct BackupLock: Sendable {
    let lock: AdvisoryLock
    let connection: Connection

    /// Checks that the session still holds the lock.
    ///
    /// - Throws: `BackupError.lockLost`; `PostgresError` if the session has ended.
    public func check() async throws {
        let isHeld = try await connection.with { [key = lock.key] connection in
            try connection.query(
                """
                SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
                    AND pid = pg_backend_pid() AND (classid::int8 << 32 | objid::int8) = $1
                """, [key]
            ).first?.get(0, as: Bool.self) ?? false
        }
        if !isHeld { throw BackupError.lockLost }
    }

    /// Runs a long operation, and cancels it once the lock is lost.
    ///
    /// - Throws: the errors of `check` and of `body`.
    func watching<T: Sendable>(
        every interval: Duration, _ body: @escaping @Sendable () async throws -> T
    ) async throws -> T {
        try await withWatch(
            {
                while (try? await Task.sleep(for: interval)) != nil {
                    // In a failed transaction, the query of `check` fails with 25P02. That error is ignored, because
                    // `body` reports the error that made the transaction fail.
                    do { try await check() } catch let error as PostgresError where error.sqlState == "25P02" {}
                }
            }, body)
    }
}

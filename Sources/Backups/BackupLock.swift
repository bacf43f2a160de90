import Ledger
import Postgres

/// The lock under which one process alone adds backups of a database, or removes some.
///
/// It is the session's: where the server has ended that, another process may have taken the lock, and the parts without a
/// manifest may be its own. So it is asked for again before anything is removed.
public struct BackupLock: Sendable {
    let lock: AdvisoryLock
    let connection: Connection

    /// - Throws: `BackupError.lockLost`; `PostgresError` where the session has ended.
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

    /// Does something that takes long, and ends it once the lock is lost.
    ///
    /// - Throws: as `check`; what `body` throws.
    func watching<T: Sendable>(
        every interval: Duration, _ body: @escaping @Sendable () async throws -> T
    ) async throws -> T {
        try await withWatch(
            {
                while (try? await Task.sleep(for: interval)) != nil {
                    // After an error in the open transaction `body` says what it was.
                    do { try await check() } catch let error as PostgresError where error.sqlState == "25P02" {}
                }
            }, body)
    }
}

import Ledger
import Postgres
import Telemetry

/// The lock that keeps two runs from migrating at the same time.
///
/// A separate connection holds it, because the statements of a migration could release the locks of their own session,
/// for instance with DISCARD ALL. The lock is held until that connection is closed.
struct RunLock: Sendable {
    /// The `application_name` of the session that runs migrations.
    static let session = "reeve migrate"
    /// The `application_name` of the session that holds the lock.
    static let keeper = "reeve migrate lock"

    let settings: Migrator.Settings
    let logger: Logger

    /// Acquires the lock, and ends the sessions that a killed run has left behind.
    ///
    /// - Parameter waiting: called with a description of the holder, once, when the lock is held by another run.
    /// - Throws: `MigrationError.locked`; `LedgerError`; `PostgresError`.
    func acquire(on keeper: Connection, waiting: @Sendable @escaping (String) -> Void) async throws {
        let lock = try await keeper.with { keeper in
            try LedgerSchema.install(on: keeper)
            return try LedgerLock.named("reeve migrations", on: keeper)
        }
        let begins = ContinuousClock.now
        // The first attempt does not wait, so that the holder can be described in full.
        if try await !lock.acquire(on: keeper, wait: .zero) {
            waiting(try await description(of: lock, on: keeper))
            let left = settings.lockWait - (.now - begins)
            if try await !lock.acquire(on: keeper, wait: max(left, .zero)) {
                throw MigrationError.locked(
                    holder: try await description(of: lock, on: keeper), wait: settings.lockWait)
            }
        }
        try await endOrphan(on: keeper)
    }

    /// Describes the session that holds the lock, which statement its migration executes, and which sessions that
    /// statement waits for.
    private func description(of lock: AdvisoryLock, on keeper: Connection) async throws -> String {
        let holder = try await lock.holder(on: keeper)?.description ?? "unknown"
        let working = try await keeper.with { keeper in
            try keeper.query(MigrationLedger.recordedSession).map { try $0.get(0, as: Int.self) }
        }
        guard let process = working.first else { return holder }
        var lines = [holder]
        if let session = try await keeper.with({ try Blocker.session(process, on: $0) }) {
            lines.append("its migration: \(session)")
        }
        let blockers = try await keeper.with { try Blocker.blocking(process, on: $0) }
        lines += blockers.map { "which waits for \($0)" }
        return lines.joined(separator: "\n")
    }

    /// Ends the session of the last run, if it still exists although no run holds the lock. It is left behind if a run
    /// is killed: the server notices that the client is gone only when a statement ends.
    ///
    /// The session is known by its process ID and its start, because a migration can change what else it is known by.
    ///
    /// - Throws: `MigrationError.locked` if the session does not end.
    private func endOrphan(on keeper: Connection) async throws {
        let end = ContinuousClock.now + .seconds(30)
        var told: Set<Int> = []
        while true {
            let orphans = try await keeper.with { keeper in
                try keeper.query(
                    "SELECT o.pid, pg_terminate_backend(o.pid) FROM (\(MigrationLedger.recordedSession)) o"
                ).map { try $0.get(0, as: Int.self) }
            }
            if orphans.isEmpty { return }
            for process in orphans where told.insert(process).inserted {
                logger.warning(
                    "ended a session that an interrupted run had left behind", [LogField("process", process)])
            }
            guard ContinuousClock.now < end else {
                throw MigrationError.locked(
                    holder: "process \(orphans[0]), which an interrupted run has left behind", wait: .seconds(30))
            }
            try await Task.sleep(for: .milliseconds(50))
        }
    }
}

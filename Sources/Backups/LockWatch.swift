import Postgres

/// Ends a backup whose programs wait too long for a lock of another session.
///
/// pg_dump limits its wait for the tables that it locks at its start. It waits without a limit, and without a message,
/// for locks that it acquires later, such as the lock on a materialized view whose definition it reads.
struct LockWatch: Sendable {
    let database: Database
    /// The application name of the programs. No other session has it.
    let application: String
    /// How long one statement may wait.
    let limit: Duration
    /// The time between two checks. A statement that waits during only one check is ignored.
    var interval: Duration = .seconds(5)

    /// Checks until a statement has waited too long, or until the task is cancelled.
    ///
    /// - Throws: `BackupError.held`.
    func run() async throws {
        var waiting: [LockHolders.Waiter.Statement: ContinuousClock.Instant] = [:]
        while (try? await Task.sleep(for: interval)) != nil {
            // If the server does not answer, the programs report that. `waiting` is kept, because the statements in it
            // may still be waiting.
            let look = try? await database.withDirectConnection(named: "reeve backup watch") { connection in
                try await connection.with { try LockHolders.waiters(of: application, on: $0) }
            }
            guard let found = look else { continue }
            let now = ContinuousClock.now
            var still: [LockHolders.Waiter.Statement: ContinuousClock.Instant] = [:]
            for waiter in found {
                let since = waiting[waiter.statement] ?? now
                still[waiter.statement] = since
                if now - since >= limit { throw BackupError.held(holders: waiter.holders) }
            }
            waiting = still
        }
    }
}

/// Runs a long operation, and cancels it once `watch` throws.
///
/// - Parameter watch: runs concurrently with `body`, and returns when it is cancelled.
/// - Throws: the errors of `watch` and `body`; `CancellationError`.
func withWatch<T: Sendable>(
    _ watch: @escaping @Sendable () async throws -> Void, _ body: @escaping @Sendable () async throws -> T
) async throws -> T {
    try await withThrowingTaskGroup(of: T?.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try await watch()
            return nil
        }
        defer { group.cancelAll() }
        while let result = try await group.next() {
            if let result { return result }
        }
        throw CancellationError()
    }
}

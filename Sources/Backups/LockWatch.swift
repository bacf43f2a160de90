import Postgres

/// Ends a backup whose programs wait for somebody's lock.
///
/// pg_dump has a limit for the tables that it locks at its start. For what it locks later, such as a materialized view
/// whose definition it reads, it waits without one, and says nothing.
struct LockWatch: Sendable {
    let database: Database
    /// The application name of the programs, which nothing else has.
    let application: String
    /// How long one statement may wait.
    let limit: Duration
    /// How often is looked; a statement that is found waiting once only is let be.
    var interval: Duration = .seconds(5)

    /// Looks until a statement has waited for too long, or until it is cancelled.
    ///
    /// - Throws: `BackupError.held`.
    func run() async throws {
        var waiting: [LockHolders.Waiter.Statement: ContinuousClock.Instant] = [:]
        while (try? await Task.sleep(for: interval)) != nil {
            // Where the server does not answer, the programs say so themselves; what waited before may wait still.
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

/// Does something that takes long, and ends it once a watch beside it throws.
///
/// - Parameter watch: returns when it is cancelled.
/// - Throws: what either throws; `CancellationError`.
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

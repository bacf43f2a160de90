import Foundation
import Postgres
import Synchronization

/// Finds the sessions that block a slow migration, from a separate connection, and reports them.
///
/// One watch is used for a whole run of migrations. The watch connects only if a migration takes longer than the
/// `patience` given to `begin`.
final class BlockerWatch: Sendable {
    private let database: Database
    private let state = Mutex(State())

    private struct State {
        var patience: Duration?
        var began = ContinuousClock.now
        var seen: [Blocker] = []
        /// Called with the blockers of a statement that waits without a time limit.
        var report: (@Sendable ([Blocker]) -> Void)?
        var nextReport: Duration = .seconds(1)
    }

    init(database: Database) {
        self.database = database
    }

    /// Begins to watch a migration, and discards the blockers of the previous one.
    ///
    /// - Parameter patience: how long the migration may take before its blockers are queried.
    func begin(patience: Duration) {
        state.withLock { $0 = State(patience: patience, began: .now) }
    }

    /// Begins to watch a statement that waits without a time limit. Its blockers are reported after one second, and
    /// then at growing intervals of up to a minute.
    func begin(reporting report: @escaping @Sendable ([Blocker]) -> Void) {
        state.withLock { $0 = State(patience: .milliseconds(500), began: .now, report: report) }
    }

    /// The blockers of the current migration that were found last.
    var seen: [Blocker] { state.withLock { $0.seen } }

    /// Watches the migrations that `body` runs on connections.
    func during<T: Sendable>(_ connections: [Connection], _ body: () async throws -> T) async throws -> T {
        var processes: [Int] = []
        for connection in connections { processes.append(await connection.serverProcess) }
        let looking = Task { [self, processes] in try await findBlockers(of: processes) }
        defer { looking.cancel() }
        return try await body()
    }

    private func findBlockers(of processes: [Int]) async throws {
        try await waitUntilLate()
        try await database.withDirectConnection(named: "reeve migrate watch") { connection in
            while true {
                let blockers = try await connection.with { connection in
                    try processes.flatMap { try Blocker.blocking($0, on: connection) }
                }
                if !blockers.isEmpty { self.saw(blockers) }
                try await Task.sleep(for: .milliseconds(100))
                try await self.waitUntilLate()
            }
        }
    }

    private func saw(_ blockers: [Blocker]) {
        let report = state.withLock { state -> (@Sendable ([Blocker]) -> Void)? in
            state.seen = blockers
            let waited = ContinuousClock.now - state.began
            guard let report = state.report, waited >= state.nextReport else { return nil }
            state.nextReport = waited + min(waited * 4, .seconds(60))
            return report
        }
        report?(blockers)
    }

    /// Returns when the current migration has taken longer than the `patience` given to `begin`.
    private func waitUntilLate() async throws {
        while true {
            let left = state.withLock { state in
                state.patience.map { $0 - (ContinuousClock.now - state.began) } ?? .milliseconds(100)
            }
            if left <= .zero { return }
            // The patience may become shorter in the meantime.
            try await Task.sleep(for: min(left, .milliseconds(500)))
        }
    }
}

import Kernel
import Ledger
import Migrations
import Postgres
import Reporting
import Synchronization

/// The migrations that a run has begun in one database, to report their state if the run is interrupted.
///
/// An interrupted migration may have been committed, or its journal may allow it to continue. The state is therefore
/// read from the ledger.
final class BegunMigrations: Sendable {
    private let database: Database
    private let actions = Mutex<[MigrationAction]>([])
    private let ended = Mutex<[MigrationAction]>([])

    init(in database: Database) { self.database = database }

    /// Records an event of the run.
    func take(_ event: MigrationEvent) {
        switch event {
        case .begins(let action): actions.withLock { $0.append(action) }
        case .ended(let action, _): ended.withLock { $0.append(action) }
        default: break
        }
    }

    /// Runs `body`. If a signal stops it, reports which migrations were applied or reverted. If it fails, adds that to
    /// the error.
    func telling<T>(_ interruption: Interruption, _ body: () async throws -> T) async throws -> T {
        do {
            return try await body()
        } catch {
            // This runs in a separate task, because the current task is cancelled.
            if interruption.signal != nil {
                await Task { await tell(interruption) }.value
                throw error
            }
            guard let error = error as? MigrationError else { throw error }
            throw await told(error)
        }
    }

    private func told(_ error: MigrationError) async -> MigrationError {
        guard case .failed(_, _, let cause, _, _, _) = error, let failed = actions.withLock({ $0.last }) else {
            return error
        }
        let kind = (cause as? PostgresError)?.kind
        // If the outcome is unknown, the error says so.
        let standing =
            kind == .commitOutcomeUnknown ? nil : await standing(of: failed, isRefused: kind == .server)
        return .stopped(
            done: ended.withLock { $0.map(\.title) }, word: failed.direction == .up ? "applied" : "reverted",
            standing: standing, cause: error)
    }

    /// Returns which steps of a failed migration are committed.
    ///
    /// - Parameter isRefused: whether the server has refused a statement. Otherwise, the connection was lost.
    private func standing(of action: MigrationAction, isRefused: Bool) async -> String? {
        guard let version = action.migration.version else { return "none of it was committed" }
        let journal = StepJournal(
            system: action.system.name, version: version, direction: action.direction == .up ? .up : .down)
        let steps = try? await database.withDirectConnection(named: "reeve migrate look") { connection in
            try await connection.with(within: .seconds(3)) { try journal.steps(on: $0) }
        }
        guard let steps else { return nil }
        if steps.isEmpty { return "none of it was committed" }
        guard let plan = try? StepPlan(action, steps) else { return nil }
        guard let next = plan.next else { return "all of its steps are committed; the next run records it" }
        let committed =
            "\(counted(plan.done, "step")) of \(plan.count) of it \(plan.done == 1 ? "is" : "are") committed"
        let unknown = "it is not known what its statement at line \(next.line) has committed"
        let advice =
            isRefused
            ? "correct the file from line \(next.line) on, and run the command again"
            : "the next run continues at line \(next.line)"
        return [plan.done > 0 ? committed : nil, plan.isNextBegun ? unknown : nil, advice].compactMap { $0 }
            .joined(separator: "; ")
    }

    private func tell(_ interruption: Interruption) async {
        let actions = actions.withLock { $0 }
        guard let last = actions.last else { return }
        let word = last.direction == .up ? "applied" : "reverted"
        guard let (records, isStillAtIt) = await readState() else {
            // A migration begins only after the migration before it has ended, so all but the last are complete.
            for action in actions.dropLast() { interruption.did("\(word) \(action.title)") }
            interruption.stands(
                "it is not known whether \(last.title) was \(word); run 'reeve migrate status' once the server "
                    + "answers"
            )
            return
        }
        var standing: [String] = []
        for action in actions {
            let record = records.first {
                $0.system == action.system.name && $0.version == action.migration.version
                    && (action.migration.version != nil || $0.name == action.migration.name)
            }
            switch (action.direction, record?.state) {
            case (.down, .applying): standing.append("\(action.title) is partly applied, and not reverted")
            case (_, .applying), (_, .reverting):
                standing.append(
                    "\(action.title) is partly \(word): run the command again, and it continues after the last "
                        + "finished step"
                )
            case (.up, .applied) where record?.tokenDigest == action.migration.up.tokenDigest, (.down, nil):
                interruption.did("\(word) \(action.title)")
            default:
                standing.append(
                    "\(action.title) is not \(word)" + (isStillAtIt ? "" : ": its transaction was rolled back"))
            }
        }
        if isStillAtIt { standing.append("the server may still be executing the migration, and holding its locks") }
        interruption.stands(standing.joined(separator: "; "))
    }

    /// Returns the ledger's records, and whether a session of a migration is still busy; nil if the server does not
    /// answer within 3 s.
    private func readState() async -> (records: [MigrationRecord], isStillAtIt: Bool)? {
        await withTaskGroup(of: ([MigrationRecord], Bool)?.self) { group in
            group.addTask { [database] in
                try? await database.withDirectConnection(named: "reeve migrate look") { connection in
                    try await connection.with(within: .seconds(3)) { connection in
                        let busy: Bool? = try connection.query(
                            """
                            SELECT count(*) > 0 FROM (\(MigrationLedger.recordedSession)) o
                                JOIN pg_stat_activity a USING (pid)
                            WHERE a.state <> 'idle'
                            """
                        ).first?.get(0)
                        return (try MigrationLedger.records(on: connection), busy ?? true)
                    }
                }
            }
            group.addTask {
                try? await Task.sleep(for: .seconds(3))
                return nil
            }
            defer { group.cancelAll() }
            return await group.next() ?? nil
        }
    }
}

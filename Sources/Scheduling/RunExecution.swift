import Foundation
import Ledger
import Postgres
import Synchronization
import Telemetry

/// How one attempt ended.
public struct RunOutcome: Sendable, Equatable {
    public let run: Int64
    public let state: RunRecord.State
    public let message: String
    public let duration: Duration
}

/// One attempt at a task that was granted: the work under its timeout and its lease, and its end in the ledger.
struct RunExecution: Sendable {
    let task: TaskDefinition
    let run: Int64
    let attempt: Int
    let lease: Duration
    let database: Database
    let logger: Logger

    /// Runs to the end; never throws, for every end is one that the ledger knows.
    func perform() async -> RunOutcome {
        let log = logger.tagged("task", task.name).tagged("run", run)
        log.info("a run begins", [LogField("attempt", attempt)])
        let began = ContinuousClock.now
        let (state, message) = await work(log)
        let duration = ContinuousClock.now - began
        let outcome = RunOutcome(run: run, state: state, message: message, duration: duration)
        await record(outcome, log)
        let fields = [
            LogField("state", state.rawValue), LogField("milliseconds", duration.milliseconds),
            LogField("outcome", message),
        ]
        if state == .succeeded { log.info("a run ended", fields) } else { log.warning("a run ended", fields) }
        return outcome
    }

    private enum Ending: Sendable {
        case worked(String)
        case failed(String)
        case timedOut, lostLease, cancelled
    }

    private func work(_ log: Logger) async -> (RunRecord.State, String) {
        let context = TaskContext(logger: log)
        let work = Task { () -> Ending in
            do {
                return .worked(try await task.work(context))
            } catch is CancellationError {
                return .cancelled
            } catch {
                return .failed(LedgerText.message("\(error)"))
            }
        }
        /// Why the work was told to end, where it was not asked from outside.
        let cause = Mutex<Ending?>(nil)
        let end = { @Sendable (ending: Ending) in
            cause.withLock { $0 = $0 ?? ending }
            work.cancel()
        }
        let timer = Task {
            guard (try? await Task.sleep(for: task.timeout)) != nil else { return }
            end(.timedOut)
        }
        // Not a child of what may be cancelled: whatever tells the work to end, nobody else may begin it before it has.
        let keeper = Task { if await !keepLease() { end(.lostLease) } }
        let result = await withTaskCancellationHandler {
            await work.value
        } onCancel: {
            work.cancel()
        }
        timer.cancel()
        keeper.cancel()
        // What was done is done, also when it was told to end in the same instant or did not heed it.
        var ending = result
        if case .worked = result {} else { ending = cause.withLock { $0 } ?? result }
        switch ending {
        case .worked(let message): return (.succeeded, message)
        case .failed(let message): return (.failed, message)
        case .timedOut: return (.timedOut, "it did not end within \(task.timeout)")
        case .lostLease: return (.lost, "its lease was taken by another process")
        case .cancelled: return (.cancelled, "it was stopped")
        }
    }

    /// Renews the lease until cancelled. A database that is away for a while is no reason to stop.
    ///
    /// - Returns: false when the lease is another's.
    private func keepLease() async -> Bool {
        var pause = lease / 3
        while !Task.isCancelled {
            guard (try? await Task.sleep(for: pause)) != nil else { return true }
            do {
                guard try await renew() else { return false }
                pause = lease / 3
            } catch {
                // A connection that hangs leaves time for another one before the lease is over.
                pause = lease / 12
            }
        }
        return true
    }

    /// Renews the lease within a part of it, whatever takes its time: the turn for a connection, its making, the answer.
    private func renew() async throws -> Bool {
        let limit = max(lease / 6, .seconds(2))
        return try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                try await database.pool.with(within: limit) {
                    try RunLedger.renew(run: run, lease: lease, on: $0)
                }
            }
            group.addTask {
                try await Task.sleep(for: limit)
                throw PostgresError(.timedOut, "the lease was not renewed in time")
            }
            defer { group.cancelAll() }
            return try await group.next() ?? true
        }
    }

    /// Writes the end to the ledger; tries for as long as the lease lasts when the database is away.
    private func record(_ outcome: RunOutcome, _ log: Logger) async {
        guard outcome.state != .lost else { return }
        let database = database
        // Not a child of what may have been cancelled: the end has to be written all the same.
        await Task {
            let end = ContinuousClock.now + lease
            while true {
                do {
                    _ = try await database.pool.with(within: .seconds(10)) {
                        try RunLedger.finish(run: outcome.run, outcome.state, message: outcome.message, on: $0)
                    }
                    return
                } catch {
                    guard ContinuousClock.now < end else {
                        log.error("the end of a run could not be recorded", [LogField("error", error)])
                        return
                    }
                    try? await Task.sleep(for: .seconds(1))
                }
            }
        }.value
    }
}

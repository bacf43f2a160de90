import Foundation
import Ledger
import Postgres
import Synchronization
import Telemetry

/// The result of one attempt.
public struct RunOutcome: Sendable, Equatable {
    public let run: Int64
    public let state: RunRecord.State
    public let message: String
    public let duration: Duration
}

/// One attempt of a task that the ledger has granted to this process. Runs the work within the task's timeout, renews
/// the run's lease in the meantime, and records the result in the ledger.
struct RunExecution: Sendable {
    let task: TaskDefinition
    let run: Int64
    let attempt: Int
    let lease: Duration
    let database: Database
    let logger: Logger

    /// Runs the attempt to its end. Does not throw, because every result is a state that the ledger can record.
    func perform() async -> RunOutcome {
        let log = logger.tagged("task", task.name).tagged("run", run)
        log.info("a run started", [LogField("attempt", attempt)])
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
        /// Why this code cancelled the work; nil if the work was not cancelled, or the caller cancelled it.
        let cause = Mutex<Ending?>(nil)
        let end = { @Sendable (ending: Ending) in
            cause.withLock { $0 = $0 ?? ending }
            work.cancel()
        }
        let timer = Task {
            guard (try? await Task.sleep(for: task.timeout)) != nil else { return }
            end(.timedOut)
        }
        // The lease is renewed in an unstructured Swift task, so that a cancelled caller does not stop the renewal. The
        // lease must last until the work has ended; otherwise another process could begin the same work.
        let keeper = Task { if await !keepLease() { end(.lostLease) } }
        let result = await withTaskCancellationHandler {
            await work.value
        } onCancel: {
            work.cancel()
        }
        timer.cancel()
        keeper.cancel()
        // Work that returned a result counts as succeeded, even if it was cancelled at the same moment or ignored the
        // cancellation.
        var ending = result
        if case .worked = result {} else { ending = cause.withLock { $0 } ?? result }
        switch ending {
        case .worked(let message): return (.succeeded, message)
        case .failed(let message): return (.failed, message)
        case .timedOut: return (.timedOut, "the run did not end within \(task.timeout)")
        case .lostLease: return (.lost, "another process took over the run's lease")
        case .cancelled: return (.cancelled, "the run was stopped")
        }
    }

    /// Renews the lease until cancelled. Continues if the database is temporarily unreachable.
    ///
    /// - Returns: false if the lease no longer belongs to this run.
    private func keepLease() async -> Bool {
        var pause = lease / 3
        while !Task.isCancelled {
            guard (try? await Task.sleep(for: pause)) != nil else { return true }
            do {
                guard try await renew() else { return false }
                pause = lease / 3
            } catch {
                // Retry soon: if this connection hangs, another connection can still renew the lease before the lease
                // expires.
                pause = lease / 12
            }
        }
        return true
    }

    /// Renews the lease, within a time limit that is a fraction of the lease's duration. The limit covers waiting for a
    /// connection, opening it, and waiting for the answer.
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

    /// Records the result in the ledger. If the database is unreachable, retries for the duration of the lease.
    private func record(_ outcome: RunOutcome, _ log: Logger) async {
        guard outcome.state != .lost else { return }
        let database = database
        // The result is recorded in an unstructured task, because it must be recorded even if the current task was
        // cancelled.
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

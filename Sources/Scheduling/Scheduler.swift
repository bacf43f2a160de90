import Foundation
import Ledger
import Postgres
import Synchronization
import Telemetry

/// Runs tasks when they are due, in any number of processes on one database, each occurrence once.
///
/// Every task has a loop of its own: sleep until it is due, claim the occurrence in the ledger, run it, try again after
/// a failure. A database that is away is waited for; an occurrence whose turn passes meanwhile is run late, until the
/// next one is due.
public final class Scheduler: Sendable {
    public struct Settings: Sendable {
        /// Names this process in the ledger.
        public var instance: String
        /// How long a run counts as alive without a sign of life.
        public var lease: Duration = .seconds(60)
        /// The pause between two tries to reach the database.
        public var patience: Duration = .seconds(2)
        /// Whether a run ends with the task that asked for it by `runNow`; the schedule's never do.
        public var endsWithCaller = false

        public init(instance: String) { self.instance = instance }
    }

    public let tasks: [TaskDefinition]
    private let database: Database
    private let settings: Settings
    private let logger: Logger
    private let observe: @Sendable (TaskDefinition, RunOutcome) -> Void
    private let running = Mutex<[Int64: Task<RunOutcome, Never>]>([:])

    /// - Parameter observe: told of every end of a run, for metrics.
    public init(
        tasks: [TaskDefinition], database: Database, settings: Settings, logger: Logger,
        observe: @escaping @Sendable (TaskDefinition, RunOutcome) -> Void = { _, _ in }
    ) {
        self.tasks = tasks
        self.database = database
        self.settings = settings
        self.logger = logger
        self.observe = observe
    }

    /// Runs until cancelled; then returns when what runs has ended (see `stopRunning`).
    public func run() async {
        await withTaskGroup(of: Void.self) { group in
            for task in tasks where task.isEnabled {
                group.addTask { await self.loop(task) }
            }
        }
    }

    /// Cancels the work that still runs; `run` then returns soon.
    public func stopRunning() {
        let all = running.withLock { Array($0.values) }
        for task in all { task.cancel() }
    }

    /// How many runs are under way in this process.
    public var runningCount: Int { running.withLock { $0.count } }

    /// Runs a task now, whatever its schedule says, with its retries.
    ///
    /// - Throws: `SchedulingError`, `PostgresError`.
    public func runNow(_ name: String) async throws -> RunOutcome {
        guard let task = tasks.first(where: { $0.name == name }) else { throw SchedulingError.unknownTask(name) }
        guard case .granted(let run) = try await claimNow(name) else { throw SchedulingError.alreadyRunning(name) }
        return await attempts(task, run, occurrence: nil)
    }

    /// Claims a run by hand. Where the answer was lost on the way it asks again, under the same name.
    private func claimNow(_ name: String) async throws -> RunLedger.Claim {
        let wish = UUID()
        var tries = 0
        while true {
            do {
                return try await database.pool.with {
                    try RunLedger.claim(
                        task: name, occurrence: nil, instance: self.settings.instance, lease: self.settings.lease,
                        wish: wish, on: $0)
                }
            } catch let error as PostgresError
                where [.connectionLost, .commitOutcomeUnknown].contains(error.kind) && tries < 5
            {
                tries += 1
                try await Task.sleep(for: settings.patience)
            }
        }
    }

    // MARK: One task

    private func loop(_ task: TaskDefinition) async {
        var last = Int(Date().timeIntervalSince1970)
        while !Task.isCancelled {
            guard let due = task.schedule.next(after: last) else { return }
            last = due
            let jitter = task.jitter.inSeconds
            guard await sleep(until: Double(due) + Double.random(in: 0...max(jitter, 0.001))) else { return }
            let following = task.schedule.next(after: due) ?? .max
            guard let run = await claim(task, due: due, before: following) else { continue }
            _ = await attempts(task, run, occurrence: Timestamp(seconds: due))
            // Occurrences that came while this one ran have been another's, or are over.
            last = max(last, Int(Date().timeIntervalSince1970) - 1)
        }
    }

    /// Sleeps in short stretches, for the clock may be set meanwhile.
    private func sleep(until instant: Double) async -> Bool {
        while true {
            let left = instant - Date().timeIntervalSince1970
            if left <= 0 { return !Task.isCancelled }
            guard (try? await Task.sleep(for: .seconds(min(left, 20)))) != nil else { return false }
        }
    }

    /// - Returns: the run, if it is this process that has it.
    private func claim(_ task: TaskDefinition, due: Int, before following: Int) async -> Int64? {
        guard let occurrence = Timestamp(seconds: due) else { return nil }
        let wish = UUID()
        var told = false
        while !Task.isCancelled {
            do {
                let claim = try await database.pool.with(within: .seconds(10)) {
                    try RunLedger.claim(
                        task: task.name, occurrence: occurrence, instance: self.settings.instance,
                        lease: self.settings.lease, wish: wish, on: $0)
                }
                switch claim {
                case .granted(let run): return run
                case .taken: return nil
                case .overlaps:
                    logger.warning(
                        "an occurrence was skipped, for the run before it had not ended", [LogField("task", task.name)])
                    return nil
                case .early(let seconds): try await Task.sleep(for: .seconds(min(seconds, 20) + 0.01))
                }
            } catch {
                if !told {
                    logger.warning(
                        "an occurrence waits for the database", [LogField("task", task.name), LogField("error", error)])
                }
                told = true
                if Int(Date().timeIntervalSince1970) >= following { return nil }
                try? await Task.sleep(for: settings.patience)
            }
        }
        return nil
    }

    private func attempts(_ task: TaskDefinition, _ first: Int64, occurrence: Timestamp?) async -> RunOutcome {
        var run = first
        var attempt = 1
        while true {
            let outcome = await perform(task, run, attempt)
            observe(task, outcome)
            let mayRetry = [.failed, .timedOut].contains(outcome.state) && attempt <= task.retries && !Task.isCancelled
            guard mayRetry, (try? await Task.sleep(for: task.pause(after: attempt))) != nil else { return outcome }
            attempt += 1
            guard let next = await nextAttempt(task, occurrence, attempt) else { return outcome }
            run = next
        }
    }

    private func nextAttempt(_ task: TaskDefinition, _ occurrence: Timestamp?, _ attempt: Int) async -> Int64? {
        let wish = UUID()
        while !Task.isCancelled {
            do {
                return try await database.pool.with(within: .seconds(10)) {
                    try RunLedger.retry(
                        task: task.name, occurrence: occurrence, attempt: attempt, instance: self.settings.instance,
                        lease: self.settings.lease, wish: wish, on: $0)
                }
            } catch {
                try? await Task.sleep(for: settings.patience)
            }
        }
        return nil
    }

    private func perform(_ task: TaskDefinition, _ run: Int64, _ attempt: Int) async -> RunOutcome {
        let execution = RunExecution(
            task: task, run: run, attempt: attempt, lease: settings.lease, database: database, logger: logger)
        // Of its own, so that the end of the schedule does not end the work.
        let work = Task { await execution.perform() }
        running.withLock { $0[run] = work }
        defer { running.withLock { _ = $0.removeValue(forKey: run) } }
        return await withTaskCancellationHandler {
            await work.value
        } onCancel: {
            if settings.endsWithCaller { work.cancel() }
        }
    }
}

/// Why a task cannot be run by hand.
public enum SchedulingError: Error, CustomStringConvertible {
    case unknownTask(String)
    case alreadyRunning(String)

    public var description: String {
        switch self {
        case .unknownTask(let name): "there is no task '\(name)'"
        case .alreadyRunning(let name): "the task '\(name)' is running already"
        }
    }

    public var hint: String {
        switch self {
        case .unknownTask: "see 'reeve task list'"
        case .alreadyRunning(let name): "see 'reeve task history --task \(name)'"
        }
    }
}

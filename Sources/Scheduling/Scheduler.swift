import Foundation
import Ledger
import Postgres
import Reporting
import Synchronization
import Telemetry

/// Runs tasks when they are due. Several processes can share one database; each occurrence runs in only one of them.
///
/// Each task has its own loop: sleep until an occurrence is due, claim it in the ledger, run it, and retry after a
/// failure. The database's clock decides when an occurrence is due, not the host's clock. If the database is
/// unreachable, the loop waits for it. An occurrence that was due in the meantime runs late, unless the next occurrence
/// is already due.
public final class Scheduler: Sendable {
    public struct Settings: Sendable {
        /// The name of this process in the ledger.
        public var instance: String
        /// The duration of a lease. A run whose lease was not renewed for this long no longer counts as running.
        public var lease: Duration = .seconds(60)
        /// The pause between two attempts to reach the database.
        public var patience: Duration = .seconds(2)
        /// Whether a run is cancelled when the Swift task that waits for it is cancelled, for instance the caller of
        /// `runNow`.
        public var endsWithCaller = false
        /// The clocks of this machine.
        public var hostClock = HostClock.system
        /// How often the database's clock is read.
        public var clockInterval: Duration = .seconds(10)
        /// Called about once a second while the schedule is followed, to show that this process does not hang.
        public var turned: @Sendable () -> Void = {}

        public init(instance: String) { self.instance = instance }
    }

    public let tasks: [TaskDefinition]
    private let database: Database
    private let settings: Settings
    private let logger: Logger
    private let observe: @Sendable (TaskDefinition, RunOutcome) -> Void
    private let running = Mutex<[Int64: Task<RunOutcome, Never>]>([:])
    private let clock: DatabaseClock

    /// - Parameter observe: called after every attempt, for metrics.
    public init(
        tasks: [TaskDefinition], database: Database, settings: Settings, logger: Logger,
        observe: @escaping @Sendable (TaskDefinition, RunOutcome) -> Void = { _, _ in }
    ) {
        self.tasks = tasks
        self.database = database
        self.settings = settings
        self.logger = logger
        self.observe = observe
        let host = settings.hostClock
        clock = DatabaseClock(host: host, interval: settings.clockInterval, logger: logger) {
            try await database.pool.with(within: .seconds(5)) { connection in
                let asked = host.monotonic()
                let rows = try connection.query("SELECT extract(epoch FROM pg_catalog.clock_timestamp())::float8")
                let wait = host.monotonic() - asked
                guard let time = try rows.first?.get(0, as: Double.self) else {
                    throw PostgresError(.server, "the database did not report its time")
                }
                // Assume that the server read its clock in the middle of the round trip.
                return ClockReading(database: time, host: host.wall() - wait / 2, monotonic: asked + wait / 2)
            }
        }
    }

    /// The time of the database's clock, in seconds since 1970; the host's time before the first reading.
    public var databaseTime: Double { clock.now }

    /// How many seconds the host's clock is ahead of the database's clock; nil before the first reading.
    public var clockDifference: Double? { clock.reading?.difference }

    /// A difference between the clocks is reported if it exceeds this number of seconds.
    public static let notableDifference = DatabaseClock.notable

    /// Runs the schedule until cancelled, and then waits for the running tasks to end (see `stopRunning`). Returns
    /// immediately if no task is enabled.
    public func run() async {
        let enabled = tasks.filter(\.isEnabled)
        guard !enabled.isEmpty, await readClock() else { return }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.clock.keep(turned: self.settings.turned) }
            await withTaskGroup(of: Void.self) { loops in
                for task in enabled { loops.addTask { await self.loop(task) } }
            }
            group.cancelAll()
        }
    }

    /// Reads the database's clock, and retries until a reading succeeds.
    ///
    /// - Returns: false if the task was cancelled.
    private func readClock() async -> Bool {
        while await !clock.measure() {
            guard (try? await Task.sleep(for: settings.patience)) != nil else { return false }
        }
        return !Task.isCancelled
    }

    /// Cancels the running work, so that `run` returns soon.
    public func stopRunning() {
        let all = running.withLock { Array($0.values) }
        for task in all { task.cancel() }
    }

    /// The number of runs of this process that have not ended.
    public var runningCount: Int { running.withLock { $0.count } }

    /// Runs a task now, independent of its schedule, with its retries.
    ///
    /// - Throws: `SchedulingError`, `PostgresError`.
    public func runNow(_ name: String) async throws -> RunOutcome {
        guard let task = tasks.first(where: { $0.name == name }) else {
            throw SchedulingError.unknownTask(name, known: tasks.map(\.name))
        }
        guard case .granted(let run) = try await claimNow(name) else { throw SchedulingError.alreadyRunning(name) }
        return await attempts(task, run, occurrence: nil)
    }

    /// Claims a run for `runNow`. If the connection is lost before the answer arrives, repeats the request with the
    /// same `wish`, so that the ledger does not grant a second run.
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
        let host = settings.hostClock
        var last = Int(clock.now.rounded(.down))
        var lag = jitter(of: task)
        while !Task.isCancelled {
            let (time, monotonic) = (clock.now, host.monotonic())
            last = NextStep.start(last: last, time: time)
            let step = NextStep.decide(task.schedule, after: last, lag: lag, time: time, monotonic: monotonic)
            switch step {
            case .end: return
            case .sleep(let instant):
                let left = instant - host.monotonic()
                if left > 0, (try? await Task.sleep(for: .seconds(left))) == nil { return }
            case .claim(let due):
                switch await claim(task, due: due) {
                case .early: continue
                case .passed: last = due
                case .granted(let run):
                    let (began, start) = (clock.now, host.monotonic())
                    _ = await attempts(task, run, occurrence: Timestamp(seconds: due))
                    last = NextStep.last(after: due, began: began, took: host.monotonic() - start)
                }
                lag = jitter(of: task)
            }
        }
    }

    private func jitter(of task: TaskDefinition) -> Double { Double.random(in: 0...max(task.jitter.inSeconds, 0.001)) }

    private enum Claimed {
        case granted(Int64)
        /// The occurrence does not run in this process: another process has claimed it, the previous run has not ended,
        /// the next occurrence is already due, or the schedule was cancelled.
        case passed
        /// The occurrence is not due yet by the database's clock, which was read again.
        case early
    }

    private func claim(_ task: TaskDefinition, due: Int) async -> Claimed {
        guard let occurrence = Timestamp(seconds: due) else { return .passed }
        let following = task.schedule.next(after: due) ?? .max
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
                case .granted(let run): return .granted(run)
                case .taken: return .passed
                case .overlaps:
                    logger.warning(
                        "an occurrence was skipped, because the previous run had not ended",
                        [LogField("task", task.name)])
                    return .passed
                case .early(let seconds):
                    await clock.measure()
                    try? await Task.sleep(for: .seconds(min(seconds, 1) + 0.01))
                    return .early
                }
            } catch {
                if !told {
                    logger.warning(
                        "an occurrence is delayed until the database can be used",
                        [LogField("task", task.name), LogField("error", error)])
                }
                told = true
                if clock.now >= Double(following) { return .passed }
                try? await Task.sleep(for: settings.patience)
            }
        }
        return .passed
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

    /// Requests a further attempt of a failed run from the ledger.
    ///
    /// - Returns: the number of the next run; nil if another run has begun, the next occurrence is due, or the ledger
    ///   refuses the attempt.
    private func nextAttempt(_ task: TaskDefinition, _ occurrence: Timestamp?, _ attempt: Int) async -> Int64? {
        let wish = UUID()
        let log = logger.tagged("task", task.name).tagged("attempt", attempt)
        let following = occurrence.flatMap { task.schedule.next(after: Int($0.secondsSince1970.rounded(.down))) }
        var told: String?
        while !Task.isCancelled {
            do {
                return try await database.pool.with(within: .seconds(10)) {
                    try RunLedger.retry(
                        task: task.name, occurrence: occurrence, attempt: attempt, instance: self.settings.instance,
                        lease: self.settings.lease, wish: wish, on: $0)
                }
            } catch {
                let reason = "\(error)"
                guard Self.mayPass(error) else {
                    log.error("no further attempt is made, because the ledger refused it", [LogField("error", reason)])
                    return nil
                }
                if reason != told {
                    log.warning(
                        "a further attempt is delayed until the database can be used", [LogField("error", reason)])
                    told = reason
                }
                if let following, clock.now >= Double(following) {
                    log.warning("no further attempt is made, because the next occurrence is due")
                    return nil
                }
                try? await Task.sleep(for: settings.patience)
            }
        }
        return nil
    }

    /// Whether the error may be temporary.
    private static func mayPass(_ error: any Error) -> Bool {
        guard let error = error as? PostgresError else { return error is CancellationError }
        switch error.kind {
        case .timedOut, .commitOutcomeUnknown: return true
        // SQLSTATE class 53 means that the server lacks resources, class 57 that an administrator intervened.
        case .server: return error.isTransient || ["53", "57"].contains { error.sqlState?.hasPrefix($0) == true }
        default: return error.isTransient
        }
    }

    private func perform(_ task: TaskDefinition, _ run: Int64, _ attempt: Int) async -> RunOutcome {
        let execution = RunExecution(
            task: task, run: run, attempt: attempt, lease: settings.lease, database: database, logger: logger)
        // The work runs in an unstructured task, so that cancelling the schedule does not cancel the work.
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
    case unknownTask(String, known: [String] = [])
    case alreadyRunning(String)

    public var description: String {
        switch self {
        case .unknownTask(let name, _): "the task '\(name)' does not exist"
        case .alreadyRunning(let name): "the task '\(name)' is already running"
        }
    }

    public var hint: String {
        switch self {
        case .unknownTask(let name, let known):
            didYouMean(name, among: known) ?? "list the tasks with 'reeve task list'"
        case .alreadyRunning(let name): "wait until it has ended; 'reeve task history --task \(name)' shows its runs"
        }
    }
}

extension SchedulingError: ReportedError {
    public static let codes = [
        ErrorCode("task", [.usage, .locked], "The task does not exist, or is already running.")
    ]

    public var report: ErrorReport {
        let exitCode: ExitCode =
            switch self {
            case .unknownTask: .usage
            case .alreadyRunning: .locked
            }
        return ErrorReport(description, code: "task", hint: hint, exitCode: exitCode)
    }
}

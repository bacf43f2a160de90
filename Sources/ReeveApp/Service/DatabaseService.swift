import Foundation
import Kernel
import Ledger
import Postgres
import Scheduling
import Synchronization
import Telemetry

/// The work of `reeve serve` for one database: waits until the database can be reached, installs the ledger, applies
/// migrations if that is configured, runs the schedule and checks the health.
final class DatabaseService: Sendable {
    private let open: OpenDatabase
    private let configuration: Configuration
    private let probes: [ReadinessProbe]
    private let collectors: CollectorRun
    /// The tasks to run as soon as the ledger is installed.
    private let first: [String]
    private let metrics: ServiceMetrics
    private let readiness: Readiness
    private let progress: ServiceProgress
    private let logger: Logger
    private let scheduler: Scheduler
    /// The embedded cluster, if it had to be restarted. The cluster runs as long as this value exists.
    private let restarted = Mutex<EmbeddedCluster?>(nil)
    /// The checks that have not answered, each with the time of the first query without an answer.
    private let unanswered = Mutex<[String: ContinuousClock.Instant]>([:])

    init(
        _ open: OpenDatabase, features: FeatureList, configuration: Configuration, metrics: ServiceMetrics,
        readiness: Readiness, progress: ServiceProgress, logger: Logger
    ) throws {
        self.open = open
        self.configuration = configuration
        self.metrics = metrics
        self.readiness = readiness
        self.progress = progress
        self.logger = logger.tagged("database", open.name)
        let plans = try features.plans(configuration, database: open.name, isEmbedded: open.isEmbedded)
        probes = features.probes
        first = plans.filter { $0.spec.runsAtStart && $0.isEnabled }.map(\.spec.name)
        collectors = CollectorRun(
            collectors: features.collectors, open: open, metrics: metrics, logger: self.logger)
        var scheduling = Scheduler.Settings(instance: ServiceInstance.name)
        scheduling.turned = { progress.turn("schedule of \(open.name)") }
        scheduler = Scheduler(
            tasks: plans.map { $0.definition(for: open, configuration) }, database: open.database,
            settings: scheduling, logger: self.logger
        ) { task, outcome in
            metrics.observe(outcome, of: task, database: open.name)
        }
        metrics.setUp(false, database: open.name)
        readiness.set("database/\(open.name)", false, "not reached yet")
        readiness.set("ledger/\(open.name)", false, "not reached yet")
        for probe in probes { readiness.set("\(probe.name)/\(open.name)", false, "not checked yet") }
    }

    /// Runs until cancelled or until a permanent error, and then waits for the running tasks to end.
    ///
    /// - Parameter failing: called with a permanent error as soon as it is known.
    /// - Throws: a permanent error that makes the ledger unusable, such as `LedgerError.newer`, which only a newer
    ///   program can remedy. Temporary errors are retried, and reported in the log and in `/readyz`.
    func run(failing: @escaping @Sendable (any Error) -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await self.watchHealth() }
            group.addTask { await self.watchMetrics() }
            for probe in self.probes { group.addTask { try await self.watch(probe) } }
            group.addTask {
                try await self.makeLedger()
                // The first tasks run concurrently with the schedule, so that a migration that fails and is retried
                // does not delay other tasks.
                async let begun: Void = self.runFirst()
                async let collected: Void = self.collectors.run()
                await self.scheduler.run()
                self.progress.end("schedule of \(self.open.name)")
                _ = await (begun, collected)
            }
            do {
                for try await _ in group {}
            } catch {
                // Call `failing` now. The group is cancelled when this closure throws, but its running work may need
                // time to end.
                if !(error is CancellationError) { failing(error) }
                throw error
            }
        }
    }

    func stopRunning() { scheduler.stopRunning() }

    var runningCount: Int { scheduler.runningCount }

    func close() async { await open.database.pool.close() }

    private func makeLedger() async throws {
        while true {
            try Task.checkCancellation()
            // An upgrade may take long, so it has no time limit. A wait of more than 5 s is reported.
            let telling = Task {
                try await Task.sleep(for: .seconds(5))
                readiness.set(
                    "ledger/\(open.name)", false, "waiting for the ledger; another process may hold a lock on it")
                logger.warning("waiting for the ledger; another process may hold a lock on it")
            }
            defer { telling.cancel() }
            do {
                try await open.database.pool.with { try LedgerSchema.install(on: $0) }
                telling.cancel()
                readiness.set("ledger/\(open.name)", true, "version \(LedgerSchema.version)")
                return
            } catch  where Self.mayPass(error) {
                readiness.set("ledger/\(open.name)", false, Readiness.publicMessage(error))
                logger.warning("the ledger cannot be used yet", [LogField("error", error)])
                try await Task.sleep(for: .seconds(2))
            }
        }
    }

    /// Whether the error may be temporary: the database is unreachable or busy, or an administrator has yet to grant a
    /// right in it.
    private static func mayPass(_ error: any Error) -> Bool {
        switch error {
        case LedgerError.busy, LedgerError.recording: return true
        default: break
        }
        guard let error = error as? PostgresError else { return false }
        switch error.kind {
        case .server, .cannotConnect, .connectionLost, .timedOut, .commitOutcomeUnknown, .poolExhausted: return true
        default: return false
        }
    }

    /// Runs the tasks of `first` once, without waiting for their schedule.
    private func runFirst() async {
        for name in first {
            do {
                _ = try await scheduler.runNow(name)
            } catch let error as SchedulingError {
                logger.info(
                    "another process is running the task",
                    [LogField("task", name), LogField("reason", error.description)])
            } catch {
                logger.warning(
                    "the task could not be run at start, and waits for its schedule",
                    [LogField("task", name), LogField("error", error)])
            }
        }
        // Ask the probes immediately, because the tasks may have changed the state. Errors are ignored here, because
        // `watch` also reports a permanent error.
        await withTaskGroup(of: Void.self) { group in
            for probe in probes { group.addTask { try? await self.askInTime(probe) } }
        }
    }

    // MARK: Health

    /// The pause between two pings, and between two readings of the state.
    private static let pingPause: Duration = .seconds(5)
    private static let statePause: Duration = .seconds(15)
    /// The time limit of one ping or one reading.
    private static let lookLimit: Duration = .seconds(10)

    /// How long a good result is valid if the check is repeated after `pause`: three times the pause and the time limit
    /// together.
    private static func validity(_ pause: Duration) -> Duration { (pause + lookLimit) * 3 }

    private func watchHealth() async {
        var misses = 0
        while !Task.isCancelled {
            progress.turn("health of \(open.name)")
            let isUp = await ping()
            misses = isUp ? 0 : misses + 1
            if misses >= 2, open.isEmbedded { await restart() }
            guard (try? await Task.sleep(for: isUp ? Self.pingPause : .seconds(1))) != nil else { return }
        }
    }

    private func watchMetrics() async {
        while !Task.isCancelled {
            progress.turn("metrics of \(open.name)")
            let isReady = readiness.isGood("ledger/\(open.name)")
            if isReady {
                metrics.setDue(scheduler.tasks, database: open.name, time: scheduler.databaseTime)
                await metrics.readPool(of: open)
            }
            guard (try? await Task.sleep(for: isReady ? Self.statePause : .milliseconds(500))) != nil else { return }
        }
    }

    /// Asks a probe repeatedly. The probes run concurrently with each other and with the pings, so that one that hangs,
    /// for instance because of a lock on a table, delays no other.
    private func watch(_ probe: ReadinessProbe) async throws {
        while !Task.isCancelled {
            let isUp = readiness.isGood("database/\(open.name)")
            if isUp { try await askInTime(probe) }
            let pause = readiness.isGood("\(probe.name)/\(open.name)") ? Self.statePause : Self.pingPause
            guard (try? await Task.sleep(for: isUp ? pause : .milliseconds(500))) != nil else { return }
        }
    }

    /// The error of a check that did not answer within the time limit.
    private struct Late: Error, CustomStringConvertible {
        var description: String { "no answer within \(lookLimit)" }
    }

    /// Runs a check with a time limit. At the limit the check is cancelled, and it counts as not ready until it
    /// answers.
    ///
    /// - Throws: `Late`; the errors of `look`.
    private func inTime(
        _ check: String, whenLate: @escaping @Sendable () -> Void = {},
        _ look: @escaping @Sendable () async throws -> Void
    ) async throws {
        let began = unanswered.withLock { since in
            let first = since[check] ?? .now
            since[check] = first
            return first
        }
        let work = Task { try await look() }
        let watch = Task { [readiness, open] in
            guard (try? await Task.sleep(for: Self.lookLimit)) != nil else { return false }
            work.cancel()
            repeat {
                whenLate()
                let seconds = (ContinuousClock.now - began).components.seconds
                readiness.set("\(check)/\(open.name)", false, "has not answered for \(seconds) s")
            } while (try? await Task.sleep(for: .seconds(1))) != nil
            return true
        }
        let result = await withTaskCancellationHandler {
            await work.result
        } onCancel: {
            work.cancel()
        }
        watch.cancel()
        if await watch.value { throw Late() }
        unanswered.withLock { _ = $0.removeValue(forKey: check) }
        try result.get()
    }

    private func ping() async -> Bool {
        do {
            try await inTime(
                "database", whenLate: { [metrics, open] in metrics.setUp(false, database: open.name) },
                { [open] in
                    try await open.database.pool.with(within: .seconds(5)) { _ = try $0.query("SELECT 1") }
                })
            metrics.setUp(true, database: open.name)
            readiness.set("database/\(open.name)", true, "answers", lasts: Self.validity(Self.pingPause))
            if let difference = scheduler.clockDifference {
                readiness.set("clock/\(open.name)", true, Self.words(onDifference: difference))
            }
            return true
        } catch {
            if Task.isCancelled { return true }
            metrics.setUp(false, database: open.name)
            if !(error is Late) {
                readiness.set("database/\(open.name)", false, Readiness.publicMessage(error))
            }
            logger.warning(
                "the database does not answer", [LogField("error", (error as? PostgresError)?.message ?? "\(error)")])
            return false
        }
    }

    private func askInTime(_ probe: ReadinessProbe) async throws {
        do {
            try await inTime(probe.name) { try await self.ask(probe) }
        } catch is Late {
            logger.warning(
                "the state of the database could not be read in time; another session may hold a lock on a table",
                [LogField("check", probe.name), LogField("limit", Self.lookLimit)])
        }
    }

    /// The message about the host's clock. A difference is not an error of the service, because the schedule follows
    /// the database's clock. The difference is reported so that an administrator can find it.
    static func words(onDifference seconds: Double) -> String {
        guard abs(seconds) > Scheduler.notableDifference else {
            return "the host's clock agrees with the database's clock"
        }
        let way = seconds > 0 ? "ahead of" : "behind"
        return
            "the host's clock is \(Int(abs(seconds).rounded())) s \(way) the database's clock, which the schedule "
            + "follows"
    }

    /// Asks a probe once, if the ledger is installed.
    ///
    /// - Throws: `LedgerError` if another program has changed the ledger so that this program cannot use it.
    private func ask(_ probe: ReadinessProbe) async throws {
        do {
            guard try await open.database.pool.with(within: .seconds(10), { try LedgerSchema.isInstalled(on: $0) })
            else { return }
            let answer = try await probe.ask(open, configuration)
            readiness.set(
                "\(probe.name)/\(open.name)", answer.isReady, answer.message, lasts: Self.validity(Self.statePause))
        } catch let error as LedgerError where !Self.mayPass(error) {
            readiness.set("ledger/\(open.name)", false, Readiness.publicMessage(error))
            throw error
        } catch {
            if Task.isCancelled { return }
            readiness.set("\(probe.name)/\(open.name)", false, Readiness.publicMessage(error))
            logger.warning(
                "the state of the database could not be read",
                [LogField("check", probe.name), LogField("error", error)])
        }
    }

    private func restart() async {
        do {
            let cluster = try await EmbeddedCluster.acquire(
                EmbeddedCluster.Options(stateFolder: configuration.stateFolder), logger: logger)
            restarted.withLock { $0 = cluster }
        } catch {
            logger.error("the embedded PostgreSQL could not be restarted", [LogField("error", error)])
        }
    }
}

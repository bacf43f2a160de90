import Foundation
import Kernel
import Ledger
import Postgres
import Scheduling
import Synchronization
import Telemetry

/// What `reeve serve` does for one database: waits until it is there, makes the ledger, migrates where that is
/// wanted, runs the schedule and looks after its health.
final class DatabaseService: Sendable {
    private let open: OpenDatabase
    private let configuration: Configuration
    private let probes: [ReadinessProbe]
    private let collectors: CollectorRun
    /// The tasks that are run as soon as the ledger is there.
    private let first: [String]
    private let metrics: ServiceMetrics
    private let readiness: Readiness
    private let logger: Logger
    private let scheduler: Scheduler
    /// The embedded cluster when it had to be started again.
    private let restarted = Mutex<EmbeddedCluster?>(nil)
    /// Since when what is looked at has not answered.
    private let unanswered = Mutex<[String: ContinuousClock.Instant]>([:])

    init(
        _ open: OpenDatabase, features: FeatureList, configuration: Configuration, metrics: ServiceMetrics,
        readiness: Readiness, logger: Logger
    ) throws {
        self.open = open
        self.configuration = configuration
        self.metrics = metrics
        self.readiness = readiness
        self.logger = logger.tagged("database", open.name)
        let plans = try features.plans(configuration, isEmbedded: open.isEmbedded)
        probes = features.probes
        first = plans.filter { $0.spec.runsAtStart && $0.isEnabled }.map(\.spec.name)
        collectors = CollectorRun(
            collectors: features.collectors, open: open, metrics: metrics, logger: self.logger)
        scheduler = Scheduler(
            tasks: plans.map { $0.definition(for: open, configuration) }, database: open.database,
            settings: Scheduler.Settings(instance: ServiceInstance.name),
            logger: self.logger
        ) { task, outcome in
            metrics.observe(outcome, of: task, database: open.name)
        }
        metrics.setUp(false, database: open.name)
        readiness.set("database/\(open.name)", false, "not reached yet")
        readiness.set("ledger/\(open.name)", false, "not reached yet")
        for probe in probes { readiness.set("\(probe.name)/\(open.name)", false, "not looked at yet") }
    }

    /// Runs until cancelled, or until it cannot go on; then returns when what runs has ended.
    ///
    /// - Parameter failing: told why it cannot go on as soon as that is known.
    /// - Throws: why the ledger can never be worked with as it is, such as `LedgerError.newer`, for which only a newer
    ///   program is a remedy. What may pass is waited for, and told in the log and in `/readyz`.
    func run(failing: @escaping @Sendable (any Error) -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await self.watchHealth() }
            group.addTask { try await self.watchState() }
            group.addTask {
                try await self.makeLedger()
                // Side by side: a migration that fails, and is tried again, holds up no other task.
                async let begun: Void = self.runFirst()
                async let collected: Void = self.collectors.run()
                await self.scheduler.run()
                _ = await (begun, collected)
            }
            do {
                for try await _ in group {}
            } catch {
                // The others are ended, but what they run may take its time.
                if !(error is CancellationError) { failing(error) }
                throw error
            }
        }
    }

    func stopRunning() { scheduler.stopRunning() }

    func close() async { await open.database.pool.close() }

    private func makeLedger() async throws {
        while true {
            try Task.checkCancellation()
            // An upgrade may take its time, so it has no limit; but it is not waited for without a word.
            let telling = Task {
                try await Task.sleep(for: .seconds(5))
                readiness.set("ledger/\(open.name)", false, "it is waited for; another process may hold it")
                logger.warning("the ledger is waited for; another process may hold a lock on it")
            }
            defer { telling.cancel() }
            do {
                try await open.database.pool.with { try LedgerSchema.install(on: $0) }
                telling.cancel()
                readiness.set("ledger/\(open.name)", true, "version \(LedgerSchema.version)")
                return
            } catch  where Self.mayPass(error) {
                readiness.set("ledger/\(open.name)", false, Readiness.publicMessage(error))
                logger.warning("the ledger cannot be worked with yet", [LogField("error", error)])
                try await Task.sleep(for: .seconds(2))
            }
        }
    }

    /// Whether waiting may help: the database is away or busy, or somebody has yet to grant something in it.
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

    /// Some tasks do not wait for their schedule.
    private func runFirst() async {
        for name in first {
            do {
                _ = try await scheduler.runNow(name)
            } catch let error as SchedulingError {
                logger.info(
                    "another process runs the task", [LogField("task", name), LogField("reason", error.description)])
            } catch {
                logger.warning("the task waits for its schedule", [LogField("task", name), LogField("error", error)])
            }
        }
        // What it finds that cannot pass, the watch finds too.
        try? await readStateInTime()
    }

    // MARK: Health

    /// The pause between two pings, and between two looks at the state.
    private static let pingPause: Duration = .seconds(5)
    private static let statePause: Duration = .seconds(15)
    /// How long one of them may take.
    private static let lookLimit: Duration = .seconds(10)

    /// Three rounds.
    private static func validity(_ pause: Duration) -> Duration { (pause + lookLimit) * 3 }

    private func watchHealth() async {
        var misses = 0
        while !Task.isCancelled {
            let isUp = await ping()
            misses = isUp ? 0 : misses + 1
            if misses >= 2, open.isEmbedded { await restart() }
            guard (try? await Task.sleep(for: isUp ? Self.pingPause : .seconds(1))) != nil else { return }
        }
    }

    /// Runs beside the pings, which are not affected by a lock on a table.
    private func watchState() async throws {
        while !Task.isCancelled {
            let isUp = readiness.isGood("database/\(open.name)")
            if isUp { try await readStateInTime() }
            let pause = readiness.isGood("schema/\(open.name)") ? Self.statePause : Self.pingPause
            guard (try? await Task.sleep(for: isUp ? pause : .milliseconds(500))) != nil else { return }
        }
    }

    /// Somebody was not answered in time.
    private struct Late: Error, CustomStringConvertible {
        var description: String { "no answer came within \(lookLimit)" }
    }

    /// Looks at something. When that takes too long it is broken off, and what is looked at is not ready, for as long as
    /// no answer comes.
    ///
    /// - Throws: `Late`; what `look` throws.
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

    private func readStateInTime() async throws {
        do {
            try await inTime("schema") { try await self.readState() }
        } catch is Late {
            logger.warning(
                "the state of the database was not read in time; somebody may hold a lock on a table of the ledger",
                [LogField("limit", Self.lookLimit)])
        }
    }

    /// The schedule follows the database's clock, so a difference is no fault of the service's; but whoever looks for one
    /// is to see it.
    static func words(onDifference seconds: Double) -> String {
        guard abs(seconds) > Scheduler.notableDifference else { return "the host's agrees with the database's" }
        let way = seconds > 0 ? "ahead of" : "behind"
        return "the host's is \(Int(abs(seconds).rounded())) s \(way) the database's, which the schedule follows"
    }

    /// - Throws: `LedgerError`, when another program has changed the ledger so that this one can not go on.
    private func readState() async throws {
        do {
            guard try await open.database.pool.with(within: .seconds(10), { try LedgerSchema.isInstalled(on: $0) })
            else { return }
            metrics.setDue(scheduler.tasks, database: open.name, time: scheduler.databaseTime)
            await metrics.readPool(of: open)
            for probe in probes {
                let answer = try await probe.ask(open, configuration)
                readiness.set(
                    "\(probe.name)/\(open.name)", answer.isReady, answer.message,
                    lasts: Self.validity(Self.statePause))
            }
        } catch let error as LedgerError where !Self.mayPass(error) {
            readiness.set("ledger/\(open.name)", false, Readiness.publicMessage(error))
            throw error
        } catch {
            if Task.isCancelled { return }
            readiness.set("schema/\(open.name)", false, Readiness.publicMessage(error))
            logger.warning("the state of the database could not be read", [LogField("error", error)])
        }
    }

    private func restart() async {
        do {
            let cluster = try await EmbeddedCluster.acquire(
                EmbeddedCluster.Options(stateFolder: configuration.stateFolder), logger: logger)
            restarted.withLock { $0 = cluster }
        } catch {
            logger.error("the embedded PostgreSQL could not be started again", [LogField("error", error)])
        }
    }
}

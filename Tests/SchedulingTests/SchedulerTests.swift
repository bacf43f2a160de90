import Foundation
import Ledger
import Postgres
import Scheduling
import Synchronization
import Telemetry
import TestSupport
import Testing

/// Counts what tasks did.
private final class Tally: Sendable {
    private let counts = Mutex<[String: Int]>([:])
    func add(_ key: String) { counts.withLock { $0[key, default: 0] += 1 } }
    func count(_ key: String) -> Int { counts.withLock { $0[key] ?? 0 } }
}

@Suite(.database, .timeLimit(.minutes(3)))
struct SchedulerTests {
    private func scheduler(_ tasks: [TaskDefinition], instance: String = "i", lease: Duration = .seconds(30))
        async throws -> Scheduler
    {
        let settings = try TestDatabase.current.settings
        try await TestDatabase.current.with { try LedgerSchema.install(on: $0) }
        var options = Scheduler.Settings(instance: instance)
        options.lease = lease
        options.patience = .milliseconds(100)
        return Scheduler(tasks: tasks, database: Database(settings), settings: options, logger: .silent)
    }

    private func task(
        _ name: String = "t", timeout: Duration = .seconds(30), retries: Int = 0,
        _ work: @escaping @Sendable (TaskContext) async throws -> String
    ) -> TaskDefinition {
        TaskDefinition(
            name: name, summary: name, schedule: .every(seconds: 1), timeout: timeout, retries: retries,
            backoff: .milliseconds(10), work: work)
    }

    private func history() async throws -> [RunRecord] {
        try await TestDatabase.current.with { try RunLedger.history(on: $0) }
    }

    @Test func `two processes run each occurrence once`() async throws {
        let tally = Tally()
        let work = task { _ in
            tally.add("ran")
            return "done"
        }
        let first = try await scheduler([work], instance: "one")
        let second = try await scheduler([work], instance: "two")
        let running = [first, second].map { scheduler in Task { await scheduler.run() } }
        try await waitUntil("four occurrences ran") { tally.count("ran") >= 4 }
        for task in running { task.cancel() }
        for task in running { await task.value }
        let runs = try await history()
        #expect(runs.count == tally.count("ran"))
        #expect(Set(runs.map(\.occurrence)).count == runs.count)
        #expect(runs.allSatisfy { $0.state == .succeeded && $0.message == "done" })
    }

    @Test func `a failure is tried again, with each attempt in the ledger`() async throws {
        let tally = Tally()
        let scheduler = try await scheduler([
            task(retries: 3) { _ in
                tally.add("ran")
                if tally.count("ran") < 3 { throw PostgresError(.misuse, "not yet") }
                return "third time"
            }
        ])
        let outcome = try await scheduler.runNow("t")
        #expect(outcome.state == .succeeded)
        let runs = try await history()
        #expect(runs.map(\.state) == [.succeeded, .failed, .failed])
        #expect(runs.map(\.attempt) == [3, 2, 1])
        #expect(runs.map(\.reason) == [.retry, .retry, .manual])
        #expect(runs[1].message?.contains("not yet") == true)
    }

    @Test func `work beyond its timeout is ended and recorded`() async throws {
        let scheduler = try await scheduler([
            task(timeout: .milliseconds(100)) { _ in
                try await Task.sleep(for: .seconds(60))
                return "never"
            }
        ])
        #expect(try await scheduler.runNow("t").state == .timedOut)
        #expect(try await history().map(\.state) == [.timedOut])
    }

    @Test func `a task does not overlap itself, by schedule or by hand`() async throws {
        let tally = Tally()
        let gate = Mutex(false)
        let work = task { _ in
            tally.add("began")
            while !gate.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(5)) }
            return "done"
        }
        let first = try await scheduler([work], instance: "one")
        let second = try await scheduler([work], instance: "two")
        let held = Task { try await first.runNow("t") }
        try await waitUntil("the first began") { tally.count("began") == 1 }
        await #expect(throws: SchedulingError.self) { try await second.runNow("t") }
        let scheduled = Task { await second.run() }
        try await waitUntil("an occurrence was skipped") {
            try await TestDatabase.current.value("SELECT count(*) FROM reeve.occurrences WHERE state = 'skipped'") > 0
        }
        scheduled.cancel()
        await scheduled.value
        #expect(tally.count("began") == 1)
        gate.withLock { $0 = true }
        #expect(try await held.value.state == .succeeded)
    }

    @Test func `the end of the schedule lets work end, and work that does not is stopped on demand`() async throws {
        let tally = Tally()
        let scheduler = try await scheduler([
            task { _ in
                tally.add("began")
                try await Task.sleep(for: .seconds(60))
                return "never"
            }
        ])
        let running = Task { await scheduler.run() }
        try await waitUntil("it began") { tally.count("began") == 1 }
        running.cancel()
        #expect(scheduler.runningCount == 1)
        scheduler.stopRunning()
        await running.value
        #expect(try await history().map(\.state) == [.cancelled])
    }

    @Test(arguments: [false, true])
    func `a run that winds down is nobody else's to begin`(isStopped: Bool) async throws {
        let (began, gate) = (Tally(), Tally())
        let slow = task(timeout: isStopped ? .seconds(60) : .milliseconds(100)) { _ in
            began.add("began")
            // What does not end when it is told to, such as a call that blocks.
            await Task.detached {
                while gate.count("open") == 0 { try? await Task.sleep(for: .milliseconds(20)) }
            }.value
            return "done"
        }
        let first = try await scheduler([slow], instance: "one", lease: .seconds(1))
        let second = try await scheduler([task { _ in "done" }], instance: "two", lease: .seconds(1))
        let run = Task { try await first.runNow("t") }
        try await waitUntil("it runs") { began.count("began") == 1 }
        if isStopped { first.stopRunning() }
        try await waitUntil("its first lease is over") {
            try await TestDatabase.current.value(
                "SELECT clock_timestamp() > min(started_at) + interval '3 seconds' FROM reeve.runs")
        }
        await #expect(throws: SchedulingError.self) { try await second.runNow("t") }
        gate.add("open")
        // What was done in spite of that is done.
        #expect(try await run.value.state == .succeeded)
        #expect(try await second.runNow("t").state == .succeeded)
    }

    @Test func `a run whose lease another took is ended`() async throws {
        let tally = Tally()
        let scheduler = try await scheduler(
            [
                task { _ in
                    tally.add("began")
                    try await Task.sleep(for: .seconds(60))
                    return "never"
                }
            ], lease: .milliseconds(300))
        let run = Task { try await scheduler.runNow("t") }
        try await waitUntil("it began") { tally.count("began") == 1 }
        try await TestDatabase.current.execute("UPDATE reeve.runs SET state = 'lost', finished_at = now()")
        #expect(try await run.value.state == .lost)
    }

    @Test func `a database that is away is waited for`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        let tally = Tally()
        var options = Scheduler.Settings(instance: "i")
        options.patience = .milliseconds(50)
        let work = TaskDefinition(name: "t", summary: "t", schedule: .every(seconds: 2)) { _ in
            tally.add("ran")
            return "done"
        }
        let scheduler = Scheduler(
            tasks: [work], database: Database(proxy.settings(database.settings)), settings: options, logger: .silent)
        let running = Task { await scheduler.run() }
        try await waitUntil("it ran") { tally.count("ran") >= 1 }
        try await TestCluster.runSQL("ALTER DATABASE \(database.name) ALLOW_CONNECTIONS false")
        proxy.cut()
        let before = tally.count("ran")
        try await waitUntil("an occurrence passes") { Int(Date().timeIntervalSince1970) % 2 == 1 }
        try await TestCluster.runSQL("ALTER DATABASE \(database.name) ALLOW_CONNECTIONS true")
        try await waitUntil("it runs again") { tally.count("ran") >= before + 2 }
        running.cancel()
        await running.value
    }

    @Test func `a connection that hangs does not cost a run its lease`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        var settings = proxy.settings(database.settings)
        settings.drainTimeout = .milliseconds(200)
        var options = Scheduler.Settings(instance: "i")
        options.lease = .seconds(12)
        let (began, gate) = (Tally(), Tally())
        let work = task { _ in
            began.add("began")
            while gate.count("open") == 0 { try await Task.sleep(for: .milliseconds(20)) }
            return "done"
        }
        let scheduler = Scheduler(tasks: [work], database: Database(settings), settings: options, logger: .silent)
        let run = Task { try await scheduler.runNow("t") }
        try await waitUntil("it runs") { began.count("began") == 1 }
        let first: Timestamp = try await database.value("SELECT lease_until FROM reeve.runs")
        // Those that are there, which the renewal is lent.
        proxy.muteAll()
        try await waitUntil("its lease is renewed") {
            let isHeld: Bool = try await database.value("SELECT lease_until > clock_timestamp() FROM reeve.runs")
            #expect(isHeld, "the lease ran out")
            let isRenewed: Bool = try await database.value("SELECT lease_until > $1 FROM reeve.runs", [first])
            return isRenewed || !isHeld
        }
        gate.add("open")
        #expect(try await run.value.state == .succeeded)
    }
}

import Foundation
import Ledger
import Postgres
import Synchronization
import Telemetry
import TestSupport
import Testing

@testable import Scheduling

/// Keeps the lines of a log.
private final class KeptLog: LogSink {
    private let lines = Mutex<[String]>([])
    func write(_ line: LogLine) {
        let fields = line.fields.map { "\($0.key)=\($0.value)" }
        lines.withLock { $0.append(([line.message] + fields).joined(separator: " ")) }
    }
    var text: String { lines.withLock { $0.joined(separator: "\n") } }
}

/// Claims whose answer is cut off, and errors whose details nobody should read.
@Suite(.database, .timeLimit(.minutes(4)))
struct LostAnswerTests {
    /// Cuts the connection at the first statement that is COMMIT's turn: each of the statements of a claim in its turn,
    /// before the server has it and after.
    @Test(arguments: [false, true])
    func `a claim whose connection is cut at any statement runs once, and nothing is lost`(isAfter: Bool) async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        let ran = Mutex(0)
        let work = TaskDefinition(name: "t", summary: "t", schedule: .every(seconds: 1), retries: 0) { _ in
            ran.withLock { $0 += 1 }
            return "done"
        }
        var cuts = 0
        for statement in 1...14 {
            let pool = Database(proxy.settings(database.settings))
            var settings = Scheduler.Settings(instance: "i")
            settings.patience = .milliseconds(20)
            let scheduler = Scheduler(tasks: [work], database: pool, settings: settings, logger: .silent)
            let cut = Mutex(false)
            // The connection is there already, so that what is cut is the claim.
            try await pool.pool.with { _ = try $0.query("SELECT 1") }
            proxy.arm(at: statement, afterForwarding: isAfter) { _ in
                cut.withLock { $0 = true }
                return .cut
            }
            let before = ran.withLock { $0 }
            let outcome = try await scheduler.runNow("t")
            // Where the run had fewer statements, nothing else is cut in their place.
            proxy.arm(at: .max) { _ in .none }
            #expect(outcome.state == .succeeded, "statement \(statement)")
            #expect(ran.withLock { $0 } == before + 1, "statement \(statement)")
            if cut.withLock({ $0 }) { cuts += 1 }
            await pool.pool.close()
        }
        #expect(cuts >= 8)
        let states = try await database.with { try RunLedger.history(limit: 1000, on: $0).map(\.state) }
        #expect(states.count == 14 && states.allSatisfy { $0 == .succeeded }, "\(states)")
        let total: Int = try await database.value("SELECT succeeded FROM reeve.task_totals WHERE task = 't'")
        #expect(total == 14)
    }

    @Test(arguments: [false, true])
    func `an occurrence and its retry whose connections are cut at any statement run once`(isAfter: Bool) async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        let attempts = Mutex(0)
        let work = TaskDefinition(
            name: "t", summary: "t", schedule: .every(seconds: 1), retries: 1, backoff: .milliseconds(1)
        ) { _ in
            let number = attempts.withLock { count in
                count += 1
                return count
            }
            // Every first attempt fails, so that each occurrence has a retry.
            if number % 2 == 1 { throw PostgresError(.badValue, "not yet") }
            return "done"
        }
        var settings = Scheduler.Settings(instance: "i")
        settings.patience = .milliseconds(20)
        let scheduler = Scheduler(
            tasks: [work], database: Database(proxy.settings(database.settings)), settings: settings, logger: .silent)
        let running = Task { await scheduler.run() }
        defer { running.cancel() }
        try await waitUntil("it runs") { attempts.withLock { $0 } >= 2 }
        for statement in [3, 5, 7, 8, 9, 12, 15, 18, 21, 24] {
            let before = attempts.withLock { $0 }
            proxy.arm(at: statement, afterForwarding: isAfter) { _ in .cut }
            try await waitUntil("two further attempts") { attempts.withLock { $0 } >= before + 2 }
        }
        running.cancel()
        await running.value
        let runs = try await database.with { try RunLedger.history(limit: 1000, on: $0) }
        #expect(runs.count == attempts.withLock { $0 })
        #expect(runs.allSatisfy { [.succeeded, .failed].contains($0.state) }, "\(runs.map(\.state))")
        let claimed: Int = try await database.value(
            """
            SELECT count(*) FROM reeve.occurrences o WHERE state = 'claimed' AND NOT EXISTS (
                SELECT FROM reeve.runs r WHERE (r.task, r.occurrence) = (o.task, o.due_at))
            """)
        #expect(claimed == 0)
    }

    /// COMMIT takes effect, and neither its answer comes nor that to the question what became of it.
    @Test(arguments: [false, true])
    func `a claim whose outcome nobody can tell is asked for again under its own name`(isScheduled: Bool) async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        // So that it is heard of only when nobody listens any more.
        try await database.execute(
            """
            CREATE FUNCTION public.rest() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_catalog.pg_sleep(0.3); RETURN NULL; END $$
            """,
            """
            CREATE CONSTRAINT TRIGGER rest AFTER INSERT ON reeve.runs DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION public.rest()
            """)
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        let ran = Mutex(0)
        let work = TaskDefinition(name: "t", summary: "t", schedule: .every(seconds: 3), retries: 0) { _ in
            ran.withLock { $0 += 1 }
            return "done"
        }
        var connection = proxy.settings(database.settings)
        connection.commitPatience = .seconds(1)
        connection.outcomeTimeout = .milliseconds(1)
        let pool = Database(connection)
        var settings = Scheduler.Settings(instance: "i")
        settings.patience = .milliseconds(500)
        let scheduler = Scheduler(tasks: [work], database: pool, settings: settings, logger: .silent)
        let wasLost = Mutex(false)
        // Found by their texts, for the scheduler may have asked for what is due more than once before.
        proxy.arm(onText: "INSERT INTO reeve.runs") { [weak proxy] _ in
            proxy?.arm(onText: "COMMIT", afterForwarding: true) { [weak proxy] _ in
                wasLost.withLock { $0 = true }
                proxy?.arm(at: 1) { _ in .cut }
                return .mute
            }
            return .none
        }
        if isScheduled {
            let running = Task { await scheduler.run() }
            defer { running.cancel() }
            try await waitUntil("it runs") { ran.withLock { $0 } >= 1 }
            running.cancel()
            await running.value
        } else {
            #expect(try await scheduler.runNow("t").state == .succeeded)
        }
        #expect(wasLost.withLock { $0 })
        let states = try await database.with { try RunLedger.history(on: $0).map(\.state) }
        #expect(states.count == ran.withLock { $0 } && states.allSatisfy { $0 == .succeeded }, "\(states)")
        await pool.pool.close()
    }

    @Test func `what an error tells of rows is nowhere in the ledger or the log`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        try await database.execute(
            "CREATE TABLE public.person (mail text PRIMARY KEY)",
            "INSERT INTO public.person VALUES ('anna@example.org')")
        let log = KeptLog()
        let settings = database.settings
        let work = TaskDefinition(name: "t", summary: "t", schedule: .every(seconds: 1), retries: 0) { context in
            do {
                try await Connection.opened(settings) { connection in
                    try await connection.with {
                        try $0.query("INSERT INTO public.person VALUES ($1)", ["anna@example.org"])
                    }
                }
            } catch {
                context.logger.warning("it failed", [LogField("error", error)])
                throw error
            }
            return "never"
        }
        let scheduler = Scheduler(
            tasks: [work], database: Database(settings), settings: Scheduler.Settings(instance: "i"),
            logger: Logger(level: .debug, sink: log))
        let outcome = try await scheduler.runNow("t")
        #expect(outcome.state == .failed && outcome.message.contains("person_pkey"), "\(outcome)")
        #expect(log.text.contains("person_pkey"))
        #expect(!log.text.contains("anna"), "\(log.text)")
        for table in ["runs", "events", "audit", "occurrences", "task_totals"] {
            let rows: Int = try await database.value(
                "SELECT count(*) FROM reeve.\(table) t WHERE t::text LIKE '%anna%'")
            #expect(rows == 0, "\(table)")
        }
    }

    /// Runs a task whose only attempt fails once `harm` was done, and gives back what was logged.
    private func failing(
        _ settings: ConnectionSettings, until isSeen: @escaping @Sendable (String) -> Bool,
        harm: @escaping @Sendable () async throws -> Void
    ) async throws -> (log: String, state: RunRecord.State?) {
        let log = KeptLog()
        let work = TaskDefinition(
            name: "t", summary: "t", schedule: .every(seconds: 3600), retries: 1, backoff: .milliseconds(1)
        ) { _ in
            try await harm()
            throw PostgresError(.badValue, "not yet")
        }
        var options = Scheduler.Settings(instance: "i")
        options.patience = .milliseconds(10)
        options.lease = .milliseconds(300)
        let scheduler = Scheduler(
            tasks: [work], database: Database(settings), settings: options, logger: Logger(level: .debug, sink: log))
        let ended = Mutex<RunRecord.State?>(nil)
        let run = Task {
            let outcome = try await scheduler.runNow("t")
            ended.withLock { $0 = outcome.state }
        }
        try await waitUntil("what becomes of the second attempt is told") { isSeen(log.text) }
        let isWaiting = log.text.contains("is delayed")
        if isWaiting { run.cancel() }
        try await waitUntil("it ends") { ended.withLock { $0 != nil } }
        return (log.text, ended.withLock { $0 })
    }

    @Test func `a further attempt that waits for the database says so once`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        let proxy = try FaultProxy(before: database.settings)
        let (log, state) = try await failing(
            proxy.settings(database.settings), until: { $0.contains("a further attempt is delayed") },
            harm: { proxy.close() })
        #expect(log.components(separatedBy: "a further attempt is delayed").count == 2, "\(log)")
        #expect(state == .failed)
    }

    @Test func `a further attempt that the ledger refuses is given up, and the reason told`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        let (log, state) = try await failing(
            database.settings, until: { $0.contains("no further attempt is made") },
            harm: { try await database.execute("ALTER TABLE reeve.runs RENAME TO gone") })
        #expect(log.contains("42P01"), "\(log)")
        #expect(state == .failed)
    }
}

import Foundation
import Postgres
import TestSupport
import Testing

/// What is told of a COMMIT whose answer is lost is what happened. `REEVE_COMMIT_ROUNDS` says how often each cut is made
/// (20).
@Suite(.database, .timeLimit(.minutes(20)))
struct CommitOutcomeTests {
    private static let rounds =
        ProcessInfo.processInfo.environment["REEVE_COMMIT_ROUNDS"].flatMap { Int($0) } ?? 20

    enum Told: String, Sendable { case committed, notCommitted, unknown }

    /// BEGIN, the row, the question for the transaction's number, COMMIT.
    private static let commit = 4

    /// Writes a row in a transaction, and gives back what was told of it.
    private func write(
        _ key: Int, _ settings: ConnectionSettings, batch: Bool = false
    ) async throws -> Told {
        do {
            try await Connection.opened(settings) { connection in
                try await connection.with { connection in
                    if batch {
                        try connection.transaction(batch: ["INSERT INTO public.rows VALUES (\(key))"])
                    } else {
                        try connection.transaction {
                            try connection.query("INSERT INTO public.rows VALUES ($1)", [key])
                        }
                    }
                }
            }
            return .committed
        } catch let error as PostgresError {
            switch error.kind {
            case .commitOutcomeUnknown: return .unknown
            case .connectionLost: return .notCommitted
            default: throw error
            }
        }
    }

    private func isThere(_ key: Int) async throws -> Bool {
        try await TestDatabase.current.value("SELECT count(*) > 0 FROM public.rows WHERE key = $1", [key])
    }

    enum Cut: String, CaseIterable, Sendable { case before, within, after }

    @Test(arguments: Cut.allCases, [false, true])
    func `what is told of a COMMIT that was cut is what happened`(cut: Cut, batch: Bool) async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE public.rows (key bigint PRIMARY KEY)")
        var told: [Told: Int] = [:]
        let rounds = batch ? max(1, Self.rounds / 10) : Self.rounds
        for start in stride(from: 0, to: rounds, by: 8) {
            try await withThrowingTaskGroup(of: (Told, Bool).self) { group in
                for key in start..<min(start + 8, rounds) {
                    group.addTask {
                        let proxy = try FaultProxy(before: database.settings)
                        defer { proxy.close() }
                        // The batch is one message, which holds the question.
                        proxy.arm(at: (batch ? 2 : Self.commit) + 1, afterForwarding: cut == .after) { _ in
                            switch cut {
                            case .before: return .cut
                            case .within: return .cutWithin
                            case .after: return .cut
                            }
                        }
                        let told = try await self.write(key, proxy.settings(database.settings), batch: batch)
                        return (told, try await self.isThere(key))
                    }
                }
                for try await (outcome, isThere) in group {
                    told[outcome, default: 0] += 1
                    #expect(outcome != .unknown)
                    #expect(isThere == (outcome == .committed), "told \(outcome), and the row is there: \(isThere)")
                }
            }
        }
        print("commit cut \(cut.rawValue)\(batch ? ", in a batch" : ""): \(rounds) rounds, told \(told)")
        // Each cut has one outcome, but that the answer of the server may be faster than the cut.
        #expect(told[cut == .after ? .committed : .notCommitted] == rounds)
    }

    @Test func `a COMMIT that is never answered is looked up, and its session ended where it only waits`() async throws
    {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE public.rows (key bigint PRIMARY KEY)")
        for isForwarded in [false, true] {
            let proxy = try FaultProxy(before: database.settings)
            defer { proxy.close() }
            var settings = proxy.settings(database.settings)
            settings.commitPatience = .milliseconds(300)
            proxy.arm(at: Self.commit + 1, afterForwarding: isForwarded) { _ in .mute }
            let key = isForwarded ? 2 : 1
            let told = try await write(key, settings)
            #expect(told == (isForwarded ? .committed : .notCommitted))
            #expect(try await isThere(key) == isForwarded)
        }
    }

    @Test func `a session that does not know that its client is gone is ended, and its transaction with it`()
        async throws
    {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE public.rows (key bigint PRIMARY KEY)")
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        var settings = proxy.settings(database.settings)
        settings.commitPatience = .milliseconds(300)
        proxy.arm(at: Self.commit + 1) { _ in .strand }
        #expect(try await write(1, settings) == .notCommitted)
        #expect(try await !isThere(1))
    }

    @Test func `a COMMIT that takes longer than it is waited for is neither broken off nor guessed at`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE TABLE public.rows (key bigint PRIMARY KEY)",
            """
            CREATE FUNCTION public.rest() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_catalog.pg_sleep(2); RETURN NULL; END $$
            """,
            """
            CREATE CONSTRAINT TRIGGER rest AFTER INSERT ON public.rows DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION public.rest()
            """)
        var settings = database.settings
        settings.commitPatience = .milliseconds(300)
        #expect(try await write(1, settings) == .committed)
        #expect(try await isThere(1))
    }

    @Test func `nobody who can tell is unknown, and says so`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE public.rows (key bigint PRIMARY KEY)")
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        var settings = proxy.settings(database.settings)
        settings.commitPatience = .milliseconds(200)
        settings.outcomeTimeout = .milliseconds(500)
        settings.connectTimeout = .milliseconds(200)
        proxy.arm(at: Self.commit + 1) { _ in .silence }
        #expect(try await write(1, settings) == .unknown)
    }

    @Test func `a deadline or a cancelled task does not break COMMIT off`() async throws {
        let database = try TestDatabase.current
        // COMMIT takes a second: a deferred trigger sleeps.
        try await database.execute(
            "CREATE TABLE public.rows (key bigint PRIMARY KEY)",
            """
            CREATE FUNCTION public.rest() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_catalog.pg_sleep(1); RETURN NULL; END $$
            """,
            """
            CREATE CONSTRAINT TRIGGER rest AFTER INSERT ON public.rows DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION public.rest()
            """)
        try await Connection.opened(database.settings) { connection in
            try await connection.with(within: .milliseconds(500)) { connection in
                try connection.transaction { _ = try connection.query("INSERT INTO public.rows VALUES (1)") }
            }
            let work = Task {
                try await connection.with { connection in
                    try connection.transaction { _ = try connection.query("INSERT INTO public.rows VALUES (2)") }
                }
            }
            try await waitUntil("COMMIT runs") {
                try await database.value(
                    "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'PgSleep'") == 1
            }
            work.cancel()
            try await work.value
        }
        #expect(try await isThere(1))
        #expect(try await isThere(2))
    }

    @Test func `a task that was cancelled before COMMIT rolls back`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE public.rows (key bigint PRIMARY KEY)")
        await #expect(throws: CancellationError.self) {
            try await Connection.opened(database.settings) { connection in
                let work = Task {
                    try await connection.with { connection in
                        try connection.transaction {
                            try connection.query("INSERT INTO public.rows VALUES (1)")
                            withUnsafeCurrentTask { $0?.cancel() }
                        }
                    }
                }
                try await work.value
            }
        }
        #expect(try await !isThere(1))
    }
}

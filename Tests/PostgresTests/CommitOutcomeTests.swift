import Foundation
import TestSupport
import Testing

@testable import Postgres

/// What is told of a COMMIT whose answer is lost is what happened. `REEVE_COMMIT_ROUNDS` says how often each cut is
/// made (20).
@Suite(.database, .timeLimit(.minutes(20)))
struct CommitOutcomeTests {
    private static let rounds =
        ProcessInfo.processInfo.environment["REEVE_COMMIT_ROUNDS"].flatMap { Int($0) } ?? 20

    enum Told: String, Sendable { case committed, notCommitted, unknown }

    /// BEGIN, the row, the question for the transaction's number, COMMIT.
    private static let commit = 4

    /// Writes a row in a transaction, and gives back what was told of it.
    private func write(
        _ key: Int, _ settings: ConnectionSettings
    ) async throws -> Told {
        do {
            try await Connection.opened(settings) { connection in
                try await connection.with { connection in
                    try connection.transaction { try connection.query("INSERT INTO public.rows VALUES ($1)", [key]) }
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

    @Test(arguments: Cut.allCases)
    func `what is told of a COMMIT that was cut is what happened`(cut: Cut) async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE public.rows (key bigint PRIMARY KEY)")
        var told: [Told: Int] = [:]
        let rounds = Self.rounds
        for start in stride(from: 0, to: rounds, by: 8) {
            try await withThrowingTaskGroup(of: (Told, Bool).self) { group in
                for key in start..<min(start + 8, rounds) {
                    group.addTask {
                        let proxy = try FaultProxy(before: database.settings)
                        defer { proxy.close() }
                        proxy.arm(at: Self.commit + 1, afterForwarding: cut == .after) { _ in
                            switch cut {
                            case .before: return .cut
                            case .within: return .cutWithin
                            case .after: return .cut
                            }
                        }
                        let told = try await self.write(key, proxy.settings(database.settings))
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
        print("commit cut \(cut.rawValue): \(rounds) rounds, told \(told)")
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
            let waiting: Int = try await database.value(
                """
                SELECT count(*) FROM pg_stat_activity
                WHERE state LIKE 'idle in transaction%' AND datname = current_database()
                """)
            #expect(waiting == 0)
        }
    }

    @Test func `the lookup finds nothing of the database's owner in the way of its types`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE TABLE public.rows (key bigint PRIMARY KEY)", "CREATE SCHEMA evil",
            "CREATE TABLE evil.log (who pg_catalog.text)",
            """
            CREATE FUNCTION evil.note(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO evil.log VALUES (current_user); RETURN true; END $$
            """,
            "CREATE DOMAIN evil.text AS pg_catalog.text CHECK (evil.note(VALUE))",
            "CREATE DOMAIN evil.xid8 AS pg_catalog.xid8 CHECK (evil.note(VALUE::pg_catalog.text))",
            "CREATE DOMAIN evil.int4 AS pg_catalog.int4 CHECK (evil.note(VALUE::pg_catalog.text))",
            "CREATE DOMAIN evil.int8 AS pg_catalog.int8 CHECK (evil.note(VALUE::pg_catalog.text))",
            "ALTER DATABASE \(database.name) SET search_path = evil, pg_catalog")
        // The answer is lost; then the session that only waits is ended.
        for (key, isForwarded) in [(1, true), (2, false)] {
            let proxy = try FaultProxy(before: database.settings)
            defer { proxy.close() }
            var settings = proxy.settings(database.settings)
            settings.commitPatience = .milliseconds(300)
            proxy.arm(at: Self.commit + 1, afterForwarding: isForwarded) { _ in isForwarded ? .cut : .mute }
            #expect(try await write(key, settings) == (isForwarded ? .committed : .notCommitted))
        }
        let ran: Int = try await database.with {
            try $0.query("SELECT pg_catalog.count(*) FROM evil.log").first?.get(0) ?? 0
        }
        #expect(ran == 0)
    }

    @Test func `a server that is not the one that had the transaction cannot tell`() async throws {
        let database = try TestDatabase.current
        let id = try await database.with { connection in
            try connection.execute("BEGIN")
            _ = try connection.query("CREATE TABLE public.made (a int)")
            // Spelled the same whatever is set.
            try connection.execute("SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL DateStyle = 'German'")
            let id = try TransactionID(connection.queryAsIs(TransactionID.query))
            try connection.execute("COMMIT")
            return id
        }
        let known = try #require(id)
        let other = TransactionID(number: known.number, server: "1", recovery: known.recovery)
        let settings = database.settings
        let outcomes = await Task.detached {
            let lookup = TransactionLookup(settings: settings, logger: .silent)
            return [known, other].map { lookup.outcome(of: $0, process: nil) }
        }.value
        #expect(outcomes[0] == .committed)
        guard case .unknown = outcomes[1] else { return #expect(Bool(false), "told \(outcomes[1])") }
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

    @Test func `a COMMIT that takes long is not called a lost connection`() async throws {
        let database = try TestDatabase.current
        // As where the server waits for a standby: it works on COMMIT, and its connection is as it should be.
        try await database.execute(
            "CREATE TABLE public.rows (key bigint PRIMARY KEY)",
            """
            CREATE FUNCTION public.rest() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_catalog.pg_sleep(5); RETURN NULL; END $$
            """,
            """
            CREATE CONSTRAINT TRIGGER rest AFTER INSERT ON public.rows DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION public.rest()
            """)
        var settings = database.settings
        settings.commitPatience = .milliseconds(200)
        settings.outcomeTimeout = .milliseconds(500)
        do {
            try await Connection.opened(settings) { connection in
                try await connection.with { connection in
                    try connection.transaction { _ = try connection.query("INSERT INTO public.rows VALUES (1)") }
                }
            }
            Issue.record("COMMIT was answered")
        } catch let error as PostgresError {
            #expect(error.kind == .commitOutcomeUnknown)
            #expect(error.message.hasPrefix("the server did not answer COMMIT in time, and it is not known whether"))
            #expect(!error.message.contains("lost"), "\(error.message)")
        }
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
                    """
                    SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND query = 'COMMIT' AND wait_event = 'PgSleep'
                    """) == 1
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

    /// A transaction that only notifies has no number until COMMIT, by which its outcome could be looked up.
    @Test(arguments: [false, true])
    func `a COMMIT that was cut is unknown where nothing was written, and known where only was read`(isForwarded: Bool)
        async throws
    {
        let database = try TestDatabase.current
        for readOnly in [false, true] {
            let proxy = try FaultProxy(before: database.settings)
            defer { proxy.close() }
            // What is only read has no question for the number.
            proxy.arm(at: Self.commit + (readOnly ? 0 : 1), afterForwarding: isForwarded) { _ in .cut }
            let told: Told
            do {
                try await Connection.opened(proxy.settings(database.settings)) { connection in
                    try await connection.with { connection in
                        try connection.transaction(TransactionOptions(readOnly: readOnly)) {
                            _ = try connection.query(readOnly ? "SELECT 1" : "SELECT pg_notify('news', 'x')")
                        }
                    }
                }
                told = .committed
            } catch let error as PostgresError {
                #expect(error.kind == .commitOutcomeUnknown, "\(error)")
                told = .unknown
            }
            #expect(told == (readOnly ? .committed : .unknown))
        }
    }
}

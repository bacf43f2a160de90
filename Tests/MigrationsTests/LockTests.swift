import Foundation
import Ledger
import Migrations
import Postgres
import TestSupport
import Testing

/// Locks: waiting for them without holding others up, and many runners at once.
@Suite(.database, .timeLimit(.minutes(3)))
struct LockTests {
    @Test func `a migration that gets no lock gives up after its tries and names the blocker`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE t (a int);"])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("0002_b.up.sql", "ALTER TABLE t ADD COLUMN b int;")
        try await database.connection { blocker in
            try await blocker.with { try $0.execute("BEGIN; SELECT 'the blocker', count(*) FROM app.t") }
            let error = await #expect(throws: MigrationError.self) {
                try await fixture.migrator(database.settings) { $0.retries = 1 }.up()
            }
            let text = try #require(error).description
            #expect(text.contains("after 2 attempts"))
            #expect(text.contains("process \(await blocker.serverProcess) of postgres"))
            #expect(text.contains("the blocker"))
            #expect(error?.hint?.contains("pg_terminate_backend") == true)
        }
    }

    /// A lock timeout of minutes, perhaps meant as milliseconds, does not stop the application for so long.
    @Test func `a single attempt stays within the limit for all`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE t (a int);"])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("0002_b.up.sql", "ALTER TABLE t ADD COLUMN b int;")
        try await database.connection { blocker in
            try await blocker.with { try $0.execute("BEGIN; SELECT count(*) FROM app.t") }
            let error = await #expect(throws: MigrationError.self) {
                try await fixture.migrator(database.settings) {
                    $0.lockTimeout = .seconds(500)
                    $0.stallLimit = .milliseconds(300)
                }.up()
            }
            #expect(error?.description.contains("55P03") == true, "\(error as Any)")
        }
    }

    @Test func `a waiting migration lets the application by after the timeout, and comes through in the end`()
        async throws
    {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE t (a int);"])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write(
            "0002_b.up.sql", "-- reeve: lock-timeout 200ms\n-- reeve: retries 50\nALTER TABLE t ADD COLUMN b int;")
        try await database.connection { blocker in
            try await blocker.with { try $0.execute("BEGIN; SELECT count(*) FROM app.t") }
            let run = Task { try await fixture.migrator(database.settings).up() }
            try await waitUntil("the ALTER waits") { try await database.waitersForLocks() > 0 }
            // Queued behind the waiting ALTER, this is served as soon as that gives up.
            let began = ContinuousClock.now
            let count: Int = try await database.value("SELECT count(*) FROM app.t")
            #expect(count == 0)
            #expect(ContinuousClock.now - began < .seconds(10))
            try await blocker.with { try $0.execute("COMMIT") }
            #expect(try await run.value.done.map(\.name) == ["b"])
        }
    }

    @Test func `the session that looks for blockers ends with the run`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE t (a int);"])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("0002_b.up.sql", "ALTER TABLE t ADD COLUMN b int;")
        let watches =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'reeve migrate watch'"
        try await database.connection { blocker in
            try await blocker.with { try $0.execute("BEGIN; SELECT count(*) FROM app.t") }
            let run = Task { try await fixture.migrator(database.settings) { $0.retries = 50 }.up() }
            try await waitUntil("it looks for blockers") { try await database.value(watches) == 1 }
            try await blocker.with { try $0.execute("COMMIT") }
            #expect(try await run.value.done.count == 1)
        }
        try await waitUntil("no session looks for blockers", limit: .seconds(30)) {
            try await database.value(watches) == 0
        }
    }

    @Test func `sixteen runners at once over concurrent index builds do it once, without a deadlock`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE t AS SELECT g AS a, g % 7 AS b FROM generate_series(1, 20000) g;",
            "0002_b.up.sql": "CREATE INDEX CONCURRENTLY t_a ON t (a);",
            "0003_c.up.sql":
                "CREATE INDEX CONCURRENTLY t_b ON t (b);\nCREATE TABLE u (a int);\nCREATE INDEX CONCURRENTLY u_a ON u (a);",
            "0004_d.up.sql": "CREATE TABLE w (a int);",
        ])
        let done = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<16 {
                group.addTask { try await fixture.migrator(database.settings).up().done.count }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(done.sorted() == Array(repeating: 0, count: 15) + [4])
        let invalid: Int = try await database.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
        #expect(invalid == 0)
    }

    @Test func `whoever may not wait for another run is told who it is`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE t (a int);"])
        try await database.connection { other in
            let lock = try await other.with { connection in
                try LedgerSchema.install(on: connection)
                return try LedgerLock.named("reeve migrations", on: connection)
            }
            #expect(try await lock.acquire(on: other, wait: .zero))
            let error = await #expect(throws: MigrationError.self) {
                try await fixture.migrator(database.settings) { $0.lockWait = .milliseconds(100) }.up()
            }
            guard case .locked(let holder, _) = try #require(error) else {
                Issue.record("another error: \(String(describing: error))")
                return
            }
            #expect(holder?.contains("process \(await other.serverProcess)") == true)
        }
    }
}

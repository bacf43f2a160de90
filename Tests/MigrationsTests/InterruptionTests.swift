import Foundation
import Ledger
import Migrations
import Postgres
import Synchronization
import TestSupport
import Testing

/// Runs that are cut off at any statement, and what the next run makes of it.
@Suite(.database, .timeLimit(.minutes(20)))
struct InterruptionTests {
    private static let files = [
        "0001_a.up.sql": "CREATE TABLE t (a int, b int);\nINSERT INTO t SELECT g, g FROM generate_series(1, 100) g;",
        "0002_b.up.sql": """
        ALTER TABLE t ADD COLUMN c int DEFAULT 1;
        CREATE INDEX CONCURRENTLY IF NOT EXISTS t_b ON t (b);
        CREATE TABLE u (x int);
        DROP INDEX CONCURRENTLY IF EXISTS nothing;
        CREATE UNIQUE INDEX CONCURRENTLY u_x ON u (x);
        INSERT INTO u VALUES (1);
        REINDEX TABLE CONCURRENTLY t;
        """,
        "0003_c.up.sql": """
        CREATE TABLE p (k int) PARTITION BY LIST (k);
        CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
        CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
        ALTER TABLE p DETACH PARTITION p2 CONCURRENTLY;
        """,
        "R__v.sql": "CREATE OR REPLACE VIEW v AS SELECT count(*) FROM u;",
    ]

    /// The connection is cut before each statement in turn; the server then rolls back what was open.
    @Test func `cut off before any statement, the next run ends with the undisturbed schema`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(Self.files)
        let reference = database.settings.database("\(database.name)_ref")
        try await database.execute("CREATE DATABASE \(database.name)_ref")
        _ = try await fixture.migrator(reference).up()
        let expected = try await dumpSchema(of: reference)

        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        var at = 0
        // How many statements a run sends depends on how busy the machine is. What matters is which were cut off.
        var cut: [String] = []
        var complete = 0
        while true {
            at += 1
            try await database.execute("DROP SCHEMA IF EXISTS app CASCADE; DROP SCHEMA IF EXISTS reeve CASCADE")
            let wasCut = Mutex(false)
            proxy.arm(at: at) { _ in
                wasCut.withLock { $0 = true }
                return .cut
            }
            // With a long lock timeout, few queries look for blockers.
            _ = try? await fixture.migrator(proxy.settings(database.settings)) { $0.lockTimeout = .seconds(60) }.up()
            if !wasCut.withLock({ $0 }) {
                // On a busy machine, a run may send more statements than another.
                complete += 1
                if complete == 3 { break }
                continue
            }
            proxy.cut()
            // The server may still be at it; the next run waits for its lock.
            _ = try await fixture.migrator(database.settings).up()
            let dump = try await database.schemaDump()
            #expect(dump == expected, "cut before statement \(at)")
            let rows: Int = try await database.value("SELECT count FROM app.v")
            #expect(rows == 1, "cut before statement \(at)")
            cut.append(proxy.dueText)
        }
        for text in [
            "CREATE TABLE t", "generate_series(1, 100)", "ADD COLUMN c", "IF NOT EXISTS t_b", "CREATE TABLE u",
            "DROP INDEX CONCURRENTLY", "INDEX CONCURRENTLY u_x", "INSERT INTO u", "REINDEX TABLE CONCURRENTLY t",
            "CREATE TABLE p ", "DETACH PARTITION p2", "REPLACE VIEW v", "COMMIT",
        ] {
            #expect(cut.contains { $0.contains(text) }, "no run was cut off before \(text)")
        }
        try await database.execute("DROP DATABASE \(database.name)_ref WITH (FORCE)")
    }

    /// What is recorded as applied, and what the schema shows of it.
    private func applied() async throws -> [String] {
        try await TestDatabase.current.with { connection in
            guard try LedgerSchema.isInstalled(on: connection) else { return [] }
            let titles: [String] = try connection.query(
                "SELECT format('%s_%s', lpad(version::text, 4, '0'), name) FROM reeve.migrations WHERE state = 'applied' ORDER BY 1"
            ).map { try $0.get(0) }
            let table: Bool = try #require(
                try connection.query("SELECT to_regclass('app.t') IS NOT NULL").first
            ).get(0)
            #expect(table == titles.contains("0001_a"))
            return titles
        }
    }

    /// What the ledger knows of, also where it is done in part.
    private func recorded() async throws -> [String] {
        try await TestDatabase.current.with { connection in
            guard try LedgerSchema.isInstalled(on: connection) else { return [] }
            return try connection.query(
                "SELECT format('%s_%s', lpad(version::text, 4, '0'), name) FROM reeve.migrations"
            ).map { try $0.get(0) }
        }
    }

    /// A session that was cut off may hold the lock for a moment. A run that waits for it sends more statements.
    private func waitForSessions() async throws {
        try await waitUntil("no session of a run is left") {
            try await TestDatabase.current.value(
                """
                SELECT count(*) = 0 FROM pg_stat_activity
                WHERE datname = current_database() AND application_name LIKE 'reeve migrate%'
                """)
        }
    }

    /// The connection is cut after each statement in turn, where COMMIT has its effect and its answer does not come.
    ///
    /// Each run sends the same statements, so that each of them is cut once. How many statements look for blockers
    /// depends on how busy the machine is, so these are not counted.
    @Test(arguments: [false, true], [false, true])
    func `what is told of a run that was cut is what happened`(goesDown: Bool, forGood: Bool) async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE t (a int, b int);", "0001_a.down.sql": "DROP TABLE t;",
            "0002_b.up.sql": "CREATE INDEX CONCURRENTLY t_b ON t (b);",
            "0002_b.down.sql": "DROP INDEX CONCURRENTLY t_b;",
            "0003_c.up.sql": "CREATE TABLE u (a int);", "0003_c.down.sql": "DROP TABLE u;",
        ])
        let titles = ["0001_a", "0002_b", "0003_c"]
        var at = 0
        var told: [String: Int] = [:]
        var lost: Set<String> = []
        while true {
            at += 1
            try await waitForSessions()
            try await database.execute("DROP SCHEMA IF EXISTS app CASCADE; DROP SCHEMA IF EXISTS reeve CASCADE")
            if goesDown {
                _ = try await fixture.migrator(database.settings).up()
                try await waitForSessions()
            }
            let proxy = try FaultProxy(before: database.settings, ignoring: "reeve migrate watch")
            defer { proxy.close() }
            var settings = proxy.settings(database.settings)
            settings.outcomeTimeout = .milliseconds(forGood ? 50 : 30_000)
            let wasCut = Mutex(false)
            proxy.arm(at: at, afterForwarding: true) { _ in
                wasCut.withLock { $0 = true }
                return forGood ? .cutForGood : .cut
            }
            let migrator = try fixture.migrator(settings)
            var words = ""
            // Whether what an error names was done.
            func stands(_ title: String) async throws -> Bool {
                goesDown ? try await !recorded().contains(title) : try await applied().contains(title)
            }
            do {
                let outcome = goesDown ? try await migrator.down(to: 0) : try await migrator.up()
                words = "done"
                #expect(outcome.done.compactMap(\.version) == (goesDown ? [3, 2, 1] : [1, 2, 3]), "cut at \(at)")
                #expect(try await applied() == (goesDown ? [] : titles), "cut at \(at)")
            } catch MigrationError.failed(_, let title, let cause as PostgresError, _, _, _) {
                words = cause.kind == .commitOutcomeUnknown ? "unknown" : "failed"
                if words == "failed" { #expect(try await !stands(title), "cut at \(at): \(cause)") }
            } catch let error as MigrationError {
                words = "lost after"
                guard case .lostAfter(let done, _) = error else { throw error }
                let title = try #require(titles.first(where: done.contains))
                #expect(done == "app/\(title) was \(goesDown ? "reverted" : "applied")")
                #expect(try await stands(title), "cut at \(at): \(error)")
                lost.insert(title)
            } catch let error as PostgresError {
                words = "\(error.kind)"
                #expect(try await applied() == (goesDown ? titles : []), "cut at \(at): \(error)")
            }
            if !wasCut.withLock({ $0 }) { break }
            told[words, default: 0] += 1
        }
        print("a run \(goesDown ? "down" : "up") was cut\(forGood ? " for good" : ""): \(told)")
        #expect(at > 20)
        #expect(told[forGood ? "lost after" : "done", default: 0] > 3)
        // Each migration was the last one before a cut.
        if forGood { #expect(lost == Set(titles) && told["done"] == nil) }
    }

    @Test func `an invalid index of a build that failed is dropped and rebuilt, and never taken for done`() async throws
    {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1);"
        ])
        _ = try await fixture.migrator(database.settings).up()
        // As a crash leaves it: the build began, and its index stayed invalid.
        _ = try? await database.execute("CREATE UNIQUE INDEX CONCURRENTLY t_a ON app.t (a)")
        let invalid: Int = try await database.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
        #expect(invalid == 1)
        try fixture.write("0002_b.up.sql", "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS t_a ON t (a);")
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(error?.description.contains("23505") == true)
        let left: Int = try await database.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
        #expect(left == 0)
        #expect(try await fixture.migrator(database.settings).status()[0].pending.first?.wasBegun == false)
        try await database.execute("DELETE FROM app.t")
        _ = try await fixture.migrator(database.settings).up()
        let valid: Bool = try await database.value(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'app.t_a'::regclass")
        #expect(valid)
    }

    @Test func `a step that was done may not change before the rest is`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql":
                "CREATE TABLE t (a int);\nINSERT INTO t VALUES (1), (1);\nCREATE UNIQUE INDEX CONCURRENTLY t_a ON t (a);"
        ])
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        try fixture.write("0001_a.up.sql", "CREATE TABLE t (a bigint);\nCREATE UNIQUE INDEX CONCURRENTLY t_a ON t (a);")
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(error?.description.contains("step 1") == true)
        // What was not done yet may be mended.
        try fixture.write(
            "0001_a.up.sql",
            "CREATE TABLE t (a int);\nINSERT INTO t VALUES (1), (1);\nCREATE INDEX CONCURRENTLY t_a ON t (a);")
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
    }

    @Test func `a way down that was cut short is ended before anything goes up again`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE t (a int);\nCREATE INDEX t_a ON t (a);",
            "0001_a.down.sql": "DROP INDEX CONCURRENTLY t_a;\nDROP TABLE nope;",
        ])
        _ = try await fixture.migrator(database.settings).up()
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).down(to: 0) }
        let index: Bool = try await database.value("SELECT to_regclass('app.t_a') IS NULL")
        #expect(index)
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(error?.description.contains("partly reverted") == true)
        try fixture.write("0001_a.down.sql", "DROP INDEX CONCURRENTLY t_a;\nDROP TABLE t;")
        #expect(try await fixture.migrator(database.settings).down(to: 0).done.count == 1)
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
    }

    @Test func `no-transaction keeps what was done before a failure`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "-- reeve: no-transaction\nCREATE TABLE a (x int);\nCREATE TABLE b (x nope);"
        ])
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        let there: Bool = try await database.value("SELECT to_regclass('app.a') IS NOT NULL")
        #expect(there)
        try fixture.write("0001_a.up.sql", "-- reeve: no-transaction\nCREATE TABLE a (x int);\nCREATE TABLE b (x int);")
        _ = try await fixture.migrator(database.settings).up()
    }
}

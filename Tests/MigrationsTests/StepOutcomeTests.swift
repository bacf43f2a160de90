import Foundation
import Ledger
import Postgres
import Synchronization
import TestSupport
import Testing

@testable import Migrations

/// What is recorded and done of a migration in steps when a step fails, waits or is taken back.
@Suite(.database, .timeLimit(.minutes(3)))
struct StepOutcomeTests {
    private final class Heard: Sendable {
        let messages = Mutex<[String]>([])

        func take(_ event: MigrationEvent) { messages.withLock { $0.append(event.message) } }
        func has(_ part: String) -> Bool { messages.withLock { $0.contains { $0.contains(part) } } }
    }

    private func state() async throws -> String? {
        try await TestDatabase.current.value("SELECT max(state) FROM reeve.migrations WHERE version = 2")
    }

    /// Runs `up` while another session is in a transaction with `statement`, which ends when a message contains `told`.
    /// All is applied then.
    private func up(
        _ fixture: MigrationFixture, beside statement: String, until told: String
    ) async throws {
        let database = try TestDatabase.current
        let heard = Heard()
        try await database.connection { blocker in
            try await blocker.with { try $0.execute("BEGIN; \(statement)") }
            let run = Task {
                try await fixture.migrator(database.settings) { $0.retries = 50 }.up { heard.take($0) }
            }
            try await waitUntil("a message contains '\(told)'") { heard.has(told) }
            try await blocker.with { try $0.execute("COMMIT") }
            #expect(try await run.value.done.count == 1)
        }
    }

    /// A procedure that commits after each of two batches, and then does `last`.
    private func batches(_ last: String) throws -> MigrationFixture {
        try MigrationFixture([
            "0001_a.up.sql": """
            CREATE TABLE log (n int);
            CREATE TABLE gate (n int);
            CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO app.log VALUES (1);
                COMMIT;
                INSERT INTO app.log VALUES (2);
                COMMIT;
                \(last);
                INSERT INTO app.log VALUES (3);
            END $$;
            """,
            "0002_b.up.sql": "-- reeve: no-transaction\nCALL fill();",
        ])
    }

    @Test func `a down that does nothing leaves a partly applied migration partly applied`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE t (a int);",
            "0002_b.up.sql":
                "-- reeve: no-transaction\nCREATE TABLE u (a int);\nSELECT 1 / 0;\nCREATE TABLE w (a int);",
            "0002_b.down.sql": "-- reeve: no-transaction\nDROP TABLE nope;\nDROP TABLE u;",
        ])
        let migrator = try fixture.migrator(database.settings)
        await #expect(throws: MigrationError.self) { try await migrator.up() }
        #expect(try await state() == "applying")
        await #expect(throws: MigrationError.self) { try await migrator.down(to: 1) }
        #expect(try await state() == "applying")
        // A migration whose first statement was cut off has no step in its journal.
        try await database.execute("DELETE FROM reeve.migration_steps")
        await #expect(throws: MigrationError.self) { try await migrator.down(to: 1) }
        #expect(try await state() == "applying")
        try await database.execute("UPDATE reeve.migrations SET state = 'applied'")
        await #expect(throws: MigrationError.self) { try await migrator.down(to: 1) }
        #expect(try await state() == "applied")
    }

    @Test func `a procedure that has committed batches waits for its locks and is not begun again`() async throws {
        let database = try TestDatabase.current
        let fixture = try batches("LOCK TABLE app.gate")
        _ = try await fixture.migrator(database.settings).up(to: 1)
        // It waits for longer than the lock timeout.
        try await up(fixture, beside: "LOCK TABLE app.gate", until: "waits for")
        #expect(try await database.value("SELECT string_agg(n::text, ',' ORDER BY n) FROM app.log") == "1,2,3")
    }

    /// The script limits its own waiting, so that Reeve does not lift the limit.
    @Test func `a procedure that has committed a batch and gets no lock is not tried again`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE log (n int);\nCREATE TABLE gate (n int);"
        ])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write(
            "0002_b.up.sql",
            """
            -- reeve: no-transaction
            DO $$ BEGIN
                INSERT INTO app.log VALUES (1);
                COMMIT;
                SET LOCAL lock_timeout = '100ms';
                LOCK TABLE app.gate;
            END $$;
            """)
        let heard = Heard()
        let error = try await database.connection { blocker in
            try await blocker.with { try $0.execute("BEGIN; LOCK TABLE app.gate") }
            return await #expect(throws: MigrationError.self) {
                try await fixture.migrator(database.settings) { $0.retries = 3 }.up { heard.take($0) }
            }
        }
        guard case .failed(_, "0002_b", let cause as PostgresError, _, let attempts, _) = error else {
            Issue.record("another error: \(String(describing: error))")
            return
        }
        #expect(cause.sqlState == "55P03" && attempts == 1)
        #expect(!heard.has("did not get its locks"))
        #expect(try await database.value("SELECT count(*) FROM app.log") == 1)
    }

    @Test func `a procedure that fails is known to have begun, and a corrected one is not`() async throws {
        let database = try TestDatabase.current
        let fixture = try batches("RAISE EXCEPTION 'no'")
        let migrator = try fixture.migrator(database.settings)
        await #expect(throws: MigrationError.self) { try await migrator.up() }
        #expect(try await state() == "applying")
        let heard = Heard()
        await #expect(throws: MigrationError.self) { try await migrator.up { heard.take($0) } }
        #expect(heard.has("0002_b.up.sql:2:1 did not finish in an earlier run, and is run again"))
        try fixture.write("0002_b.up.sql", "-- reeve: no-transaction\nCALL nope();")
        let other = Heard()
        await #expect(throws: MigrationError.self) { try await migrator.up { other.take($0) } }
        #expect(!other.has("run again"))
        // The server has refused the call itself, so that nothing of it is done.
        #expect(try await state() == nil)
    }

    @Test func `a step that gets no lock is tried again in its session`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE gate (n int);"])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write(
            "0002_b.up.sql",
            """
            -- reeve: no-transaction
            CREATE TEMPORARY TABLE found AS SELECT 7 AS n;
            ALTER TABLE gate ADD COLUMN m int;
            CREATE TABLE kept AS SELECT n FROM found;
            """)
        try await up(fixture, beside: "SELECT count(*) FROM app.gate", until: "did not get its locks")
        #expect(try await database.value("SELECT n FROM app.kept") == 7)
    }

    /// Committed steps hold no locks, so that their time is no stall.
    @Test func `only a step that waits for its locks counts as a stall`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE gate (n int);"])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write(
            "0002_b.up.sql",
            "-- reeve: no-transaction\nSELECT pg_sleep(1.5);\nALTER TABLE gate ADD COLUMN m int;")
        let heard = Heard()
        try await database.connection { blocker in
            try await blocker.with { try $0.execute("BEGIN; SELECT count(*) FROM app.gate") }
            let migrator = try fixture.migrator(database.settings) {
                $0.lockTimeout = .milliseconds(100)
                $0.stallLimit = .milliseconds(1200)
            }
            let run = Task { try await migrator.up { heard.take($0) } }
            try await waitUntil("an attempt has failed") { heard.has("did not get its locks") }
            try await blocker.with { try $0.execute("COMMIT") }
            _ = try? await run.value
        }
        #expect(heard.has("attempt 1 did not get its locks"))
    }

    @Test func `what is recorded of another statement does not count`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE a (x int);\nCREATE TABLE b (x int);",
            "0002_b.up.sql": "CREATE INDEX CONCURRENTLY i ON a (x);",
        ])
        let migrator = try fixture.migrator(database.settings)
        _ = try await migrator.up()
        // As if the run was killed while the server built the index.
        try await database.execute(
            "UPDATE reeve.migrations SET state = 'applying' WHERE version = 2",
            """
            INSERT INTO reeve.migration_steps (system, version, direction, step, token_digest, state, found)
            SELECT system, version, 'up', 0, token_digest, 'started',
                jsonb_build_object('objects', jsonb_build_array('app.a'::regclass::oid::int8), 'indexes', '[]'::jsonb)
            FROM reeve.migrations WHERE version = 2
            """)
        try fixture.write("0002_b.up.sql", "CREATE INDEX CONCURRENTLY j ON b (x);")
        #expect(try await migrator.up().done.count == 1)
        #expect(try await database.value("SELECT to_regclass('app.j') IS NOT NULL"))
    }

    /// The error of a deferred constraint names no statement of the procedure.
    @Test func `a procedure that fails at its end is known to have begun`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            CREATE TABLE p (id int PRIMARY KEY);
            CREATE TABLE c (id int REFERENCES p DEFERRABLE INITIALLY DEFERRED);
            """,
            "0002_b.up.sql": """
            -- reeve: no-transaction
            DO $$ BEGIN INSERT INTO p VALUES (1); COMMIT; INSERT INTO c VALUES (99); END $$;
            """,
        ])
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(try await state() == "applying")
        #expect(try await database.value("SELECT count(*) FROM reeve.migration_steps WHERE state = 'started'") == 1)
    }

    @Test(arguments: [
        "PREPARE q AS SELECT 1;\nEXECUTE q;\nALTER TABLE gate ADD COLUMN m int;",
        "PREPARE q AS SELECT 1;\nCREATE INDEX CONCURRENTLY i ON gate (n);\nEXECUTE q;\nDEALLOCATE q;\n"
            + "ALTER TABLE gate ADD COLUMN m int;",
    ])
    func `prepared statements are those of before when a step is tried again`(text: String) async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE gate (n int);\nCREATE TABLE other (n int);"])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("0002_b.up.sql", text + "\nCREATE INDEX CONCURRENTLY j ON other (n);")
        // CREATE INDEX CONCURRENTLY waits for older snapshots only.
        try await up(fixture, beside: "LOCK TABLE app.gate IN ACCESS SHARE MODE", until: "did not get its locks")
    }

    /// The record is sent while the encoding of the script still holds.
    @Test func `the text is recorded as it is in the file`() async throws {
        let database = try TestDatabase.current
        let text = "CREATE TABLE t (x text); -- ä€\nSELECT set_config('client_encoding', 'LATIN1', false);"
        let fixture = try MigrationFixture(["0001_a.up.sql": text])
        _ = try await fixture.migrator(database.settings).up()
        #expect(try await database.value("SELECT source FROM reeve.migrations") == text)
    }

    @Test func `a finished step that was edited is found`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0002_b.up.sql": "-- reeve: no-transaction\nCREATE TABLE u (a int);\nSELECT 1 / 0;"
        ])
        let migrator = try fixture.migrator(database.settings)
        await #expect(throws: MigrationError.self) { try await migrator.up() }
        #expect(try await migrator.verify() == [])
        try fixture.write("0002_b.up.sql", "-- reeve: no-transaction\nCREATE TABLE u (a bigint);\nSELECT 1;")
        #expect(try await migrator.verify().first?.evidence.contains("has been changed since") == true)
    }

    @Test func `an interrupted first statement leaves no record`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0002_b.up.sql": "-- reeve: no-transaction\nSELECT pg_sleep(60);"])
        let run = Task { try await fixture.migrator(database.settings).up() }
        try await waitUntil("the statement runs") {
            try await database.value(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^SELECT pg_sleep' AND state = 'active')"
            )
        }
        run.cancel()
        _ = try? await run.value
        #expect(try await state() == nil)
    }

    /// The clean-up of a failed REINDEX CONCURRENTLY waits, although the script limits its own waiting.
    @Test(arguments: [
        ("REINDEX INDEX CONCURRENTLY t_a", "SET lock_timeout = '200ms';"),
        ("REINDEX TABLE CONCURRENTLY t", "SET lock_timeout = '200ms';"),
        ("REINDEX SCHEMA CONCURRENTLY app", "SET lock_timeout = '200ms';"),
        ("REINDEX INDEX CONCURRENTLY p_x", "SET lock_timeout = '200ms';"),
        ("REINDEX SCHEMA CONCURRENTLY app", ""),
    ])
    func `a failed rebuild of an index leaves no invalid index`(statement: String, limit: String) async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            CREATE TABLE t (a int, b text);
            CREATE INDEX t_a ON t (a);
            CREATE TABLE p (x int) PARTITION BY RANGE (x);
            CREATE INDEX p_x ON p (x);
            CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (9);
            """
        ])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("0002_b.up.sql", "-- reeve: no-transaction\n\(limit)\n\(statement);")
        try await up(
            fixture, beside: "INSERT INTO app.t VALUES (1); INSERT INTO app.p VALUES (1)", until: "waits for")
        #expect(
            try await database.value(
                "SELECT coalesce(string_agg(indexrelid::regclass::text, ' '), '') FROM pg_index WHERE NOT indisvalid")
                == "")
    }

    @Test func `an index on a table with escapes in its name is built`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": #"CREATE TABLE U&"t\00e4" (x int);"#,
            "0002_b.up.sql": #"CREATE INDEX CONCURRENTLY i ON U&"t\00e4" (x);"#,
        ])
        #expect(try await fixture.migrator(database.settings).up().done.count == 2)
        #expect(try await database.value("SELECT to_regclass('app.i') IS NOT NULL"))
    }
}

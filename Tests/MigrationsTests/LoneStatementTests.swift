import Foundation
import Ledger
import Postgres
import Synchronization
import TestSupport
import Testing

@testable import Migrations

/// Statements that run alone: what was refused, what was cut off, and whom they wait for.
@Suite(.database, .timeLimit(.minutes(3)))
struct LoneStatementTests {
    private final class Heard: Sendable {
        let messages = Mutex<[String]>([])
    }

    /// Leaves the ledger as a run that was killed after it recorded the start of the statement.
    private func cutOff(_ fixture: MigrationFixture, _ file: String, _ text: String) async throws {
        let database = try TestDatabase.current
        try fixture.write(file, text)
        _ = try await fixture.migrator(database.settings).up()
        try await database.execute(
            "UPDATE reeve.migrations SET state = 'applying' WHERE version = 2",
            """
            INSERT INTO reeve.migration_steps (system, version, direction, step, token_digest, state, found)
            SELECT system, version, 'up', 0, token_digest, 'started', NULL FROM reeve.migrations WHERE version = 2
            """)
    }

    @Test(arguments: [
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i ON app.t (a)"),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i ON app.t (b)"),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i ON app.t (a) WHERE b > 0"),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i ON app.t USING hash (a)"),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i ON app.t (a DESC)"),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i ON app.t (a) INCLUDE (b)"),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i ON app.other (a)"),
    ])
    func `an index of another definition is never taken for the result`(sql: String, there: String) async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_t.up.sql": "CREATE TABLE t (a int, b int);\nCREATE TABLE other (a int);"
        ])
        try await cutOff(fixture, "0002_i.up.sql", sql + ";")
        try await database.execute("DROP INDEX app.i", there)
        for _ in 1...2 {
            let error = await #expect(throws: MigrationError.self) {
                try await fixture.migrator(database.settings).up()
            }
            #expect(error?.description.contains("42P07") == true)
            #expect(error?.hint?.contains("DROP INDEX CONCURRENTLY") == true, "\(error?.hint ?? "")")
        }
        try await database.execute("DROP INDEX app.i")
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
    }

    /// What was there when the statement began is there still: it is run again.
    @Test(arguments: [
        ("DROP INDEX CONCURRENTLY i", "CREATE INDEX i ON app.t (a)", "SELECT 'app.i'::regclass::oid::int8"),
        (
            "DROP DATABASE NAME_gone", "CREATE DATABASE NAME_gone",
            "SELECT oid::int8 FROM pg_database WHERE datname = 'NAME_gone'"
        ),
    ])
    func `a drop that was cut off is run again`(sql: String, create: String, find: String) async throws {
        let database = try TestDatabase.current
        func named(_ text: String) -> String { text.replacing("NAME", with: database.name) }
        let fixture = try MigrationFixture(["0001_t.up.sql": "CREATE TABLE t (a int);"])
        _ = try await fixture.migrator(database.settings).up()
        try await database.execute(named(create))
        try await cutOff(fixture, "0002_drop.up.sql", named(sql) + ";")
        try await database.execute(named(create))
        let object: Int = try await database.value(named(find))
        try await database.execute(
            "UPDATE reeve.migration_steps SET found = '{\"objects\": [\(object)], \"indexes\": []}'")
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        #expect(
            try await database.value(
                "SELECT to_regclass('app.i') IS NULL AND NOT EXISTS (SELECT FROM pg_database WHERE oid = \(object))"))
        // What is gone was dropped.
        try await database.execute(
            "UPDATE reeve.migrations SET state = 'applying' WHERE version = 2",
            """
            INSERT INTO reeve.migration_steps (system, version, direction, step, token_digest, state, found)
            SELECT system, version, 'up', 0, token_digest, 'started', '{"objects": [\(object)], "indexes": []}'
            FROM reeve.migrations WHERE version = 2
            """)
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
    }

    @Test(arguments: [
        "i ON t (a, lower(b)) WHERE a > 0", "ON t (a)", "I ON ONLY \"t\" USING btree (a) INCLUDE (b)",
        "i ON t (f(t))", "i ON t USING btree (f(t.*), a)",
    ])
    func `what a run that was cut off has built is done`(definition: String) async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_t.up.sql": """
            CREATE TABLE t (a int, b text);
            CREATE FUNCTION f(t) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1.a';
            """
        ])
        let gone = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'app'"
        try await cutOff(fixture, "0002_i.up.sql", "CREATE INDEX CONCURRENTLY \(definition);")
        let oid: Int = try await database.value(
            "SELECT indexrelid::int8 FROM pg_index WHERE indrelid = 'app.t'::regclass")
        try await database.execute(
            "UPDATE reeve.migration_steps SET found = jsonb_build_object('objects', jsonb_build_array('app.t'::regclass::oid::int8), 'indexes', '[]'::jsonb)"
        )
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        #expect(try await database.value(gone) == 1)
        let same: Int = try await database.value(
            "SELECT indexrelid::int8 FROM pg_index WHERE indrelid = 'app.t'::regclass")
        #expect(same == oid)
    }

    @Test func `an invalid index of another table is not dropped, and IF NOT EXISTS does not count it`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_t.up.sql":
                "CREATE TABLE t (a int); CREATE TABLE other (a int); INSERT INTO other VALUES (1), (1); INSERT INTO t VALUES (1), (1);"
        ])
        _ = try await fixture.migrator(database.settings).up()
        _ = try? await database.execute("CREATE UNIQUE INDEX CONCURRENTLY i ON app.other (a)")
        try fixture.write("0002_i.up.sql", "CREATE INDEX CONCURRENTLY i ON t (a);")
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(try await database.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 1)
        try fixture.write("0002_i.up.sql", "CREATE INDEX CONCURRENTLY IF NOT EXISTS j ON t (a);")
        _ = try? await database.execute("CREATE UNIQUE INDEX CONCURRENTLY j ON app.t (a)")
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(error?.hint?.contains("DROP INDEX CONCURRENTLY app.j") == true)
    }

    @Test func `whom an index build waits for is told, also to a second runner, and its orphan is ended`() async throws
    {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0001_t.up.sql": "CREATE TABLE t (a int);"])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("0002_i.up.sql", "CREATE INDEX CONCURRENTLY i ON t (a);")
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        let heard = Heard()
        try await database.connection { application in
            try await application.with { try $0.execute("BEGIN; INSERT INTO app.t VALUES (1) -- the application") }
            let process = await application.serverProcess
            let settings = proxy.settings(database.settings)
            let first = Task {
                try await fixture.migrator(settings).up { event in
                    if case .waits = event { heard.messages.withLock { $0.append(event.message) } }
                }
            }
            try await waitUntil("the wait is reported") { !heard.messages.withLock { $0.isEmpty } }
            #expect(
                heard.messages.withLock { $0[0].contains("process \(process) of") && $0[0].contains("the application") }
            )

            let error = await #expect(throws: MigrationError.self) {
                try await fixture.migrator(database.settings) { $0.lockWait = .milliseconds(50) }.up()
            }
            #expect(error?.description.contains("its migration: process") == true)
            #expect(error?.description.contains("which waits for process \(process) of") == true)

            // The client is gone, but its index build goes on in the server.
            let busy =
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%' AND datname = current_database()"
            proxy.cut()
            _ = await first.result
            #expect(try await database.value(busy) == 1)
            try await application.with { try $0.execute("COMMIT") }
        }
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        #expect(try await database.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'app.i'::regclass"))
    }

    /// What an interrupted build left behind is dropped in the session of the migration, not in the lock's, which would
    /// hold the lock as long as it waits.
    @Test func `whom a clean-up waits for is told, and the lock is free of it`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0001_t.up.sql": "CREATE TABLE t (a int);\nINSERT INTO t VALUES (1), (1);"])
        _ = try await fixture.migrator(database.settings).up()
        try await database.connection { connection in
            // An invalid index is left behind.
            _ = try? await connection.with { try $0.execute("CREATE UNIQUE INDEX CONCURRENTLY i ON app.t (a)") }
        }
        #expect(try await database.value("SELECT NOT indisvalid FROM pg_index WHERE indexrelid = 'app.i'::regclass"))
        try await database.execute("DELETE FROM app.t")
        try fixture.write("0002_i.up.sql", "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a);")
        let heard = Heard()
        try await database.connection { application in
            try await application.with { try $0.execute("BEGIN; INSERT INTO app.t VALUES (1)") }
            let process = await application.serverProcess
            let run = Task {
                try await fixture.migrator(database.settings).up { event in
                    if case .waits = event { heard.messages.withLock { $0.append(event.message) } }
                }
            }
            try await waitUntil("the wait is reported") { !heard.messages.withLock { $0.isEmpty } }
            #expect(heard.messages.withLock { $0[0].contains("process \(process) of") })
            let drops = "query LIKE 'DROP INDEX CONCURRENTLY%' AND datname = current_database()"
            let names: String = try await database.value(
                "SELECT string_agg(application_name, ' ') FROM pg_stat_activity WHERE \(drops)")
            #expect(names == "reeve migrate")
            try await application.with { try $0.execute("ROLLBACK") }
            #expect(try await run.value.done.count == 1)
        }
        #expect(try await database.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'app.i'::regclass"))
    }

    @Test func `a run ends the session that a killed run left behind, and no other`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0001_t.up.sql": "CREATE TABLE t (a int);"])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("0002_i.up.sql", "ALTER TABLE t ADD COLUMN b int;")
        let other = try await Connection.open(database.settings.named("reeve migrate"))
        try await other.with { try $0.execute("BEGIN; SELECT 1") }
        let orphan = try await Connection.open(database.settings.named("deploy"))
        try await orphan.with { try $0.execute("BEGIN; LOCK TABLE app.t") }
        // The process ID of a session that has ended belongs to another one later.
        let innocent = await other.serverProcess
        try await database.with { try MigrationLedger.recordSession(innocent, on: $0) }
        try await database.execute("UPDATE reeve.ledger SET migrator = migrator || '{\"began\": \"2001-01-01\"}'")
        await #expect(throws: MigrationError.self) {
            try await fixture.migrator(database.settings) { $0.retries = 0 }.up()
        }
        let process = await orphan.serverProcess
        try await database.with { try MigrationLedger.recordSession(process, on: $0) }
        #expect(try await fixture.migrator(database.settings) { $0.retries = 0 }.up().done.count == 1)
        await #expect(throws: PostgresError.self) { try await orphan.with { try $0.execute("SELECT 1") } }
        try await other.with { try $0.execute("COMMIT") }
        await orphan.close()
        await other.close()
    }

    @Test func `a file that failed in steps and needs none any more continues`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_t.up.sql":
                "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1);\nCREATE UNIQUE INDEX CONCURRENTLY i ON t (t.a);"
        ])
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(try await database.value("SELECT count(*) FROM pg_class WHERE relname = 'i'") == 0)
        try fixture.write(
            "0001_t.up.sql", "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1);\nCREATE INDEX i ON t (a);")
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        #expect(try await database.value("SELECT count(*) FROM app.t") == 2)
        #expect(try await database.value("SELECT count(*) FROM reeve.migration_steps") == 0)
    }

    @Test func `a session is not ended for being idle, and its custom settings are restored`() async throws {
        let database = try TestDatabase.current
        try await database.execute("ALTER DATABASE \(database.name) SET idle_session_timeout = '300ms'")
        let fixture = try MigrationFixture([
            "0001_t.up.sql": """
            -- reeve: no-transaction
            SET app.tenant = 'acme';
            CREATE TABLE t (a text);
            SELECT pg_sleep(1);
            INSERT INTO t SELECT current_setting('app.tenant');
            SELECT nope;
            """
        ])
        let text = try String(contentsOfFile: "\(fixture.folder)/0001_t.up.sql", encoding: .utf8)
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        try fixture.write(
            "0001_t.up.sql", text.replacing("SELECT nope", with: "INSERT INTO t SELECT current_setting('app.tenant')"))
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        #expect(try await database.value("SELECT string_agg(a, ' ') FROM app.t") == "acme acme")
    }

    @Test func `a text that was sent with PREPARE is not run again`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_t.up.sql": """
            CREATE TABLE t (a int);
            DO $$ BEGIN EXECUTE 'INSERT INTO t VALUES (1); PREPARE p AS SELECT 1'; END $$;
            CREATE INDEX CONCURRENTLY i ON t (a);
            SELECT nope;
            """
        ])
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        let text = try String(contentsOfFile: "\(fixture.folder)/0001_t.up.sql", encoding: .utf8)
        try fixture.write("0001_t.up.sql", text.replacing("nope", with: "1"))
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(error?.description.contains("cannot be continued") == true)
        #expect(try await database.value("SELECT count(*) FROM app.t") == 1)
    }

    @Test func `a continued file has the settings of its finished steps`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE SCHEMA o")
        let fixture = try MigrationFixture([
            "0001_t.up.sql": """
            SET search_path = o;
            DO $$ BEGIN PERFORM set_config('work_mem', '3MB', false); END $$;
            CREATE TEMP TABLE gone (a int) ON COMMIT DROP;
            CREATE ROLE r_%@;
            SET ROLE r_%@;
            RESET ROLE;
            DROP ROLE r_%@;
            PREPARE p AS SELECT 7;
            CREATE TABLE t (a int);
            CREATE INDEX CONCURRENTLY i ON t (a);
            CREATE TABLE u AS SELECT current_setting('work_mem') AS m, nope;
            """.replacing("%@", with: database.name)
        ])
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        let text = try String(contentsOfFile: "\(fixture.folder)/0001_t.up.sql", encoding: .utf8)
        try fixture.write("0001_t.up.sql", text.replacing(", nope", with: ""))
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        #expect(try await database.value("SELECT m FROM o.u") == "3MB")

        try fixture.write(
            "0002_u.up.sql", "CREATE TEMP TABLE k AS SELECT 1;\nCREATE INDEX CONCURRENTLY j ON o.t (a);\nSELECT nope;")
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        try fixture.write(
            "0002_u.up.sql", "CREATE TEMP TABLE k AS SELECT 1;\nCREATE INDEX CONCURRENTLY j ON o.t (a);\nSELECT 1;")
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(error?.description.contains("0002_u.up.sql:3:1") == true)
        #expect(error?.hint?.contains("reeve migrate baseline") == true)
    }

    @Test(arguments: ["DROP TABLE t;", "DROP INDEX CONCURRENTLY IF EXISTS i;\nDROP TABLE t;"])
    func `a half-applied migration is reverted, and applied again from its first step`(down: String) async throws {
        let database = try TestDatabase.current
        let start = "CREATE TABLE t AS SELECT 1 AS a FROM generate_series(1, %@);\n"
        let fixture = try MigrationFixture([
            "0001_t.up.sql": start.replacing("%@", with: "2") + "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a);",
            "0001_t.down.sql": down,
        ])
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        _ = try await fixture.migrator(database.settings).down(to: nil)
        #expect(try await database.value("SELECT to_regclass('app.t') IS NULL"))
        #expect(try await database.value("SELECT count(*) FROM reeve.migration_steps") == 0)
        try fixture.write(
            "0001_t.up.sql", start.replacing("%@", with: "1") + "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a);")
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        #expect(try await database.value("SELECT to_regclass('app.i') IS NOT NULL"))
    }

    @Test func `a continued file has the session authorization of its finished steps`() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_role"
        try await database.execute("CREATE ROLE \(role)", "CREATE SCHEMA o AUTHORIZATION \(role)")
        let text = """
            SET SESSION AUTHORIZATION \(role);
            CREATE TABLE o.t (a int);
            CREATE INDEX CONCURRENTLY i ON o.t (a);
            CREATE TABLE o.u AS SELECT session_user::text AS u, nope;
            """
        let fixture = try MigrationFixture(["0001_t.up.sql": text])
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        try fixture.write("0001_t.up.sql", text.replacing(", nope", with: ""))
        _ = try await fixture.migrator(database.settings).up()
        #expect(try await database.value("SELECT u FROM o.u") == role)
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test func `an invalid index that was there before stays after a failure`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_t.up.sql": "CREATE TABLE t AS SELECT 1 AS a FROM generate_series(1, 2);"
        ])
        _ = try await fixture.migrator(database.settings).up()
        await #expect(throws: PostgresError.self) {
            try await database.execute("CREATE UNIQUE INDEX CONCURRENTLY ON app.t (a)")
        }
        try fixture.write("0002_i.up.sql", "CREATE UNIQUE INDEX CONCURRENTLY ON t (a);")
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        let names: String = try await database.value(
            "SELECT string_agg(indexname, ' ') FROM pg_indexes WHERE schemaname = 'app'")
        #expect(names == "t_a_idx")
    }

    /// Runs `up` beside another session with an open transaction, until `condition` holds. Then the run is ended: it is
    /// cancelled, or the server ends its session.
    private func end(
        _ fixture: MigrationFixture, byCancelling: Bool, beside statement: String, when condition: String
    ) async throws {
        let database = try TestDatabase.current
        try await database.connection { other in
            try await other.with { try $0.execute("BEGIN; \(statement)") }
            let run = Task { try await fixture.migrator(database.settings).up() }
            try await waitUntil(condition) { try await database.value(condition) }
            if byCancelling {
                run.cancel()
            } else {
                try await database.execute(
                    """
                    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'reeve migrate'
                    """)
            }
            await #expect(throws: (any Error).self) { try await run.value }
            try await other.with { try $0.execute("COMMIT") }
        }
    }

    @Test(arguments: [false, true])
    func `a partition that a run has detached in part is detached by the next`(byCancelling: Bool) async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_p.up.sql": """
            CREATE TABLE p (k int) PARTITION BY LIST (k);
            CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
            """
        ])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("0002_d.up.sql", "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY;")
        let pending = "SELECT count(*) = 1 FROM pg_inherits WHERE inhdetachpending"
        try await end(fixture, byCancelling: byCancelling, beside: "SELECT FROM app.p", when: pending)
        #expect(try await database.value(pending))
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        #expect(try await database.value("SELECT count(*) FROM pg_inherits") == 0)
        #expect(try await database.value("SELECT NOT relispartition FROM pg_class WHERE oid = 'app.p1'::regclass"))
    }

    /// Anybody may give an index such a name.
    @Test func `a valid index that is named like what REINDEX leaves behind stays`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_t.up.sql": "CREATE TABLE t (a int);\nCREATE INDEX i ON t (a);\nCREATE INDEX one_ccold ON t (a);"
        ])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("0002_r.up.sql", "REINDEX INDEX CONCURRENTLY i;")
        let invalid = "SELECT count(*) = 1 FROM pg_index WHERE NOT indisvalid"
        try await end(fixture, byCancelling: false, beside: "INSERT INTO app.t VALUES (1)", when: invalid)
        #expect(try await database.value(invalid))
        try await database.execute("CREATE INDEX keep_ccold ON app.t (a)")
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        let names: String = try await database.value(
            "SELECT string_agg(indexname, ' ' ORDER BY indexname) FROM pg_indexes WHERE schemaname = 'app'")
        #expect(names == "i keep_ccold one_ccold")
    }

    /// A rollback does not take back what a sequence has given.
    @Test func `the expressions of an index run with the rights of the table's owner`() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_role"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE SCHEMA p AUTHORIZATION \(role)", "SET ROLE \(role)",
            """
            CREATE TABLE p.t (x int); CREATE SEQUENCE p.leaks; GRANT USAGE ON SEQUENCE p.leaks TO PUBLIC;
            CREATE FUNCTION p.vol() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
                IF current_user <> '\(role)' THEN PERFORM nextval('p.leaks'); END IF; RETURN 1; END $$;
            CREATE FUNCTION p.g(a int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN p.vol(); END $$;
            CREATE FUNCTION p.f(a int) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT a + p.g(1) $$
            """, "RESET ROLE")
        let fixture = try MigrationFixture([
            "0001_i.up.sql": "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON p.t (p.f(x));"
        ])
        _ = try await fixture.migrator(database.settings).up()
        #expect(try await database.value("SELECT NOT is_called FROM p.leaks"))
        // The same definition is recognised.
        try await database.execute(
            "UPDATE reeve.migrations SET state = 'applying'",
            """
            INSERT INTO reeve.migration_steps (system, version, direction, step, token_digest, state, found)
            SELECT system, version, 'up', 0, token_digest, 'started',
                jsonb_build_object('objects', jsonb_build_array('p.t'::regclass::oid::int8), 'indexes', '[]'::jsonb)
            FROM reeve.migrations
            """)
        _ = try await fixture.migrator(database.settings).up()
        #expect(try await database.value("SELECT NOT is_called FROM p.leaks"))
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test func `what a function has prepared is not run again`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE SCHEMA p", "CREATE SEQUENCE p.s", "CREATE TABLE p.won ()",
            #"""
            CREATE FUNCTION p.leave() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN
                EXECUTE 'PREPARE x AS SELECT ''\'''' ; DROP TABLE p.won; --''';
                PERFORM set_config('standard_conforming_strings', 'off', false); RETURN 1; END $f$
            """#,
            """
            CREATE FUNCTION p.work() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('p.s') = 1 THEN RAISE 'not now'; END IF; RETURN 1; END $$
            """)
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "-- reeve: no-transaction\nSELECT p.leave();\nSELECT p.work();"
        ])
        for _ in 1...2 { _ = try? await fixture.migrator(database.settings).up() }
        #expect(try await database.value("SELECT to_regclass('p.won') IS NOT NULL"))
    }

    @Test func `a continued file has the custom settings and resets of its finished steps`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            -- reeve: no-transaction
            DISCARD ALL;
            SET "app"."tenant" = '7';
            SELECT set_config('app.a.b', '8', false);
            PREPARE gone AS SELECT 1;
            SELECT 1/0;
            CREATE TABLE made AS SELECT current_setting('app.tenant', true) AS t, current_setting('app.a.b', true) AS b;
            """
        ])
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        try fixture.write(
            "0001_a.up.sql",
            try String(contentsOfFile: "\(fixture.folder)/0001_a.up.sql", encoding: .utf8)
                .replacing("1/0", with: "1"))
        _ = try await fixture.migrator(database.settings).up()
        #expect(try await database.value("SELECT t || b FROM public.made") == "78")
    }

    @Test func `the attempts for a lock are bounded by their sum`() throws {
        var attempts = LockAttempts(
            most: 100, first: .seconds(1), stallLimit: .seconds(10), lockTimeout: .milliseconds(500))
        var pauses: [Duration] = []
        while let pause = attempts.pause(afterAttemptOf: .milliseconds(600)) { pauses.append(pause) }
        #expect(attempts.stall <= .seconds(10))
        #expect(pauses.count == 15)
        #expect(try #require(pauses.max()) <= .seconds(30) && #require(pauses.min()) >= .milliseconds(500))
        var few = LockAttempts(most: 3, first: .seconds(1), stallLimit: .seconds(10), lockTimeout: .milliseconds(500))
        #expect(few.pause(afterAttemptOf: .zero) != nil && few.pause(afterAttemptOf: .zero) != nil)
        #expect(few.pause(afterAttemptOf: .zero) == nil)
    }

    /// Also after the number of attempts at which a doubled number would be too large.
    @Test func `the pauses between the attempts for a lock stay within bounds`() throws {
        var attempts = LockAttempts(
            most: 100, first: .seconds(1), stallLimit: .seconds(10_000), lockTimeout: .milliseconds(500))
        var pauses: [Duration] = []
        while let pause = attempts.pause(afterAttemptOf: .milliseconds(600)) { pauses.append(pause) }
        #expect(pauses.count == 99)
        #expect(pauses.allSatisfy { $0 > .zero && $0 <= .seconds(30) }, "\(pauses)")
        #expect(pauses.dropFirst(5).allSatisfy { $0 >= .seconds(15) }, "\(pauses)")
    }
}

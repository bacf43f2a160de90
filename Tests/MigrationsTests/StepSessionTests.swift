import Foundation
import Postgres
import SQL
import Synchronization
import TestSupport
import Testing

@testable import Migrations

/// What the steps of a migration leave in their session, for the next step and for a later run.
@Suite(.database, .timeLimit(.minutes(3)))
struct StepSessionTests {
    private let head = "-- reeve: no-transaction\n"

    private static let preparations = """
        CREATE SCHEMA o;
        CREATE SCHEMA q;
        CREATE TABLE z (a text);
        CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT set_config('search_path', 'o', false) $$;
        CREATE TABLE gate (x int);
        GRANT USAGE ON SCHEMA app TO pg_monitor;
        GRANT SELECT, INSERT, UPDATE, DELETE ON gate TO pg_monitor;
        CREATE TABLE d (d date);
        CREATE TABLE o.t1 (x int);
        """

    private func schema(of table: String) async throws -> String {
        try await TestDatabase.current.value(
            "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = '\(table)'")
    }

    // MARK: Settings

    /// The connection is cut when the server has the COMMIT of the step. The next run has another session.
    @Test(arguments: [
        ("BEGIN; SAVEPOINT a; SET search_path = o; ROLLBACK TO a; COMMIT;", "app"),
        ("DO $$ BEGIN SET search_path = o; END $$;", "o"),
        ("DO $$ BEGIN EXECUTE 'SET ROLE pg_monitor'; RESET ROLE; EXECUTE 'SET search_path = o'; END $$;", "o"),
        ("BEGIN; DO $$ BEGIN PERFORM set_config('search_path', 'o', true); END $$; COMMIT;", "app"),
        ("BEGIN; INSERT INTO z SELECT set_config('search_path', 'o', true); COMMIT;", "app"),
        ("SELECT f();", "o"),
        ("SELECT set_config('search_path', 'o', false), set_config('a.b', repeat('x', 20000), false);", "o"),
        ("BEGIN; SET LOCAL search_path = q; SELECT 1; COMMIT;", "app"),
        ("BEGIN; SET search_path = o; SET LOCAL search_path = q; COMMIT;", "o"),
        (
            "BEGIN; SET search_path = o; SET default_transaction_isolation = serializable; SET lock_timeout = 1; COMMIT;",
            "o"
        ),
        ("SELECT set_config('search_path', 'o', false), set_config('a.b', '1', true);", "o"),
        (
            """
            BEGIN; CREATE ROLE %; GRANT CREATE ON SCHEMA q TO %; SET ROLE %; CREATE TABLE q.t0 (x int); RESET ROLE;
            REASSIGN OWNED BY % TO CURRENT_USER; DROP OWNED BY %; DROP ROLE %; COMMIT;
            """, "app"
        ),
    ])
    func `a run that is cut off at the COMMIT of a step continues with the settings of the session`(
        step: String, schema: String
    ) async throws {
        let database = try TestDatabase.current
        let step = step.replacing("%", with: "\(database.name)_r")
        let fixture = try MigrationFixture(["0001_a.up.sql": Self.preparations])
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("0002_b.up.sql", "\(head)\(step)\nCREATE TABLE here (x int);")
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        proxy.arm(onText: "COMMIT;\nBEGIN", afterForwarding: true) { _ in .cut }
        await #expect(throws: MigrationError.self) {
            try await fixture.migrator(proxy.settings(database.settings)).up()
        }
        try await waitUntil("the server has recorded the state behind COMMIT") {
            try await database.value(
                "SELECT count(*) > 0 AND NOT bool_or((session ->> 'isProvisional')::boolean) FROM reeve.migration_steps"
            )
        }
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        #expect(try await self.schema(of: "here") == schema)
    }

    /// The server was interrupted between COMMIT and the statements behind it.
    @Test func `settings that may have been the transaction's are asked for`() async throws {
        let database = try TestDatabase.current
        let step = "\(head)BEGIN;\nSET LOCAL search_path = q;\nSET LOCAL DateStyle = 'German';\nCOMMIT;\n"
        let fixture = try MigrationFixture([
            "0001_a.up.sql": Self.preparations, "0002_b.up.sql": "\(step)SELECT 1 / 0;",
        ])
        let migrator = { try fixture.migrator(database.settings) }
        await #expect(throws: MigrationError.self) { try await migrator().up() }
        try await database.execute(
            """
            UPDATE reeve.migration_steps SET session =
                jsonb_set(session || '{"isProvisional": true}', '{state,settings}',
                    session #> '{state,settings}' || '{"search_path": "q", "DateStyle": "German, DMY"}')
            """)
        try fixture.write("0002_b.up.sql", "\(step)CREATE TABLE here (x int);")
        let error = await #expect(throws: MigrationError.self) { try await migrator().up() }
        #expect(
            error?.description.contains("for the session: DateStyle, search_path") == true,
            "\(error.map { "\($0)" } ?? "")")
        #expect(error?.hint?.contains("SET DateStyle") == true)
        try fixture.write(
            "0002_b.up.sql", "\(step)SET DateStyle = ISO;\nSET search_path = o;\nCREATE TABLE here (x int);")
        #expect(try await migrator().up().done.count == 1)
        #expect(try await schema(of: "here") == "o")
    }

    @Test func `statements that make a setting known`() throws {
        let script = try MigrationScript(
            path: "f",
            bytes: Array(
                """
                SET search_path = o; SET SESSION work_mem TO '1MB'; SET app.a TO 'x'; RESET jit; SET TIME ZONE 'UTC';
                SET ROLE x; SET SESSION AUTHORIZATION y; SET "Lock_Timeout" = 1; SELECT 1; SET DateStyle = 'ISO';
                """.utf8))
        let words = try script.statements.map(script.words)
        let some = ExplicitSettings(words)
        for name in ["search_path", "work_mem", "app.a", "jit", "timezone", "role", "session_authorization"] {
            #expect(some.cover(name), "\(name)")
        }
        #expect(!some.cover("datestyle"))
        for text in ["SET LOCAL jit = on", "SET TRANSACTION READ ONLY", "SET CONSTRAINTS ALL DEFERRED", "SELECT 1"] {
            let one = try MigrationScript(path: "f", bytes: Array("\(text); SET jit = on".utf8))
            #expect(!ExplicitSettings(try one.statements.map(one.words)).cover("jit"), "\(text)")
        }
        let all = try MigrationScript(path: "f", bytes: Array("RESET ALL".utf8))
        let reset = ExplicitSettings(try all.statements.map(all.words))
        #expect(reset.cover("jit") && !reset.cover("role"))
    }

    /// What the script has not changed is as the later session began.
    @Test func `a state is carried over into a session that began with other settings`() {
        func state(_ settings: [String: String]) -> SessionState {
            SessionState(settings: settings, role: "none", user: "u", prepared: [], hasTemporaryObjects: false)
        }
        let initial = ["path": "a", "lock": "500", "gone": "1", "reset": "r"]
        let now = ["path": "b", "lock": "900", "new": "n", "reset": "r2"]
        let left = state(["path": "script", "lock": "500", "own": "o", "gone": "1"])
        let rebased = left.rebased(from: initial, to: now)
        #expect(rebased.settings == ["path": "script", "lock": "900", "own": "o", "new": "n"])
        let adoption = rebased.adoption(from: now, local: true)
        #expect(
            adoption == [
                "SELECT pg_catalog.set_config('own', 'o', true), pg_catalog.set_config('path', 'script', true), "
                    + "pg_catalog.set_config('reset', NULL, true)",
                "SET LOCAL SESSION AUTHORIZATION \"u\"", "SET LOCAL ROLE NONE",
            ])
    }

    // MARK: Roles and temporary objects

    @Test func `a later run continues as the role of the session`() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_plain"
        try await database.execute("CREATE ROLE \(role)", "CREATE SCHEMA o AUTHORIZATION \(role)")
        let beginning = "\(head)SET ROLE \(role);\nCREATE TABLE o.z (a int);\n"
        let fixture = try MigrationFixture(["0001_a.up.sql": "\(beginning)SELECT 1 / 0;"])
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        try fixture.write("0001_a.up.sql", "\(beginning)CREATE TABLE o.b (a int);")
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        let owners: String = try await database.value(
            "SELECT string_agg(DISTINCT relowner::regrole::text, ' ') FROM pg_class WHERE relname IN ('b', 'z')")
        #expect(owners == role)
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    /// A permanent table of the same name is not taken for the temporary one.
    @Test(arguments: [false, true])
    func `a file whose temporary table is lost is not continued`(hasPermanent: Bool) async throws {
        let database = try TestDatabase.current
        let beginning = "\(head)CREATE TEMP TABLE k AS SELECT 7 AS n;\n"
        let fixture = try MigrationFixture([
            "0001_a.up.sql": hasPermanent ? "CREATE TABLE k AS SELECT 1 AS n;" : "CREATE TABLE other (x int);",
            "0002_b.up.sql": "\(beginning)SELECT 1 / 0;",
        ])
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        try fixture.write("0002_b.up.sql", "\(beginning)CREATE TABLE kept AS SELECT n FROM k;")
        for _ in 1...2 {
            let error = await #expect(throws: MigrationError.self) {
                try await fixture.migrator(database.settings).up()
            }
            guard case .temporaryLost(let location, "app", "0002_b") = error else {
                Issue.record("another error: \(String(describing: error))")
                continue
            }
            #expect(location.hasSuffix("0002_b.up.sql:3:1"))
        }
        #expect(try await database.value("SELECT to_regclass('app.kept') IS NULL"))
    }

    // MARK: Prepared statements

    private static let preparing: [(file: String, query: String, expected: String)] = [
        (
            """
            SET DateStyle = 'ISO, DMY';
            PREPARE q1 AS INSERT INTO d VALUES ('01/02/2020');
            SET DateStyle = 'ISO, MDY';
            """, "SELECT string_agg(d::text, ' ') FROM app.d", "2020-02-01"
        ),
        (
            "SET search_path = o, app;\nPREPARE q1 AS INSERT INTO t1 VALUES (1);\nSET search_path = app;\n",
            "SELECT string_agg(x::text, ' ') FROM o.t1", "1"
        ),
        (
            """
            PREPARE q1 AS INSERT INTO d VALUES ('01/02/2020');
            DEALLOCATE q1;
            SET DateStyle = 'ISO, DMY';
            PREPARE q1 AS INSERT INTO d VALUES ('01/02/2020');
            SET DateStyle = 'ISO, MDY';
            """, "SELECT string_agg(d::text, ' ') FROM app.d", "2020-02-01"
        ),
        (
            """
            BEGIN; SET DateStyle = 'ISO, DMY'; PREPARE q1 AS INSERT INTO d VALUES ('01/02/2020'); CREATE TABLE other (x int); COMMIT;
            SET DateStyle = 'ISO, MDY';
            """, "SELECT string_agg(d::text, ' ') FROM app.d", "2020-02-01"
        ),
        (
            "PREPARE q1 AS INSERT INTO o.t1 VALUES (1);\nSET ROLE pg_monitor;\n",
            "SELECT string_agg(x::text, ' ') FROM o.t1", "1"
        ),
    ]

    private func fixture(_ beginning: String, _ step: String) async throws -> MigrationFixture {
        let fixture = try MigrationFixture(["0001_a.up.sql": Self.preparations])
        _ = try await fixture.migrator(TestDatabase.current.settings).up()
        // EXECUTE analyses a statement again if the search path is another one, and if the server's queue of
        // invalidations has overflowed, as it does beside many other tests. So it finds the settings that the statement
        // was prepared with; one that was prepared with others, and is not analysed again, still has another meaning.
        let resets = [
            "SET ROLE": "RESET ROLE;", "search_path = o": "SET search_path = o, app;",
            "DateStyle = 'ISO, DMY'": "SET DateStyle = 'ISO, DMY';",
        ]
        let reset = resets.filter { beginning.contains($0.key) }.map(\.value).joined(separator: "\n")
        try fixture.write("0002_b.up.sql", "\(head)\(beginning)\n\(step)\n\(reset)\nEXECUTE q1;")
        return fixture
    }

    private final class Flag: Sendable {
        private let state = Mutex(false)
        var isSet: Bool { state.withLock { $0 } }
        func set() { state.withLock { $0 = true } }
    }

    /// Runs `up` while another session has a lock, until the first attempt has failed.
    private func upBesideLock(_ fixture: MigrationFixture) async throws {
        let database = try TestDatabase.current
        let isRetried = Flag()
        try await database.connection { blocker in
            try await blocker.with { try $0.execute("BEGIN; LOCK TABLE app.gate") }
            let run = Task {
                try await fixture.migrator(database.settings) { $0.retries = 50 }.up {
                    if case .retries = $0 { isRetried.set() }
                }
            }
            try await waitUntil("a step is tried again") { isRetried.isSet }
            try await blocker.with { try $0.execute("COMMIT") }
            #expect(try await run.value.done.count == 1)
        }
    }

    @Test(arguments: preparing)
    func `statements stay prepared when a later step is tried again`(
        beginning: String, query: String, expected: String
    ) async throws {
        try await upBesideLock(fixture(beginning, "INSERT INTO app.gate VALUES (1);"))
        #expect(try await TestDatabase.current.value(query) == expected)
    }

    /// ROLLBACK does not undo what the failed attempt has prepared and deallocated.
    @Test func `a step that prepares and deallocates is tried again`() async throws {
        try await upBesideLock(
            fixture(
                Self.preparing[0].file,
                """
                BEGIN; PREPARE q2 AS SELECT 1; DEALLOCATE q1; LOCK TABLE app.gate; COMMIT;
                PREPARE q1 AS INSERT INTO o.t1 VALUES (1);
                """))
        #expect(try await TestDatabase.current.value("SELECT string_agg(x::text, ' ') FROM o.t1") == "1")
    }

    @Test(arguments: preparing)
    func `a later run prepares statements with the settings that they had`(
        beginning: String, query: String, expected: String
    ) async throws {
        let database = try TestDatabase.current
        let fixture = try await fixture(beginning, "SELECT 1 / 0;")
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        let file = try String(contentsOfFile: "\(fixture.folder)/0002_b.up.sql", encoding: .utf8)
        try fixture.write("0002_b.up.sql", file.replacing("1 / 0", with: "1"))
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        #expect(try await database.value(query) == expected)
    }

    /// Which settings the statement was prepared with is not recorded.
    @Test(arguments: [
        "SET LOCAL DateStyle = 'ISO, DMY'; %", "SET DateStyle = 'ISO, DMY'; %; SET DateStyle = ISO",
        "DO $$ BEGIN PERFORM set_config('DateStyle', 'ISO, DMY', true); END $$; %",
    ])
    func `a statement that was prepared among settings of its transaction is lost`(block: String) async throws {
        let database = try TestDatabase.current
        let beginning =
            "BEGIN; \(block.replacing("%", with: "PREPARE q1 AS INSERT INTO d VALUES ('01/02/2020')")); COMMIT;"
        let fixture = try await fixture(beginning, "SELECT 1 / 0;")
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        try fixture.write("0002_b.up.sql", "\(head)\(beginning)\nEXECUTE q1;")
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        guard case .temporaryLost = error else {
            Issue.record("another error: \(String(describing: error))")
            return
        }
    }

    @Test func `only names that may be settings are asked for`() throws {
        let script = try MigrationScript(
            path: "f",
            bytes: Array(
                """
                INSERT INTO settings VALUES ('mail.host', 'x');
                SET app.tenant = 'a.b';
                SET "app.größe" = 'x';
                DO $$ BEGIN PERFORM set_config('app.user', 'x', false); END $$;
                """.utf8))
        #expect(try SessionMarks(of: script).settings == ["app.größe", "app.tenant", "app.user"])
    }
}

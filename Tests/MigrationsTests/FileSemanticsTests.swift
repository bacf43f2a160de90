import Foundation
import Migrations
import Postgres
import Synchronization
import TestSupport
import Testing

/// A file has the effect that psql would give it.
@Suite(.database, .timeLimit(.minutes(3)))
struct FileSemanticsTests {
    private func apply(
        _ files: [String: String], _ change: @escaping (inout Migrator.Settings) -> Void = { _ in }
    ) async throws -> MigrationFixture {
        let fixture = try MigrationFixture(files)
        _ = try await fixture.migrator(TestDatabase.current.settings, change).up()
        return fixture
    }

    @Test func `settings and temporary tables hold for the whole file, and not for the next one`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE SCHEMA o", "CREATE ROLE \(database.name)_r")
        _ = try await apply([
            "0001_a.up.sql": """
            SET search_path = o;
            SET DateStyle = 'German';
            SET bytea_output = 'escape';
            SET standard_conforming_strings = on;
            CREATE TABLE a (x int);
            CREATE TEMP TABLE kept AS SELECT 7 AS seven;
            PREPARE p AS SELECT 1;
            CREATE INDEX CONCURRENTLY ON a (x);
            INSERT INTO a SELECT seven FROM kept;
            CREATE TABLE said AS SELECT '2024-02-01'::date::text AS day, '\\xff'::bytea::text AS byte,
                (SELECT count(*) FROM pg_prepared_statements) AS prepared;
            """,
            "0002_b.up.sql": """
            CREATE TABLE b AS SELECT '2024-02-01'::date::text AS day, to_regclass('pg_temp.kept') IS NULL AS gone,
                (SELECT count(*) FROM pg_prepared_statements) AS prepared;
            """,
        ])
        #expect(try await database.value("SELECT concat_ws(' ', x) FROM o.a") == "7")
        #expect(
            try await database.value("SELECT concat_ws(' ', day, byte, prepared) FROM o.said") == "01.02.2024 \\377 1")
        #expect(try await database.value("SELECT concat_ws(' ', day, gone, prepared) FROM app.b") == "2024-02-01 t 0")
        #expect(
            try await database.value("SELECT count(*) FROM pg_indexes WHERE schemaname = 'o' AND tablename = 'a'") == 1)
        try await database.execute("DROP ROLE \(database.name)_r")
    }

    @Test func `a role that a file sets holds for the file, and the ledger is written nevertheless`() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_role"
        try await database.execute("CREATE ROLE \(role)", "CREATE SCHEMA o AUTHORIZATION \(role)")
        _ = try await apply([
            "0001_a.up.sql": "SET ROLE \(role);\nCREATE TABLE o.a (x int);",
            "0002_b.up.sql": """
            SET SESSION AUTHORIZATION \(role);
            CREATE TABLE o.b (x int);
            CREATE INDEX CONCURRENTLY i ON o.b (x);
            CREATE TABLE o.c AS SELECT current_user::text AS u, session_user::text AS s;
            """,
            "0003_c.up.sql": "CREATE TABLE d AS SELECT current_user::text AS u, session_user::text AS s;",
        ])
        #expect(try await database.value("SELECT bool_and(u = '\(role)' AND s = '\(role)') FROM o.c"))
        #expect(try await database.value("SELECT u = current_user AND s = session_user FROM app.d"))
        let owner = "SELECT count(*) FROM pg_class WHERE relowner = '\(role)'::regrole AND relname IN ('a','b','c','i')"
        #expect(try await database.value(owner) == 4)
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func `a migration is reverted by a file that sets a role`() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_role"
        try await database.execute("CREATE ROLE \(role)", "CREATE SCHEMA o AUTHORIZATION \(role)")
        let fixture = try await apply([
            "0001_a.up.sql": "SET ROLE \(role);\nCREATE TABLE o.t (x int);",
            "0001_a.down.sql": "SET ROLE \(role);\nDROP TABLE o.t;",
        ])
        #expect(try await fixture.migrator(database.settings).down(to: nil).done.count == 1)
        #expect(try await database.value("SELECT to_regclass('o.t') IS NULL"))
        #expect(try await database.value("SELECT count(*) FROM reeve.migrations") == 0)
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func `settings that a file makes do not disturb the ledger`() async throws {
        let database = try TestDatabase.current
        for settings in [
            "SET statement_timeout = '1d'", "SET standard_conforming_strings = off", "SET client_min_messages = debug5",
            "SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Tokyo'; SET IntervalStyle = 'sql_standard'",
            "SET session_replication_role = replica", "SET row_security = off", "SET quote_all_identifiers = on",
            "SET bytea_output = 'escape'; SET extra_float_digits = -5",
        ] {
            try await database.execute("DROP SCHEMA IF EXISTS app CASCADE; DROP SCHEMA IF EXISTS reeve CASCADE")
            let fixture = try MigrationFixture([
                "0001_a.up.sql": "\(settings);\nCREATE TABLE a (x int); COMMENT ON TABLE a IS E'gr\\u00f6\\\\ße';",
                "0002_b.up.sql": "\(settings);\nCREATE TABLE b (x int);\nCREATE INDEX CONCURRENTLY i ON b (x);",
            ])
            _ = try await fixture.migrator(database.settings).up()
            #expect(try await fixture.migrator(database.settings).up().done.isEmpty, "\(settings)")
            #expect(try await fixture.migrator(database.settings).verify().isEmpty, "\(settings)")
            let same: Bool = try await database.value(
                "SELECT bool_and(position('CREATE TABLE' IN source) > 0 AND text_digest = sha256(convert_to(source, 'UTF8'))) FROM reeve.migrations"
            )
            #expect(same, "\(settings)")
        }
    }

    @Test func `values are read and written with the settings of the database, and validated with them`() async throws {
        let database = try TestDatabase.current
        for setting in ["TimeZone = 'Asia/Tokyo'", "DateStyle = 'SQL, DMY'", "IntervalStyle = 'postgres_verbose'"] {
            try await database.execute("ALTER DATABASE \(database.name) SET \(setting)")
        }
        let sql = """
            CREATE TABLE %@ (at timestamptz DEFAULT '2024-01-01 12:00', d date DEFAULT '01/02/2024',
                i text DEFAULT ('1 day'::interval)::text);
            INSERT INTO %@ DEFAULT VALUES;
            """
        let fixture = try await apply([
            "0001_a.up.sql": sql.replacing("%@", with: "a"),
            "0002_b.up.sql": sql.replacing("%@", with: "b") + "\nCREATE INDEX CONCURRENTLY i ON b (d);",
        ])
        let rows: String = try await database.value(
            """
            SELECT string_agg(to_char(at AT TIME ZONE 'UTC', 'HH24') || to_char(d, ' YYYY-MM-DD ') || i, ', ')
            FROM (TABLE app.a UNION ALL TABLE app.b) t
            """)
        #expect(rows == "03 2024-02-01 @ 1 day, 03 2024-02-01 @ 1 day")
        let validator = try SchemaValidator(database: Database(database.settings), systems: [fixture.system()])
        #expect(try await validator.validate().differences == [])
    }

    @Test func `a lock timeout that a file sets applies to its statements, also without transactions`() async throws {
        let database = try TestDatabase.current
        _ = try await apply([
            "0001_a.up.sql": """
            -- reeve: no-transaction
            SET lock_timeout = '7s';
            CREATE TABLE a AS SELECT current_setting('lock_timeout') AS t;
            CREATE INDEX CONCURRENTLY i ON a (t);
            INSERT INTO a SELECT current_setting('lock_timeout');
            """,
            "0002_b.up.sql": """
            CREATE TABLE b AS SELECT current_setting('lock_timeout') AS t;
            CREATE INDEX CONCURRENTLY j ON b (t);
            INSERT INTO b SELECT current_setting('lock_timeout');
            """,
        ])
        #expect(try await database.value("SELECT string_agg(t, ' ') FROM app.a") == "7s 7s")
        #expect(try await database.value("SELECT string_agg(t, ' ') FROM app.b") == "300ms 300ms")
    }

    @Test func `what releases all locks does not release the run's`() async throws {
        let database = try TestDatabase.current
        _ = try await apply([
            "0001_a.up.sql": "DISCARD ALL;",
            "0002_b.up.sql":
                "SELECT pg_advisory_unlock_all();\nCREATE TABLE l AS SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database());",
        ])
        #expect(try await database.value("SELECT n::int FROM app.l") == 1)
    }

    @Test func `without transactions, a procedure commits as it goes`() async throws {
        let database = try TestDatabase.current
        let procedure = """
            CREATE TABLE n (i int);
            CREATE PROCEDURE p(most int) LANGUAGE plpgsql AS $$
            BEGIN
                WHILE (SELECT count(*) FROM n) < most LOOP
                    INSERT INTO n SELECT count(*) + 1 FROM n;
                    COMMIT;
                END LOOP;
                IF most = 3 THEN RAISE EXCEPTION 'stopped'; END IF;
            END $$;
            """
        let fixture = try MigrationFixture(["0001_a.up.sql": procedure, "0002_b.up.sql": "CALL p(2);"])
        let migrator = { try fixture.migrator(database.settings) }
        let error = await #expect(throws: MigrationError.self) { try await migrator().up() }
        #expect(error?.hint?.contains("-- reeve: no-transaction") == true)
        try fixture.write("0002_b.up.sql", "-- reeve: no-transaction\nINSERT INTO n VALUES (1);\nCALL p(3);\n")
        await #expect(throws: MigrationError.self) { try await migrator().up() }
        #expect(try await database.value("SELECT count(*) FROM app.n") == 3)
        // The first statement is committed, and the failed one is not counted as done.
        try fixture.write("0002_b.up.sql", "-- reeve: no-transaction\nINSERT INTO n VALUES (1);\nCALL p(4);\n")
        #expect(try await migrator().up().done.count == 1)
        #expect(try await database.value("SELECT string_agg(i::text, ' ' ORDER BY i) FROM app.n") == "1 2 3 4")
    }

    @Test(
        arguments: ["LOCK TABLE t", "SAVEPOINT s", "RELEASE s", "ROLLBACK TO s", "DECLARE c CURSOR FOR SELECT 1"])
    func `what has an effect only in a transaction block is refused outside one`(statement: String) async throws {
        let head = "-- reeve: no-transaction\nCREATE TABLE t (x int);\n"
        let fixture = try MigrationFixture(["0001_a.up.sql": "\(head)\(statement);\n"])
        let migrator = { try fixture.migrator(TestDatabase.current.settings) }
        let error = await #expect(throws: MigrationError.self) { try await migrator().up() }
        #expect(error?.hint?.contains("put BEGIN and COMMIT around") == true)
        try fixture.write(
            "0001_a.up.sql", "\(head)BEGIN;\nSAVEPOINT s;\n\(statement);\nCOMMIT;\n")
        #expect(try await migrator().up().done.count == 1)
    }

    @Test func `a cursor with hold lives on in its session, but never runs as another role`() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_role"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE SCHEMA o AUTHORIZATION \(role)",
            """
            CREATE FUNCTION o.who() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
                CREATE TABLE o.ran AS SELECT current_user::text AS u; RETURN current_user; END $$
            """, "GRANT CREATE ON SCHEMA o TO PUBLIC")
        let fixture = try await apply([
            "0001_a.up.sql": """
            -- reeve: no-transaction
            DECLARE numbers CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 3) n;
            CREATE TABLE t (n int);
            DO $$ DECLARE c refcursor := 'numbers'; n int; BEGIN
                LOOP FETCH c INTO n; EXIT WHEN NOT FOUND; INSERT INTO app.t VALUES (n); END LOOP; END $$;
            SET ROLE \(role);
            DECLARE early CURSOR WITH HOLD FOR SELECT o.who();
            """
        ])
        #expect(try await database.value("SELECT sum(n) FROM app.t") == 6)
        #expect(try await database.value("SELECT u = '\(role)' FROM o.ran"))
        try await database.execute("DROP TABLE o.ran")
        try fixture.write(
            "0002_b.up.sql",
            """
            -- reeve: no-transaction
            BEGIN;
            SET ROLE \(role);
            DECLARE late CURSOR WITH HOLD FOR SELECT o.who();
            COMMIT;
            """)
        try fixture.write(
            "0003_c.up.sql", "SET ROLE \(role);\nDECLARE late CURSOR WITH HOLD FOR SELECT o.who();")
        _ = try await fixture.migrator(database.settings).up()
        #expect(try await database.value("SELECT to_regclass('o.ran') IS NULL"))
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    /// Triggers that are deferred again run at COMMIT, and so do the queries of the cursors that they open.
    @Test(arguments: ["", "-- reeve: no-transaction\n"])
    func `what others defer to COMMIT does not run as a superuser`(directive: String) async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_role"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE SCHEMA p AUTHORIZATION \(role)", "GRANT CREATE ON SCHEMA p TO PUBLIC",
            "CREATE TABLE p.ran (u text)", "ALTER TABLE p.ran OWNER TO \(role)", "GRANT INSERT ON p.ran TO PUBLIC",
            "SET ROLE \(role)",
            """
            CREATE TABLE p.t (x int); CREATE TABLE p.t2 (x int);
            CREATE FUNCTION p.pay() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO p.ran VALUES (current_user); RETURN 1; END $$;
            CREATE FUNCTION p.first() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
                SET CONSTRAINTS ALL DEFERRED; INSERT INTO p.t2 VALUES (1); RETURN NULL; END $$;
            CREATE FUNCTION p.second() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
                EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT p.pay()'; RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER a AFTER INSERT ON p.t DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION p.first();
            CREATE CONSTRAINT TRIGGER b AFTER INSERT ON p.t2 DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION p.second()
            """, "RESET ROLE")
        _ = try? await apply(["0001_a.up.sql": "\(directive)INSERT INTO p.t VALUES (1);\nSELECT 1;"])
        let superusers: Int = try await database.value(
            "SELECT count(*) FROM p.ran JOIN pg_roles ON rolname = u WHERE rolsuper")
        #expect(superusers == 0)
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test func `each statement is sent by itself, and each file has a session of its own`() async throws {
        let database = try TestDatabase.current
        _ = try await apply([
            "0001_a.up.sql": """
            CREATE TABLE said (n int, at timestamptz DEFAULT statement_timestamp(), q text DEFAULT current_query());
            INSERT INTO said VALUES (1);
            SELECT pg_sleep(0.01);
            INSERT INTO said VALUES (2);
            SET my.tenant = '5';
            SELECT pg_advisory_lock(77);
            DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET DateStyle TO ''SQL, DMY''', current_database()); END $$;
            """,
            "0002_b.up.sql": """
            CREATE TABLE b AS SELECT current_setting('my.tenant', true) AS tenant, '03/04/2024'::date AS day,
                (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks;
            """,
            "0003_c.up.sql": "SELECT pg_advisory_lock(78);",
            "0004_d.up.sql": """
            CREATE TABLE d AS SELECT count(*) AS locks FROM pg_locks
            WHERE locktype = 'advisory' AND pid = pg_backend_pid();
            """,
        ])
        #expect(try await database.value("SELECT count(DISTINCT at) FROM app.said") == 2)
        #expect(
            try await database.value("SELECT string_agg(q, ';' ORDER BY n) FROM app.said")
                == "INSERT INTO said VALUES (1);INSERT INTO said VALUES (2)")
        #expect(try await database.value("SELECT tenant IS NULL AND day = '2024-04-03' AND locks = 0 FROM app.b"))
        #expect(try await database.value("SELECT locks FROM app.d") == 0)
    }

    @Test func `names are folded and cut as the server does it`() async throws {
        let database = try TestDatabase.current
        let long = String(repeating: "A123456789", count: 7)
        let wide = String(repeating: "ü", count: 40)
        let fixture = try await apply([
            "0001_t.up.sql": "CREATE TABLE \"Größe\" (x int);\nCREATE TABLE \(long) (x int);",
            "0002_i.up.sql": """
            CREATE INDEX CONCURRENTLY IDX_GRÖßE ON "Größe" (x);
            CREATE INDEX CONCURRENTLY i\(long) ON \(long) (x);
            CREATE INDEX CONCURRENTLY "i\(wide)" ON \(long) (x);
            """,
            "0002_i.down.sql": """
            DROP INDEX CONCURRENTLY IDX_GRÖßE;
            DROP INDEX CONCURRENTLY i\(long);
            DROP INDEX CONCURRENTLY "i\(wide)";
            """,
        ])
        #expect(try await database.value("SELECT count(*) FROM pg_indexes WHERE schemaname = 'app'") == 3)
        _ = try await fixture.migrator(database.settings).down(to: 1)
        #expect(try await database.value("SELECT count(*) FROM pg_indexes WHERE schemaname = 'app'") == 0)
    }

    @Test func `notices are reported, and the output of COPY is discarded`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql":
                "DO $$ BEGIN RAISE NOTICE 'half %', 1; RAISE WARNING 'careful'; END $$; COPY (SELECT 1) TO STDOUT; CREATE TABLE a (x int);"
        ])
        let heard = Mutex<[String]>([])
        _ = try await fixture.migrator(database.settings).up { event in
            if case .notice = event { heard.withLock { $0.append(event.message) } }
        }
        #expect(heard.withLock { $0 } == ["app/0001_a: NOTICE: half 1", "app/0001_a: WARNING: careful"])
        #expect(try await database.value("SELECT count(*) FROM pg_tables WHERE tablename = 'a'") == 1)
    }

    @Test func `only the last migration of a run waits for the disk`() async throws {
        let database = try TestDatabase.current
        try await database.execute("ALTER DATABASE \(database.name) SET synchronous_commit = 'on'")
        let note = "INSERT INTO s SELECT current_setting('synchronous_commit');"
        _ = try await apply([
            "0001_a.up.sql": "CREATE TABLE s (v text); \(note)", "0002_b.up.sql": note, "0003_c.up.sql": note,
        ])
        let values: [String] = try await database.value("SELECT array_agg(v) FROM app.s")
        #expect(values == ["off", "off", "on"])
    }

    @Test func `an error says which setting or privilege is missing`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TYPE e AS ENUM ('a'); CREATE TABLE t (x e);",
            "0002_b.up.sql": "ALTER TYPE e ADD VALUE 'b';\nINSERT INTO t VALUES ('b');",
        ])
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(error?.hint?.contains("-- reeve: no-transaction") == true)
        try fixture.write(
            "0002_b.up.sql", "-- reeve: no-transaction\nALTER TYPE e ADD VALUE 'b';\nINSERT INTO t VALUES ('b');")
        _ = try await fixture.migrator(database.settings).up()
        let role = "\(database.name)_plain"
        try await database.execute("CREATE ROLE \(role) LOGIN", "CREATE SCHEMA closed")
        try fixture.write("0003_c.up.sql", "SET ROLE \(role);\nCREATE TABLE closed.x (a int);")
        let denied = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(denied?.hint?.contains("GRANT USAGE, CREATE ON SCHEMA \"closed\"") == true)
        try await database.execute("DROP ROLE \(role)")
    }

    @Test func `a file without statements is refused, unless that is allowed`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0001_a.up.sql": "-- later\n"])
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(error?.hint?.contains("--allow-empty") == true)
        #expect(try await fixture.migrator(database.settings) { $0.allowsEmpty = true }.up().done.count == 1)
    }

    @Test func `versions are as other tools write them, and a file may have both parts`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0_zero.sql": "-- migrate:up\nCREATE TABLE z (a int);\n-- migrate:down\nDROP TABLE z;\n",
            "1_one.sql": "-- +goose Up\nCREATE TABLE o (a int);\n\n-- +goose Down\nDROP TABLE o;\n",
            "2_rambler.sql": "-- rambler up\nCREATE TABLE r (a int);\n-- rambler down\nDROP TABLE r;\n",
            "3_tern.sql": "CREATE TABLE n (a int);\n\n---- create above / drop below ----\n\nDROP TABLE n;\n",
            "20240131120000_two.sql": "CREATE TABLE t (a int);\n-- reeve: down\nDROP TABLE t;\n",
            "999999999999999999_last.up.sql": "CREATE TABLE l (a int);",
            "999999999999999999_last.down.sql": "DROP TABLE l;",
        ])
        let migrator = { try fixture.migrator(database.settings) }
        #expect(
            try await migrator().up().done.map(\.version)
                == [0, 1, 2, 3, 20_240_131_120_000, 999_999_999_999_999_999])
        #expect(try await migrator().down(to: 1).done.map(\.name) == ["last", "two", "tern", "rambler"])
        #expect(try await migrator().down(to: 0).done.map(\.name) == ["one"])
        #expect(
            try await database.value("SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'app'") == "z"
        )
        #expect(try await migrator().down(to: nil).done.map(\.name) == ["zero"])
        #expect(try await database.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'app'") == 0)
    }

    @Test func `a schema that two systems share is dropped with the last of them`() async throws {
        let database = try TestDatabase.current
        let one = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE a (x int);", "0001_a.down.sql": "DROP TABLE a;"])
        let two = try MigrationFixture(["0001_b.up.sql": "CREATE TABLE b (x int);", "0001_b.down.sql": "DROP TABLE b;"])
        let systems = [
            MigrationSystem(name: "one", schema: "app", folder: one.folder),
            MigrationSystem(name: "two", schema: "app", folder: two.folder),
        ]
        func migrator(_ systems: [MigrationSystem]) throws -> Migrator {
            try Migrator(database: Database(database.settings), systems: systems)
        }
        _ = try await migrator(systems).up()
        let outcome = try await migrator([systems[0]]).down(to: nil)
        #expect(outcome.notices.count == 1 && outcome.notices[0].contains("'two'"))
        #expect(try await database.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'app'") == 1)
        try await database.execute("CREATE TABLE app.mine (x int)")
        let last = try await migrator([systems[1]]).down(to: nil)
        #expect(last.notices.count == 1 && last.notices[0].contains("app.mine"))
        #expect(!last.notices[0].contains("CASCADE"))
        #expect(try await migrator([systems[1]]).down(to: nil).notices.isEmpty)
        withExtendedLifetime((one, two)) {}
    }
}

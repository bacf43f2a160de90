import Catalog
import Foundation
import Ledger
import Postgres
import TestSupport
import Testing

@testable import Migrations

/// What a replay does to others, and others to it.
@Suite(.heavy, .timeLimit(.minutes(5)))
struct ReplayTests {
    private func validate(
        _ fixture: MigrationFixture, as user: String? = nil, cache: String? = nil
    ) async throws -> SchemaReport {
        var settings = try TestDatabase.current.settings
        if let user { settings.parameters["user"] = user }
        var validation = SchemaValidator.Settings()
        validation.cacheFolder = cache
        return try await SchemaValidator(
            database: Database(settings), systems: [fixture.system()], settings: validation
        ).validate()
    }

    private func substitute(_ sql: String) throws -> [String]? {
        let script = try MigrationScript(path: "f", bytes: Array(sql.utf8))
        let words = try script.words(of: try #require(script.statements.first))
        return ReplayedStatement.substitute(words, in: script.source)
    }

    // MARK: Other servers

    @Test(arguments: [
        ("INSERT INTO s.t (a) SELECT 1", ["s.t"]), ("UPDATE ONLY t SET a = 1", ["t"]), ("DELETE FROM \"T\"", ["\"T\""]),
        ("TRUNCATE TABLE ONLY a, b.c CASCADE", ["a", "b.c"]), ("COPY t (a) FROM STDIN", ["t"]),
        ("COPY t TO STDOUT", []),
        ("WITH x AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM x", ["a", "b"]),
        ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN UPDATE SET a = 1", ["t"]),
        ("SELECT a FROM t FOR UPDATE", []), ("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1", ["t"]),
        ("INSERT INTO U&\"t\" VALUES (1)", [""]), ("INSERT INTO a.b.c VALUES (1)", [""]),
        ("CREATE RULE r AS ON INSERT TO l DO ALSO INSERT INTO f VALUES (1)", []),
        ("PREPARE w AS DELETE FROM f", ["f"]),
        ("(WITH a AS (INSERT INTO f VALUES (1) RETURNING x) SELECT x FROM a)", ["f"]),
    ])
    func theTablesThatAStatementWritesToAreFound(_ sql: String, _ expected: [String]) throws {
        let script = try MigrationScript(path: "f", bytes: Array(sql.utf8))
        #expect(ForeignWrite.targets(try script.words(of: try #require(script.statements.first))) == expected)
    }

    @Test(.database) func rowsOfAnotherServerStayAsTheyAre() async throws {
        guard try await ServerFeature.extension("postgres_fdw").isThere(for: "writes to foreign tables") else { return }
        let database = try TestDatabase.current
        let parameters = database.settings.parameters
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            CREATE EXTENSION postgres_fdw;
            CREATE SERVER remote FOREIGN DATA WRAPPER postgres_fdw OPTIONS (
                host '\(parameters["host"] ?? "")', port '\(parameters["port"] ?? "5432")', dbname '\(database.name)');
            CREATE USER MAPPING FOR CURRENT_USER SERVER remote OPTIONS (user '\(parameters["user"] ?? "postgres")');
            CREATE FOREIGN TABLE ft (x int) SERVER remote OPTIONS (schema_name 'public', table_name 'r');
            CREATE VIEW fv AS SELECT x FROM ft;
            CREATE TABLE p (x int) PARTITION BY LIST (x);
            CREATE FOREIGN TABLE fp PARTITION OF p FOR VALUES IN (5)
                SERVER remote OPTIONS (schema_name 'public', table_name 'r');
            CREATE TABLE own (x int);
            """,
            "0002_b.up.sql": """
            INSERT INTO ft VALUES (1);
            INSERT INTO fv VALUES (2);
            INSERT INTO p VALUES (5);
            INSERT INTO own SELECT x FROM ft;
            DELETE FROM ft WHERE x = 1;
            PREPARE w AS INSERT INTO ft VALUES (3);
            EXECUTE w;
            DEALLOCATE w;
            CREATE RULE also AS ON INSERT TO own DO ALSO INSERT INTO ft VALUES (new.x);
            INSERT INTO U&"f\\0074" VALUES (8);
            PREPARE w AS INSERT INTO ft VALUES (9);
            EXPLAIN (ANALYZE, COSTS off) EXECUTE w;
            EXPLAIN ANALYZE INSERT INTO ft VALUES (10);
            """,
            // Nothing in the text shows that there is a foreign table, until a function has made it.
            "0003_c.up.sql": """
            CREATE FUNCTION make() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                EXECUTE 'CREATE FOR' || 'EIGN TABLE late (x int) SERVER remote OPTIONS (schema_name ''public'', table_name ''r'')';
            END $$;
            DROP FOREIGN TABLE fp; DROP VIEW fv; DROP RULE also ON own; DROP FOREIGN TABLE ft;
            """,
            "0004_d.up.sql": "SELECT make();\nINSERT INTO late VALUES (11);",
        ])
        try await database.execute("CREATE TABLE public.r (x int)")
        _ = try await fixture.migrator(database.settings).up()
        let rows = "SELECT string_agg(x::text, ',' ORDER BY x) FROM public.r"
        #expect(try await database.value(rows) == "2,3,5,8,9,10,11")
        try await database.execute("INSERT INTO public.r VALUES (1)")
        #expect(try await validate(fixture).differences == [])
        #expect(try await database.value(rows) == "1,2,3,5,8,9,10,11")
    }

    @Test func namesBehindAPointAreNoKeywords() throws {
        #expect(try substitute("COPY public.from TO '/x/f.csv'") == [])
        #expect(try substitute("COPY public.to FROM STDIN") == nil)
        let revoke = try #require(try substitute("REVOKE ALL ON DATABASE other FROM r")?.first)
        #expect(revoke.contains("current_database()") && !revoke.contains("other"))
        #expect(try substitute("ALTER USER mapping CREATEDB") == [])
        #expect(try substitute("DROP USER mapping")?.first?.contains("DROP ROLE") == true)
        #expect(try substitute("CREATE USER MAPPING IF NOT EXISTS FOR a SERVER s") == nil)
        #expect(try substitute("ALTER SUBSCRIPTION s SET (failover = true)") == [])
        #expect(
            try substitute("ALTER SUBSCRIPTION s SET (failover = true, binary)")
                == ["ALTER SUBSCRIPTION s SET (binary)"])
    }

    // MARK: The database

    /// What migrations do may depend on the settings that the owner of the database has made.
    @Test(.database) func aReplayHasTheSettingsOfTheDatabase() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "ALTER DATABASE \(database.name) SET app.env = 'prod'",
            "ALTER DATABASE \(database.name) SET check_function_bodies = off",
            "ALTER DATABASE \(database.name) SET statement_timeout = '1min'",
            "ALTER DATABASE \(database.name) SET default_transaction_read_only = off")
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            DO $$ BEGIN
                IF current_setting('app.env', true) = 'prod' THEN CREATE TABLE only_there (x int); END IF;
            END $$;
            CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT x FROM later';
            CREATE TABLE later (x int);
            """
        ])
        _ = try await fixture.migrator(database.settings).up()
        #expect(try await database.value("SELECT to_regclass('app.only_there') IS NOT NULL"))
        #expect(try await validate(fixture).differences == [])
    }

    /// The role has the same setting in all databases, and may not make one that a superuser has made for the database.
    @Test(.database) func aReplayHasTheSettingsOfTheRoleInTheDatabase() async throws {
        let database = try TestDatabase.current
        let owner = "\(database.name)_o"
        try await database.execute(
            "CREATE ROLE \(owner) LOGIN CREATEDB", "ALTER DATABASE \(database.name) OWNER TO \(owner)",
            "ALTER ROLE \(owner) SET app.env = 'dev'",
            "ALTER ROLE \(owner) IN DATABASE \(database.name) SET app.env = 'p r\\od'",
            "ALTER DATABASE \(database.name) SET app.other = 'x'")
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            DO $$ BEGIN
                IF current_setting('app.env') = 'p r\\od' THEN CREATE TABLE only_there (x int); END IF;
                IF current_setting('app.other') = 'x' THEN CREATE TABLE this_too (x int); END IF;
            END $$;
            """
        ])
        var settings = database.settings
        settings.parameters["user"] = owner
        _ = try await fixture.migrator(settings).up()
        #expect(try await database.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'app'") == 2)
        #expect(try await validate(fixture, as: owner).differences == [])
        try await database.execute(
            "REASSIGN OWNED BY \(owner) TO CURRENT_USER", "DROP OWNED BY \(owner)", "DROP ROLE \(owner)")
    }

    /// A cached replay is not used once the migrations would find other settings or roles.
    @Test(.database) func theCacheDependsOnSettingsAndRoles() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_opt"
        try await database.execute("CREATE ROLE \(role)")
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            DO $$ BEGIN
                IF EXISTS (SELECT FROM pg_roles WHERE rolname = '\(role)') THEN CREATE TABLE of_role (x int); END IF;
                IF current_setting('app.env', true) = 'prod' THEN CREATE TABLE of_setting (x int); END IF;
            END $$;
            """
        ])
        let cache = "/tmp/reeve-cache-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: cache) }
        _ = try await fixture.migrator(database.settings).up()
        #expect(try await validate(fixture, cache: cache).differences == [])
        try await database.execute("DROP ROLE \(role)", "DROP TABLE app.of_role")
        #expect(try await validate(fixture, cache: cache).differences == [])
        try await database.execute("ALTER DATABASE \(database.name) SET app.env = 'prod'")
        #expect(try await validate(fixture, cache: cache).differences.map { "\($0.object)" }.count == 1)
    }

    /// Later statements may require the privileges on the database.
    @Test(.database) func privilegesOnTheDatabaseAreThoseOfTheScratchDatabase() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_owner"
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            CREATE ROLE \(role);
            GRANT CREATE ON DATABASE \(database.name) TO \(role);
            SET ROLE \(role);
            CREATE SCHEMA \(role)_s;
            RESET ROLE;
            REVOKE CREATE ON DATABASE \(database.name) FROM \(role);
            """
        ])
        _ = try await fixture.migrator(database.settings).up()
        #expect(try await validate(fixture).differences == [])
        #expect(
            try await !database.value("SELECT has_database_privilege('\(role)', current_database(), 'CREATE')"))
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    /// The words mean another role in each session, so the names cannot be compared with those in the script.
    @Test(arguments: [
        ("REASSIGN OWNED BY CURRENT_USER TO x", "current_user"), ("DROP OWNED BY SESSION_USER", "session_user"),
        ("REASSIGN OWNED BY a, CURRENT_ROLE TO x", "current_user"), ("DROP OWNED BY b, Session_User", "session_user"),
    ])
    func whatTheCurrentRoleOwnsOutsideTheDatabaseIsLookedFor(_ sql: String, _ role: String) throws {
        let statements = try #require(try substitute(sql))
        #expect(statements.count == 2 && statements.last == sql)
        #expect(statements.first?.contains("r.rolname = \(role)") == true, "\(statements)")
    }

    // MARK: Roles

    /// A run of `up` renames a role of a replay that it creates in earnest.
    @Test(.database) func aReplayWhoseRoleIsRenamedIsRepeated() async throws {
        let database = try TestDatabase.current
        let (role, flag) = ("\(database.name)_vr", "\(database.name)_flag")
        // In the scratch database, `disturb` does what another run would do.
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE t (x int);\nCREATE ROLE \(role);\nGRANT SELECT ON t TO \(role);",
            "0002_b.up.sql": """
            DO $$
            BEGIN
                IF starts_with(current_database(), 'reeve_scratch_')
                    AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '\(flag)')
                THEN
                    CREATE ROLE \(flag);
                    ALTER ROLE \(role) RENAME TO reeve_scratch_role_\(UInt32.random(in: 0...UInt32.max));
                    CREATE ROLE \(role);
                END IF;
            END $$;
            """,
        ])
        _ = try await fixture.migrator(database.settings).up()
        try await database.execute("REVOKE ALL ON app.t FROM \(role)", "DROP ROLE \(role)")
        let report = try await validate(fixture)
        // The role of the migrations is not there any more, or is, without privileges.
        #expect(!report.differences.isEmpty)
        #expect(!report.differences.contains { "\($0)".contains("reeve_scratch_role_") }, "\(report.differences)")
        try await database.execute("DROP ROLE \(flag)", "DROP ROLE IF EXISTS \(role)")
        #expect(
            try await database.value("SELECT count(*) FROM pg_roles WHERE rolname ~ '^reeve_scratch_role_'") == 0)
    }

    /// Somebody uses a role that a replay has created, because it was there.
    @Test(.database, arguments: ["GRANT SELECT ON public.own TO ROLE", "GRANT ROLE TO OTHER", "GRANT OTHER TO ROLE"])
    func aRoleThatSomebodyUsesStays(_ use: String) async throws {
        let database = try TestDatabase.current
        let (role, other) = ("\(database.name)_used", "\(database.name)_other")
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE emroles (x int); -- \(role)"])
        try await database.execute(
            "CREATE TABLE public.own (x int)", "CREATE ROLE \(other)", "CREATE ROLE \(role)",
            "COMMENT ON ROLE \(role) IS 'reeve_scratch_1_1'",
            use.replacing("ROLE", with: role).replacing("OTHER", with: other))
        _ = try await fixture.migrator(database.settings).up()
        _ = try await validate(fixture)
        let there = "SELECT count(*) FROM pg_roles WHERE rolname = '\(role)'"
        #expect(try await database.value(there) == 1)
        #expect(
            try await database.value(
                "SELECT shobj_description(oid, 'pg_authid') IS NULL FROM pg_roles WHERE rolname = '\(role)'"))
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)", "DROP ROLE \(other)")
    }

    /// The role that replays may need to be a member of the roles that it creates. Other roles' memberships do not
    /// count.
    @Test(.database) func aReplayChangesNoMembershipsOfOthers() async throws {
        let database = try TestDatabase.current
        let (group, member) = ("\(database.name)_group", "\(database.name)_member")
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            CREATE ROLE \(group);
            GRANT \(group) TO \(member), CURRENT_USER;
            DO $$
            BEGIN
                IF starts_with(current_database(), 'reeve_scratch_') AND (
                    pg_has_role('\(member)', '\(group)', 'MEMBER') OR NOT EXISTS (
                        SELECT FROM pg_auth_members m WHERE m.roleid = '\(group)'::regrole
                            AND m.member = current_user::regrole))
                THEN
                    RAISE EXCEPTION 'wrong memberships';
                END IF;
            END $$;
            """
        ])
        try await database.execute("CREATE ROLE \(member)")
        _ = try await fixture.migrator(database.settings).up()
        try await database.execute("DROP ROLE \(group)")
        #expect(try await validate(fixture).differences == [])
        #expect(try await database.value("SELECT count(*) FROM pg_roles WHERE rolname = '\(group)'") == 0)
        try await database.execute("DROP ROLE \(member)")
    }

    @Test func namesAreFoundAsWholeWords() throws {
        let script = try MigrationScript(path: "f", bytes: Array("CREATE TABLE emroles (x int); CREATE ROLE Mbr;".utf8))
        #expect(script.names("mbr") && script.names("x") && !script.names("roles") && !script.names("emrole"))
    }

    // MARK: The scratch database

    @Test(.database) func anEventTriggerOfTheMigrationsDoesNotKeepTheScratchDatabase() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            CREATE TABLE t (x int);
            CREATE SUBSCRIPTION \(database.name)_s CONNECTION 'host=nowhere' PUBLICATION p
                WITH (connect = false, slot_name = 'x');
            CREATE FUNCTION deny() RETURNS event_trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'only by migrations'; END $$;
            CREATE EVENT TRIGGER \(database.name)_deny ON ddl_command_start
                WHEN TAG IN ('ALTER SUBSCRIPTION', 'DROP SUBSCRIPTION') EXECUTE FUNCTION deny();
            """,
            // A new session, for which subscriptions are disabled.
            "0002_b.up.sql": "SET app.x = 'y';", "0003_c.up.sql": "CREATE TABLE u (x int);",
        ])
        _ = try await fixture.migrator(database.settings).up()
        let scratches =
            "SELECT count(*) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
            + "WHERE d.datname ~ '^reeve_scratch_' AND s.subname = '\(database.name)_s'"
        #expect(try await validate(fixture).differences == [])
        #expect(try await database.value(scratches) == 0)
        try await database.execute(
            "DROP EVENT TRIGGER \(database.name)_deny",
            "ALTER SUBSCRIPTION \(database.name)_s SET (slot_name = NONE)", "DROP SUBSCRIPTION \(database.name)_s")
    }

    @Test(.database) func theDefaultTablespaceOfTheDatabaseIsThatOfAReplay() async throws {
        let database = try TestDatabase.current
        let space = "\(database.name)_space"
        try await database.execute(
            "SET allow_in_place_tablespaces = on", "CREATE TABLESPACE \(space) LOCATION ''",
            "ALTER DATABASE \(database.name) SET default_tablespace = \(space)")
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE t (x int PRIMARY KEY);"])
        _ = try await fixture.migrator(database.settings).up()
        #expect(try await validate(fixture).differences == [])
        try await database.execute("DROP SCHEMA app, reeve CASCADE", "DROP TABLESPACE \(space)")
    }

    /// Each role replays with its own ownership.
    @Test(.database) func theCacheIsOfOneRole() async throws {
        let database = try TestDatabase.current
        let other = "\(database.name)_su"
        try await database.execute("CREATE ROLE \(other) SUPERUSER LOGIN")
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE t (x int);"])
        _ = try await fixture.migrator(database.settings).up()
        let folder = "/tmp/reeve-cache-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        #expect(try await validate(fixture, cache: folder).expected.source == .replay)
        #expect(try await validate(fixture, as: other, cache: folder).expected.source == .replay)
        #expect(try await validate(fixture, cache: folder).expected.source == .cache)
        try await database.execute("DROP ROLE \(other)")
    }

    /// The file of an interrupted migration was corrected so that it is divided into other steps.
    @Test(.database) func theStepsThatAreDoneAreReplayed() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "-- reeve: no-transaction\nCREATE TABLE a (x int);\nCREATE TABLE b (x nosuch);"
        ])
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        try fixture.write("0001_a.up.sql", "CREATE TABLE a (x int);\nCREATE TABLE b (x int);")
        #expect(try await validate(fixture).differences == [])
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        #expect(try await validate(fixture).differences == [])
    }

    /// A statement that ran alone is replayed alone, also if the file is not complete.
    @Test(.database) func anIndexThatWasBuiltWithoutATransactionIsReplayedSo() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            -- reeve: no-transaction
            CREATE TABLE t (a int);
            CREATE INDEX CONCURRENTLY i ON t (a);
            SELECT 1 / 0;
            """
        ])
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(try await database.value("SELECT count(*) FROM reeve.migration_steps WHERE state = 'done'") == 2)
        #expect(try await validate(fixture).differences == [])
    }

    /// The cache would contain the password, or not see that it was changed.
    @Test(.database) func aSchemaWithAPasswordIsNotCached() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            CREATE FOREIGN DATA WRAPPER w;
            CREATE SERVER s FOREIGN DATA WRAPPER w;
            CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (user 'u', password 'first');
            """
        ])
        _ = try await fixture.migrator(database.settings).up()
        let folder = "/tmp/reeve-cache-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for _ in 1...2 {
            let report = try await validate(fixture, cache: folder)
            #expect(report.differences == [] && report.expected.source == .replay)
            #expect((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] == [])
        }
        try await database.execute("ALTER USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (SET password 'second')")
        let changed = try await validate(fixture, cache: folder)
        #expect(changed.differences.map(\.object.kind) == [.userMapping], "\(changed.differences)")
        #expect(changed.differences.map(\.property) == ["options"])
    }
}

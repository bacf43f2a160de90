import Catalog
import Foundation
import Ledger
import Postgres
import SQL
import TestSupport
import Testing

@testable import Migrations

@Suite(.heavy, .timeLimit(.minutes(8)))
struct ValidationTests {
    private static let files = [
        "0001_things.up.sql": """
        CREATE TYPE state AS ENUM ('new', 'done');
        CREATE TABLE things (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state state NOT NULL DEFAULT 'new',
            name varchar(20) CHECK (name IN ('a', 'b')));
        CREATE INDEX things_by_state ON things (state) WHERE name IN ('a', 'b');
        """,
        "0002_more.up.sql": "ALTER TABLE things ADD COLUMN note text; CREATE VIEW notes AS SELECT note FROM things;",
        "R__total.up.sql": "CREATE OR REPLACE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';",
    ]

    private func cache() -> String { "/tmp/reeve-cache-\(UUID().uuidString.prefix(8))" }

    private func validate(
        _ fixture: MigrationFixture, _ settings: ConnectionSettings, options: Set<String> = [],
        _ change: (inout SchemaValidator.Settings) -> Void = { _ in }
    ) async throws -> SchemaReport {
        var validation = SchemaValidator.Settings()
        change(&validation)
        return try await SchemaValidator(
            database: Database(settings), systems: [fixture.system(options: options)], settings: validation
        ).validate()
    }

    private func scratches() async throws -> Int {
        try await TestDatabase.current.value(
            "SELECT count(*) FROM pg_database WHERE datname ~ '^reeve_scratch_' AND NOT EXISTS (SELECT FROM "
                + "pg_stat_activity a WHERE a.datid = pg_database.oid)")
    }

    @Test(.database) func whatWasMigratedIsNoDifferenceAndAChangeIsOne() async throws {
        let fixture = try MigrationFixture(Self.files)
        let settings = try TestDatabase.current.settings
        _ = try await fixture.migrator(settings).up()
        let folder = cache()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let first = try await validate(fixture, settings) { $0.cacheFolder = folder }
        #expect(first.differences == [] && first.expected.source == .replay)

        try await TestDatabase.current.execute("ALTER TABLE app.things ADD COLUMN extra integer")
        let second = try await validate(fixture, settings) { $0.cacheFolder = folder }
        #expect(second.expected.source == .cache)
        #expect(second.differences.map(\.object.description) == ["app.things.extra"])
        #expect(second.differences.first?.system == "app" && second.differences.first?.sort == .unexpected)
        try await TestDatabase.current.execute(second.mend(lossy: true).text)
        let mended = try await validate(fixture, settings) { $0.cacheFolder = folder }
        #expect(mended.differences == [])

        // A cache that is cut short, or changed, is not believed.
        let file = "\(folder)/\(try #require(try FileManager.default.contentsOfDirectory(atPath: folder).first))"
        let text = try String(contentsOfFile: file, encoding: .utf8)
        for damaged in [String(text.prefix(text.count / 2)), text.replacing("bigint", with: "integer"), ""] {
            try damaged.write(toFile: file, atomically: true, encoding: .utf8)
            let again = try await validate(fixture, settings) { $0.cacheFolder = folder }
            #expect(again.differences == [] && again.expected.source == .replay)
        }
    }

    /// Schemas that are there before a system's replay: that of another system, and public.
    @Test(.database, arguments: ["public", "shared"])
    func systemsMayShareASchemaThatIsThere(_ schema: String) async throws {
        let database = try TestDatabase.current
        let fixtures = try ["a", "b"].map {
            try MigrationFixture(schema: schema, ["0001_x.up.sql": "CREATE TABLE \($0) (id integer);"])
        }
        let systems = zip(["a", "b"], fixtures).map { MigrationSystem(name: $0, schema: schema, folder: $1.folder) }
        _ = try await Migrator(database: Database(database.settings), systems: systems).up()
        let validator = try SchemaValidator(database: Database(database.settings), systems: systems)
        #expect(try await validator.validate().differences == [])
        try await database.execute("DROP TABLE \(schema).b")
        #expect(try await validator.validate().differences.map(\.object.description) == ["\(schema).b"])
    }

    @Test(.database) func pendingMigrationsAreNoDifference() async throws {
        let fixture = try MigrationFixture(Self.files)
        let settings = try TestDatabase.current.settings
        _ = try await fixture.migrator(settings).up(to: 1)
        let report = try await validate(fixture, settings)
        #expect(report.differences == [] && report.pending == ["app": 2])
        // Where the ledger knows nothing of the system, all of it is expected.
        try await TestDatabase.current.execute("DROP SCHEMA reeve CASCADE")
        let whole = try await validate(fixture, settings)
        #expect(
            Set(whole.differences.map(\.object.description)) == ["app.things.note", "app.notes", "app.total()"])
        #expect(whole.differences.allSatisfy { $0.sort == .missing })
        try await TestDatabase.current.execute(whole.mend().text)
        let mended = try await validate(fixture, settings)
        #expect(mended.differences == [])
    }

    @Test(.database) func optInMigrationsCountWhereTheyAreApplied() async throws {
        var files = Self.files
        files["0900_extra.up.sql"] = "-- reeve: opt-in extra\nCREATE TABLE extra (id integer);"
        let fixture = try MigrationFixture(files)
        let settings = try TestDatabase.current.settings
        _ = try await fixture.migrator(settings).up()
        let without = try await validate(fixture, settings)
        #expect(without.differences == [])
        _ = try await fixture.migrator(settings, options: ["extra"]).up()
        let with = try await validate(fixture, settings)
        #expect(with.differences == [])
    }

    @Test(.database) func whatIsIgnoredIsIgnoredWithItsReason() async throws {
        let fixture = try MigrationFixture(Self.files)
        let settings = try TestDatabase.current.settings
        _ = try await fixture.migrator(settings).up()
        try await TestDatabase.current.execute(
            "CREATE TABLE app.import_1 (id integer)", "COMMENT ON TABLE app.things IS 'x'",
            "ALTER TABLE app.things ADD COLUMN extra integer")
        let report = try await validate(fixture, settings) {
            $0.ignore = IgnoreList([
                .init(pattern: "table app.import_*", reason: "the import"),
                .init(pattern: "table app.things: comment", reason: "the analysts"),
                .init(pattern: "view app.*", reason: "no longer"),
            ])
        }
        #expect(report.differences.map(\.object.description) == ["app.things.extra"])
        #expect(Set(report.ignored.map(\.entry.reason)) == ["the import", "the analysts"])
        #expect(report.unusedEntries.map(\.pattern) == ["view app.*"])
    }

    @Test(.database) func withoutTheRightToMakeADatabaseTheSnapshotServes() async throws {
        let fixture = try MigrationFixture(Self.files)
        let database = try TestDatabase.current
        _ = try await fixture.migrator(database.settings).up()
        let role = "v_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            "CREATE ROLE \(role) LOGIN", "GRANT USAGE ON SCHEMA reeve TO \(role)",
            "GRANT SELECT ON ALL TABLES IN SCHEMA reeve TO \(role)")
        var settings = database.settings
        settings.parameters["user"] = role
        let owner: String = try await database.value("SELECT current_user::text")
        do {
            let error = try await #require(throws: ValidationError.self) {
                _ = try await validate(fixture, settings) { $0.owner = owner }
            }
            #expect(error.hint?.contains("--write") == true)
            let paths = try await SchemaValidator(
                database: Database(database.settings), systems: [fixture.system()]
            ).writeSnapshots()
            #expect(paths == ["\(fixture.folder)/schema.snapshot"])
            let report = try await validate(fixture, settings) { $0.owner = owner }
            #expect(report.differences == [] && report.expected.source == .snapshots)
            try await database.execute("DROP INDEX app.things_by_state")
            let other = try await validate(fixture, settings) { $0.owner = owner }
            #expect(other.differences.map(\.object.description) == ["app.things.things_by_state"])
            // A snapshot of other migrations is not believed.
            try fixture.write("0003_last.up.sql", "CREATE TABLE last (id integer);")
            _ = try await fixture.migrator(database.settings).up()
            await #expect(throws: ValidationError.self) {
                _ = try await validate(fixture, settings) { $0.owner = owner }
            }
        } catch {
            try? await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
            throw error
        }
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test(.database) func anotherOwnerIsADifferenceUnlessTheConfigurationSaysSo() async throws {
        let fixture = try MigrationFixture(Self.files)
        let database = try TestDatabase.current
        _ = try await fixture.migrator(database.settings).up()
        let role = "o_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute("CREATE ROLE \(role)")
        do {
            try await database.execute(
                """
                DO $$ DECLARE name text; BEGIN
                    ALTER SCHEMA app OWNER TO \(role); ALTER TABLE app.things OWNER TO \(role);
                    ALTER VIEW app.notes OWNER TO \(role); ALTER TYPE app.state OWNER TO \(role);
                    ALTER FUNCTION app.total() OWNER TO \(role);
                END $$
                """)
            let strict = try await validate(fixture, database.settings)
            #expect(strict.differences.count == 5 && strict.differences.allSatisfy { $0.property == "owner" })
            let named = try await validate(fixture, database.settings) { $0.owner = role }
            #expect(named.differences == [])
            let any = try await validate(fixture, database.settings) { $0.owner = "any" }
            #expect(any.differences == [])
        } catch {
            try? await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
            throw error
        }
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test(.database) func aMigrationThatDoesNotReplaySaysWhichAndNothingStays() async throws {
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE a (id integer);"])
        let database = try TestDatabase.current
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("0001_a.up.sql", "CREATE TABLE a (id integer); SELECT * FROM nowhere;")
        // Where the ledger knows nothing of the system, the files are replayed.
        try await database.execute("DROP SCHEMA reeve CASCADE")
        let error = try await #require(throws: MigrationError.self) {
            _ = try await validate(fixture, database.settings)
        }
        #expect("\(error)".hasPrefix("app/0001_a cannot be replayed in a scratch database"))
        try await waitUntil("no scratch database is left") { try await scratches() == 0 }
        try fixture.write("0001_a.up.sql", "CREATE TABLE IF NOT EXISTS a (id integer);")
        _ = try await fixture.migrator(database.settings).up()
        try fixture.remove("0001_a.up.sql")
        await #expect(throws: MigrationError.self) { _ = try await validate(fixture, database.settings) }
    }

    @Test(.database) func anEditedFileIsToldInsteadOfDrift() async throws {
        let fixture = try MigrationFixture(Self.files)
        let database = try TestDatabase.current
        _ = try await fixture.migrator(database.settings).up()
        let edited = Self.files["0001_things.up.sql"]?.replacing("varchar(20)", with: "varchar(30)") ?? ""
        try fixture.write("0001_things.up.sql", edited)
        let report = try await validate(fixture, database.settings)
        #expect(report.differences == [])
        #expect(
            report.migrations.map(\.system) == ["app"] && report.migrations.map(\.finding.subject) == ["0001_things"])
        let text = report.migrations.first?.finding.evidence ?? ""
        #expect(
            text.contains("0001_things.up.sql:3") && text.contains("had '20' here, but the file has '30'"), "\(text)")
        // The same words as those of verify.
        #expect(try await fixture.migrator(database.settings).verify().map(\.evidence) == [text])
        // Drift is still seen, also with the edited text.
        try await database.execute("ALTER TABLE app.things ALTER name TYPE varchar(30)")
        #expect(try await validate(fixture, database.settings).differences.map(\.object.name) == ["name"])
    }

    /// The edited text of a repeatable migration is pending, and what was applied is compared.
    @Test(.database) func anEditedRepeatableMigrationIsPending() async throws {
        let fixture = try MigrationFixture(Self.files)
        let database = try TestDatabase.current
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write(
            "R__total.up.sql",
            "CREATE OR REPLACE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT 2::bigint';")
        let report = try await validate(fixture, database.settings)
        #expect(report.differences == [] && report.migrations.isEmpty && report.pending == ["app": 1])
    }

    @Test(.database) func migrationsThatRunMeanwhileAreNoDifference() async throws {
        let fixture = try MigrationFixture(Self.files)
        let database = try TestDatabase.current
        _ = try await fixture.migrator(database.settings).up(to: 1)
        try await database.connection { other in
            // The comparison reads comments. Migrations here do not.
            try await other.with { _ = try $0.execute("BEGIN; LOCK TABLE pg_catalog.pg_description") }
            async let report = validate(fixture, database.settings)
            try await waitUntil("the comparison waits") { try await database.waitersForLocks() > 0 }
            _ = try await fixture.migrator(database.settings).up()
            try await other.with { _ = try $0.execute("COMMIT") }
            let found = try await report
            #expect(found.differences == [] && found.pending == ["app": 0])
        }
    }

    @Test(.database) func aHalfAppliedMigrationIsTold() async throws {
        var files = Self.files
        files["0003_index.up.sql"] = """
            ALTER TABLE things ADD COLUMN more text;
            CREATE UNIQUE INDEX CONCURRENTLY things_once ON things (state);
            CREATE TABLE last (id integer);
            """
        let fixture = try MigrationFixture(files)
        let database = try TestDatabase.current
        _ = try await fixture.migrator(database.settings).up(to: 2)
        try await database.execute("INSERT INTO app.things (state) VALUES ('new'), ('new')")
        await #expect(throws: MigrationError.self) { _ = try await fixture.migrator(database.settings).up() }
        let folder = cache()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let report = try await validate(fixture, database.settings) { $0.cacheFolder = folder }
        // What the steps that are done have made is expected.
        #expect(report.differences == [])
        #expect(report.migrations.map(\.finding.subject) == ["0003_index"])
        #expect(report.migrations.first?.finding.evidence.contains("was begun and not finished") == true)
        #expect(report.migrations.first?.finding.mend?.contains("reeve migrate up") == true)
        try await database.execute("DELETE FROM app.things")
        _ = try await fixture.migrator(database.settings).up()
        let after = try await validate(fixture, database.settings) { $0.cacheFolder = folder }
        #expect(after.differences == [] && after.migrations.isEmpty)
    }

    /// A replay has the sessions of a run of up: what a migration sets is gone with the next.
    @Test(.database) func aMigrationSeesInTheReplayWhatItSeesInUp() async throws {
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            SET search_path = pg_catalog; SET work_mem = '7MB'; CREATE TEMPORARY TABLE t (a integer);
            SELECT set_config('my.setting', 'x', false); PREPARE p AS SELECT 1;
            CREATE SUBSCRIPTION enabled CONNECTION 'host=/nowhere' PUBLICATION p WITH (connect = false);
            ALTER SUBSCRIPTION enabled ENABLE;
            """,
            "0002_b.up.sql": """
            DO $$ BEGIN
                EXECUTE format('CREATE TABLE seen_%s_%s_%s_%s (a integer)', current_setting('work_mem'),
                    coalesce(current_setting('my.setting', true), 'null'), to_regclass('t') IS NULL,
                    (SELECT count(*) FROM pg_prepared_statements WHERE name = 'p'));
                EXECUTE format('COMMENT ON SCHEMA app IS %L', current_setting('search_path') || current_user);
                EXECUTE format('CREATE VIEW transactions AS SELECT %L::text AS a', txid_current() <> txid_current());
            END $$;
            CREATE INDEX CONCURRENTLY i ON seen_4mb_null_t_0 (a);
            """,
            "0003_copy.up.sql": "CREATE TABLE c (a integer);\nCOPY c FROM STDIN;\n1\n\\.\n",
        ])
        let database = try TestDatabase.current
        let replayed = try await Self.replayed(fixture, database.settings)
        do { _ = try await fixture.migrator(database.settings).up() } catch { Issue.record("\(error)") }
        let report = try await validate(fixture, database.settings)
        #expect(report.differences == [] && replayed > 3, "\(report.differences)")
        #expect(try await database.value("SELECT subenabled FROM pg_subscription WHERE subname = 'enabled'"))
        try await database.execute(
            "ALTER SUBSCRIPTION enabled DISABLE", "ALTER SUBSCRIPTION enabled SET (slot_name = NONE)",
            "DROP SUBSCRIPTION enabled")
    }

    private static func replayed(_ fixture: MigrationFixture, _ settings: ConnectionSettings) async throws -> Int {
        try await SchemaValidator(database: Database(settings), systems: [fixture.system()])
            .expected(allMigrations: true).catalog.objects.count
    }

    /// What belongs to the whole server may have been changed since the migration.
    @Test(.database) func aReplayLeavesTheServerAlone() async throws {
        let database = try TestDatabase.current
        let (role, other) = ("\(database.name)_role", "\(database.name)_other")
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            CREATE ROLE \(role);
            ALTER ROLE \(role) CONNECTION LIMIT 5;
            GRANT pg_read_all_data TO \(role);
            DROP DATABASE IF EXISTS \(other);
            ALTER DATABASE \(database.name) SET work_mem TO '7MB';
            CREATE TABLE t (a int);
            GRANT SELECT ON t TO \(role);
            DROP SUBSCRIPTION IF EXISTS \(role);
            """
        ])
        _ = try await fixture.migrator(database.settings).up()
        try await TestCluster.runSQL(
            "ALTER ROLE \(role) CONNECTION LIMIT 9", "REVOKE pg_read_all_data FROM \(role)",
            "CREATE DATABASE \(other)", "ALTER DATABASE \(database.name) RESET work_mem")
        #expect(try await validate(fixture, database.settings).differences == [])
        #expect(
            try await database.value(
                """
                SELECT (SELECT rolconnlimit = 9 FROM pg_roles WHERE rolname = '\(role)')
                    AND NOT pg_has_role('\(role)', 'pg_read_all_data', 'USAGE')
                    AND EXISTS (SELECT FROM pg_database WHERE datname = '\(other)')
                    AND NOT EXISTS (SELECT FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
                        WHERE d.datname = current_database() AND setconfig::text ~ 'work_mem')
                """))
        try await database.execute("DROP OWNED BY \(role)")
        try await TestCluster.runSQL("DROP ROLE \(role)", "DROP DATABASE \(other)")
    }

    /// A role that was dropped since is there again for the replay, and only for it.
    @Test(.database) func rolesOfAReplayGoWithIt() async throws {
        let database = try TestDatabase.current
        let (one, other) = ("\(database.name)_one", "\(database.name)_Other")
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            CREATE ROLE \(one) LOGIN SUPERUSER; CREATE USER "\(other)" IN ROLE \(one);
            CREATE TABLE t (a int); CREATE TABLE u (a int);
            GRANT SELECT ON t TO \(one); GRANT INSERT ON u TO "\(other)";
            GRANT CONNECT ON DATABASE \(database.name) TO \(one);
            COMMENT ON ROLE \(one) IS 'x';
            """,
            "0002_b.up.sql": """
            REASSIGN OWNED BY "\(other)" TO CURRENT_ROLE; DROP OWNED BY \(one), "\(other)";
            DROP ROLE IF EXISTS \(one), "\(other)";
            """,
        ])
        let roles = "SELECT count(*) FROM pg_roles WHERE starts_with(rolname, '\(database.name)_')"
        _ = try await fixture.migrator(database.settings).up(to: 1)
        #expect(try await validate(fixture, database.settings).differences == [])
        #expect(try await database.value(roles) == 2)
        let connects = "SELECT has_database_privilege('\(one)', current_database(), 'CONNECT')"
        try await database.execute("REVOKE CONNECT ON DATABASE \(database.name) FROM \(one), PUBLIC")
        try await database.execute("ALTER ROLE \(one) NOSUPERUSER")
        #expect(try await validate(fixture, database.settings).differences == [])
        #expect(try await !database.value(connects))
        _ = try await fixture.migrator(database.settings).up()
        #expect(try await database.value(roles) == 0)
        #expect(try await validate(fixture, database.settings).differences == [])
        #expect(try await database.value(roles) == 0)
        // A role of that name that somebody has created since is not touched.
        try await database.execute("CREATE ROLE \(one) LOGIN")
        #expect(try await validate(fixture, database.settings).differences == [])
        #expect(try await database.value("SELECT rolcanlogin FROM pg_roles WHERE rolname = '\(one)'"))
        try await database.execute("DROP ROLE \(one)")
    }

    /// Two databases of one server, whose migrations use the same role for a while.
    @Test(.database) func replaysAtOnceShareTheirRoles() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_shared"
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE t (a int); CREATE ROLE \(role); GRANT SELECT ON t TO \(role);",
            "0002_b.up.sql": "REVOKE SELECT ON t FROM \(role);", "0003_c.up.sql": "DROP ROLE \(role);",
        ])
        _ = try await fixture.migrator(database.settings).up()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    let report = try await self.validate(fixture, database.settings)
                    #expect(report.differences == [])
                }
            }
            try await group.waitForAll()
        }
        let left = "SELECT count(*) FROM pg_roles WHERE rolname = '\(role)'"
        #expect(try await database.value(left) == 0)
        // Somebody uses the role that a replay has created, and that was killed.
        try await database.execute(
            "CREATE ROLE \(role)", "COMMENT ON ROLE \(role) IS 'reeve_scratch_1_1'", "ALTER ROLE \(role) LOGIN")
        _ = try await validate(fixture, database.settings)
        #expect(try await database.value(left) == 1)
        try await database.execute("ALTER ROLE \(role) NOLOGIN", "COMMENT ON ROLE \(role) IS 'reeve_scratch_1_1'")
        _ = try await validate(fixture, database.settings)
        #expect(try await database.value(left) == 0)
    }

    /// A role that a replay has created is not in the way of those who create it in earnest.
    @Test(.database) func migrationsCreateTheirRolesBesideAReplay() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_wanted"
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE ROLE \(role) LOGIN;", "0002_b.up.sql": "CREATE TABLE t (a int);",
        ])
        // Another replay uses the role.
        let scratch = "reeve_scratch_4000000000_\(UInt32.random(in: 0...UInt32.max))"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE DATABASE \(scratch)", "COMMENT ON ROLE \(role) IS '\(scratch)'")
        #expect(try await fixture.migrator(database.settings).up().done.count == 2)
        #expect(try await database.value("SELECT rolcanlogin FROM pg_roles WHERE rolname = '\(role)'"))
        #expect(
            try await database.value(
                "SELECT count(*) FROM pg_roles WHERE rolname ~ '^reeve_scratch_role_' "
                    + "AND shobj_description(oid, 'pg_authid') = '\(scratch)'") == 1)
        try await database.execute("DROP ROLE \(role)", "DROP DATABASE \(scratch)")
        _ = try await validate(fixture, database.settings)
        #expect(try await database.value("SELECT count(*) FROM pg_roles WHERE rolname ~ '^reeve_scratch_role_'") == 0)
    }

    @Test(.database) func aReplayTakesNothingThatTheServerHasOfARole() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_role"
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE ROLE \(role); CREATE TABLE t (a int);", "0002_b.up.sql": "DROP OWNED BY \(role);",
        ])
        _ = try await fixture.migrator(database.settings).up()
        try await database.execute("GRANT TEMPORARY ON DATABASE \(database.name) TO \(role)")
        let error = await #expect(throws: MigrationError.self) { try await validate(fixture, database.settings) }
        #expect(error?.description.contains("DROP OWNED cannot be replayed") == true, "\(error as Any)")
        #expect(
            try await database.value(
                "SELECT datacl::text ~ '\(role)=T' FROM pg_database WHERE datname = current_database()"))
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test(arguments: [
        (
            "CREATE SUBSCRIPTION s CONNECTION 'host=h' PUBLICATION p",
            [
                "CREATE SUBSCRIPTION s CONNECTION 'host=h' PUBLICATION p WITH (connect = false)",
                "ALTER SUBSCRIPTION s ENABLE",
            ]
        ),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'h' PUBLICATION p WITH (connect = false, slot_name = 'x', enabled)",
            [
                "CREATE SUBSCRIPTION s CONNECTION 'h' PUBLICATION p WITH (slot_name = 'x', connect = false)",
                "ALTER SUBSCRIPTION s ENABLE",
            ]
        ),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'h' PUBLICATION p WITH (create_slot = false, enabled = off)",
            ["CREATE SUBSCRIPTION s CONNECTION 'h' PUBLICATION p WITH (connect = false)"]
        ),
        ("ALTER SUBSCRIPTION s REFRESH PUBLICATION WITH (copy_data = false)", []),
        (
            "ALTER SUBSCRIPTION s ADD PUBLICATION q WITH (copy_data = false)",
            ["ALTER SUBSCRIPTION s ADD PUBLICATION q WITH (refresh = false)"]
        ),
        (
            "DROP SUBSCRIPTION \"S\"",
            [
                "ALTER SUBSCRIPTION \"S\" DISABLE", "ALTER SUBSCRIPTION \"S\" SET (slot_name = NONE)",
                "DROP SUBSCRIPTION \"S\"",
            ]
        ),
        ("ALTER SYSTEM SET work_mem = '7MB'", []), ("ALTER USER u PASSWORD 'x'", []),
        ("GRANT SET ON PARAMETER work_mem TO r", []), ("REVOKE CREATE ON TABLESPACE t FROM r", []),
        ("COMMENT ON ROLE r IS 'x'", []), ("COMMENT ON DATABASE d IS 'x'", []),
        ("COPY t TO '/x/y.csv'", []), ("COPY (SELECT a FROM t) TO PROGRAM 'p'", []), ("COPY t FROM PROGRAM 'p'", []),
    ])
    func aReplayConnectsToNoOtherServer(_ sql: String, _ expected: [String]) throws {
        let script = try MigrationScript(path: "f", bytes: Array(sql.utf8))
        let words = try script.words(of: try #require(script.statements.first))
        #expect(ReplayedStatement.substitute(words, in: script.source) == expected)
    }

    @Test(arguments: [
        "ALTER SUBSCRIPTION s DISABLE", "COMMENT ON TABLE t IS 'on role'",
        "ALTER USER MAPPING FOR u SERVER s OPTIONS (SET a 'b')",
        "DROP USER MAPPING FOR u SERVER s", "GRANT SELECT ON t TO r", "GRANT SELECT ON role TO r",
        "REVOKE ALL ON parameter, t FROM r", "GRANT SELECT ON database.t TO r", "COPY (SELECT 1) TO STDOUT",
        "COPY t FROM '/x/y.csv'", "CREATE SCHEMA s CREATE TABLE role (a int) GRANT SELECT ON role TO r",
        "ALTER TABLE t ADD COLUMN a int",
    ])
    func otherStatementsAreReplayedAsTheyAre(_ sql: String) throws {
        let script = try MigrationScript(path: "f", bytes: Array(sql.utf8))
        let words = try script.words(of: try #require(script.statements.first))
        #expect(ReplayedStatement.substitute(words, in: script.source) == nil)
    }

    @Test(arguments: [
        "CREATE ROLE U&\"\\0061\"", "DROP OWNED BY a, U&\"\\0061\"",
        "CREATE SCHEMA s CREATE TABLE u (x int) GRANT CONNECT ON DATABASE d TO r",
    ])
    func whatCannotBeReplayedIsRefused(_ sql: String) throws {
        let script = try MigrationScript(path: "f", bytes: Array(sql.utf8))
        let words = try script.words(of: try #require(script.statements.first))
        let statements = try #require(ReplayedStatement.substitute(words, in: script.source))
        #expect(statements.count == 1 && statements[0].contains("cannot be replayed"))
    }

    /// Settings of the database change what the migrations create.
    @Test(.database) func theCacheIsOfDatabasesWithTheSameSettings() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE t (d date DEFAULT '03/04/2024', a text[] DEFAULT '{NULL,a}');"
        ])
        let folder = cache()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for setting in ["DateStyle = 'ISO, MDY'", "DateStyle = 'ISO, DMY'", "array_nulls = off"] {
            try await database.execute(
                "ALTER DATABASE \(database.name) SET \(setting)",
                "DROP SCHEMA IF EXISTS app, reeve CASCADE")
            _ = try await fixture.migrator(database.settings).up()
            let report = try await validate(fixture, database.settings) { $0.cacheFolder = folder }
            #expect(report.differences == [] && report.expected.source == .replay, "\(setting): \(report.differences)")
        }
    }

    /// Others could write the schema there that a superuser then makes with the SQL of a mend.
    @Test(.database) func aCacheThatOthersMayWriteIsNotUsed() async throws {
        let fixture = try MigrationFixture(Self.files)
        let settings = try TestDatabase.current.settings
        _ = try await fixture.migrator(settings).up()
        let folder = cache()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for (mode, source) in [
            (0o700, ExpectedSchema.Source.replay), (0o700, .cache), (0o777, .replay), (0o700, .cache),
        ] {
            if FileManager.default.fileExists(atPath: folder) { chmod(folder, mode_t(mode)) }
            let report = try await validate(fixture, settings) { $0.cacheFolder = folder }
            #expect(report.expected.source == source)
        }
        for file in try FileManager.default.contentsOfDirectory(atPath: folder) { chmod("\(folder)/\(file)", 0o666) }
        let report = try await validate(fixture, settings) { $0.cacheFolder = folder }
        #expect(report.expected.source == .replay)
    }

    /// Nothing of the ledger is in the scratch database, and its commits need not reach the disk.
    @Test(.database) func aReplayHasNoLedger() async throws {
        let fixture = try MigrationFixture([
            "0001_a.up.sql": """
            DO $$ BEGIN
                EXECUTE format('COMMENT ON SCHEMA app IS %L',
                    coalesce(to_regnamespace('reeve')::text, 'none') || ' ' || current_setting('synchronous_commit'));
            END $$;
            """
        ])
        let settings = try TestDatabase.current.settings
        let catalog = try await SchemaValidator(database: Database(settings), systems: [fixture.system()])
            .expected(allMigrations: true).catalog
        #expect(catalog[ObjectIdentity(.schema, "app")]?["comment"] == "none off")
    }

    @Test(.database) func abandonedScratchDatabasesAreCleared() async throws {
        let old = "reeve_scratch_1000000000_\(UInt32.random(in: 0...UInt32.max))"
        let used = "reeve_scratch_1000000001_\(UInt32.random(in: 0...UInt32.max))"
        let young = "reeve_scratch_\(Int(Date().timeIntervalSince1970))_\(UInt32.random(in: 0...UInt32.max))"
        // Anybody who may make databases can give one such a name.
        let odd = "reeve_scratch_99999999999999999999_1"
        let copy = "\(old)_backup"
        try await TestCluster.runSQL(
            "CREATE DATABASE \(old)", "CREATE DATABASE \(young)", "CREATE DATABASE \(odd)", "CREATE DATABASE \(copy)")
        let fixture = try MigrationFixture(Self.files)
        let database = try TestDatabase.current
        _ = try await fixture.migrator(database.settings).up()
        // Nobody is connected to it just now, but who made it lives.
        let keeper = database.settings.named(ScratchDatabase.keeper(of: used))
        let left = try await Connection.opened(keeper) { keeper in
            try await keeper.with { _ = try $0.execute("CREATE DATABASE \(used)") }
            _ = try await validate(fixture, database.settings)
            return try await database.with { connection in
                try connection.query(
                    "SELECT datname::text FROM pg_database WHERE datname IN ($1, $2, $3, $4) ORDER BY 1",
                    [old, young, used, copy]
                ).map { try $0.get(0, as: String.self) }
            }
        }
        #expect(left == [copy, used, young])
        try await TestCluster.runSQL(
            "DROP DATABASE \(young)", "DROP DATABASE \(odd)", "DROP DATABASE IF EXISTS \(copy)",
            // Another test may have dropped it, now that its keeper is gone.
            "DROP DATABASE IF EXISTS \(used)")
    }

    @Test(.database) func nobodyElseGetsIntoAScratchDatabase() async throws {
        let database = try TestDatabase.current
        let role = "curious_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE ROLE \(role) LOGIN")
        let error = try await ScratchDatabase.with(beside: database.settings) { settings in
            var other = settings
            other.parameters["user"] = role
            let name = settings.parameters["dbname"] ?? ""
            let keepers: Int = try await database.value(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", [ScratchDatabase.keeper(of: name)])
            #expect(keepers == 1)
            let mayMake = try await Connection.opened(settings) { connection in
                try await connection.with { try $0.execute("CREATE TABLE public.made (a integer)") }
                return true
            }
            #expect(mayMake)
            return await #expect(throws: PostgresError.self) { try await Connection.opened(other) { _ in } }
        }
        #expect(error?.message.contains("permission denied for database") == true, "\(error.map { "\($0)" } ?? "")")
        try await TestCluster.runSQL("DROP ROLE \(role)")
    }

    @Test(.database) func severalAtOnceGetTheSame() async throws {
        let fixture = try MigrationFixture(Self.files)
        let database = try TestDatabase.current
        _ = try await fixture.migrator(database.settings).up()
        let folder = cache()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    try await validate(fixture, database.settings) { $0.cacheFolder = folder }.differences.count
                }
            }
            for try await count in group { #expect(count == 0) }
        }
    }

    @Test(.database(DatabaseTemplate.systems), .server(has: .extension("pg_stat_statements")))
    func theShippedSystemsAndTheirSnapshotsAgree() async throws {
        let database = try TestDatabase.current
        var settings = SchemaValidator.Settings()
        let systems = ShippedFixture.systems()
        let replayed = try await SchemaValidator(database: Database(database.settings), systems: systems).validate()
        #expect(replayed.differences == [])
        settings.scratch = .never
        let committed = try await SchemaValidator(
            database: Database(database.settings), systems: systems, settings: settings
        ).validate()
        #expect(committed.expected.source == .snapshots)
        // The snapshots are of version 15. The columns of this view are those of an extension's view, and newer
        // versions of the extension have others.
        let version = try await database.with { $0.serverVersion / 10000 }
        #expect(
            committed.differences.filter {
                version == 15 || "\($0.object)" != "videogen.pg_stat_statements"
            } == [])
    }
}

import Foundation
import Ledger
import Migrations
import Postgres
import TestSupport
import Testing

@Suite(.database, .timeLimit(.minutes(2)))
struct MigratorTests {
    private static let three = [
        "0001_tables.up.sql": "CREATE TABLE t (a int PRIMARY KEY, b text);\nINSERT INTO t VALUES (1, 'x');",
        "0001_tables.down.sql": "DROP TABLE t;",
        "0002_index.up.sql": "CREATE INDEX t_b ON t (b);",
        "0002_index.down.sql": "DROP INDEX t_b;",
        "0003_more.up.sql": "ALTER TABLE t ADD COLUMN c int DEFAULT 3;",
        "0003_more.down.sql": "ALTER TABLE t DROP COLUMN c;",
        "R__view.sql": "CREATE OR REPLACE VIEW v AS SELECT a FROM t;",
        "R__view.down.sql": "DROP VIEW v;",
    ]

    @Test func `up applies, again does nothing, down to 0 leaves nothing, and up again is equal`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(Self.three)
        let migrator = try fixture.migrator(database.settings)
        let before = try await database.schemaDump()
        let first = try await migrator.up()
        #expect(first.done.map(\.name) == ["tables", "index", "more", "view"])
        #expect(first.pending == 0)
        let after = try await database.schemaDump()
        #expect(try await migrator.up().done.isEmpty)
        let down = try await migrator.down(to: 0)
        #expect(down.done.map(\.name) == ["view", "more", "index", "tables"])
        #expect(try await database.schemaDump() == before)
        _ = try await migrator.up()
        #expect(try await database.schemaDump() == after)
        let audit = try await database.with { try Audit.verify(on: $0) }
        #expect(audit.isIntact && audit.entries == 12)
    }

    @Test func `a schema that a run cut short left empty goes with the next down`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(Self.three)
        _ = try await fixture.migrator(database.settings).up()
        _ = try await fixture.migrator(database.settings).down(to: 0)
        // As it was in the instant between the last migration and the schema.
        try await database.execute("CREATE SCHEMA app", "INSERT INTO reeve.systems VALUES ('app', 'app', true)")
        _ = try await fixture.migrator(database.settings).down(to: 0)
        let left: Int = try await database.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'app'")
        #expect(left == 0)
    }

    /// Steps of their own as well as one transaction.
    @Test(.server(has: .extension("citext")), arguments: ["", "CREATE INDEX CONCURRENTLY i ON t (a);\n"])
    func `a name in a schema that is left out of the path is not found, and the error says why`(before: String)
        async throws
    {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE ROLE \(database.name)_other", "CREATE SCHEMA ext", "CREATE EXTENSION citext SCHEMA ext",
            "GRANT CREATE ON SCHEMA ext TO \(database.name)_other")
        let fixture = try MigrationFixture([
            "0001_t.up.sql": "CREATE TABLE t (a int);", "0002_u.up.sql": before + "CREATE TABLE u (a citext);",
        ])
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(error?.description.contains("42704") == true)
        #expect(error?.hint?.contains("the search path leaves out the schema ext (extensions: citext)") == true)
        try await database.execute("REVOKE CREATE ON SCHEMA ext FROM \(database.name)_other")
        #expect(try await fixture.migrator(database.settings).up().pending == 0)
        try await database.execute("DROP ROLE \(database.name)_other")
    }

    @Test func `a superuser does not migrate a schema where others may put functions`() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_other"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE SCHEMA app AUTHORIZATION \(role)",
            "CREATE FUNCTION app.format(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''trap''::text'",
            "ALTER FUNCTION app.format(text, text) OWNER TO \(role)")
        let fixture = try MigrationFixture(["0001_t.up.sql": "CREATE TABLE t AS SELECT format('%s', 'x'::text) AS a;"])
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        guard case .openSchema("app", "app", [role])? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        // A function is enough, and so is the right to make one.
        try await database.execute("ALTER SCHEMA app OWNER TO CURRENT_USER")
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        try await database.execute("ALTER FUNCTION app.format(text, text) OWNER TO CURRENT_USER")
        #expect(try await fixture.migrator(database.settings).up().done.count == 1)
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func `a superuser does not migrate tables on which others may put triggers`() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_other"
        try await database.execute("CREATE ROLE \(role)")
        let fixture = try MigrationFixture([
            "0001_t.up.sql": "CREATE TABLE t (a int); GRANT SELECT, INSERT ON t TO \(role); GRANT ALL ON t TO \(role);",
            "0002_u.up.sql": "INSERT INTO t VALUES (1);",
        ])
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        guard case .openTables("app", "app", [role])? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try await database.value("SELECT count(*) FROM app.t", as: Int.self) == 0)
        // What was made while they had the right stays.
        try await database.execute(
            "CREATE SCHEMA own AUTHORIZATION \(role)",
            """
            CREATE FUNCTION own.trap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
            ALTER FUNCTION own.trap() OWNER TO \(role);
            CREATE TRIGGER trap BEFORE INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION own.trap();
            REVOKE TRIGGER ON app.t FROM \(role);
            """)
        await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        try await database.execute("DROP TRIGGER trap ON app.t")
        #expect(try await fixture.migrator(database.settings).up().pending == 0)
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test(arguments: ["", "CREATE INDEX CONCURRENTLY i ON t (a);\n"])
    func `what a migration grants on its schema holds up the next one of the same run`(alone: String) async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_other"
        try await database.execute("CREATE ROLE \(role)")
        let fixture = try MigrationFixture([
            "0001_t.up.sql": "CREATE TABLE t (a int); GRANT CREATE ON SCHEMA app TO \(role);",
            "0002_u.up.sql": alone + "CREATE TABLE u AS SELECT lower('X'::varchar) AS a;",
        ])
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        guard case .openSchema("app", "app", [role])? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let made: String = try await database.value("SELECT concat_ws(' ', to_regclass('app.t'), to_regclass('app.u'))")
        #expect(made == "app.t")
        try await database.execute("REVOKE CREATE ON SCHEMA app FROM \(role)")
        #expect(try await fixture.migrator(database.settings).up().pending == 0)
        try await database.execute("DROP ROLE \(role)")
    }

    @Test func `what a step grants on the schema holds up the next step`() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_other"
        try await database.execute("CREATE ROLE \(role)")
        let fixture = try MigrationFixture([
            "0001_t.up.sql": """
            -- reeve: no-transaction
            CREATE TABLE t (a int);
            GRANT CREATE ON SCHEMA app TO \(role);
            CREATE TABLE u AS SELECT lower('X'::varchar) AS a;
            """
        ])
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        guard case .openSchema("app", "app", [role])? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let made: String = try await database.value("SELECT concat_ws(' ', to_regclass('app.t'), to_regclass('app.u'))")
        #expect(made == "app.t")
        try await database.execute("REVOKE CREATE ON SCHEMA app FROM \(role)")
        #expect(try await fixture.migrator(database.settings).up().pending == 0)
        try await database.execute("DROP ROLE \(role)")
    }

    @Test func `the status tells of applied files that were edited`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE t (a int);"])
        _ = try await fixture.migrator(database.settings).up()
        #expect(try await fixture.migrator(database.settings).status().first?.contradictions.isEmpty == true)
        try fixture.write("0001_a.up.sql", "CREATE TABLE t (a bigint);")
        #expect(try await fixture.migrator(database.settings).status().first?.contradictions.count == 1)
    }

    @Test func `a system is not reverted while an applied system requires it`() async throws {
        let database = try TestDatabase.current
        let base = try MigrationFixture(
            schema: "base", ["0001_a.up.sql": "CREATE TABLE a ();", "0001_a.down.sql": "DROP TABLE a;"])
        let user = try MigrationFixture(
            schema: "user", ["0001_b.up.sql": "CREATE TABLE b ();", "0001_b.down.sql": "DROP TABLE b;"])
        let systems = [
            MigrationSystem(name: "base", schema: "base", folder: base.folder),
            MigrationSystem(name: "user", schema: "user", requires: ["base"], folder: user.folder),
        ]
        _ = try await Migrator(database: Database(database.settings), systems: systems).up()
        var alone = try Migrator(database: Database(database.settings), systems: [systems[0]])
        alone.knownSystems = systems
        let refused = alone
        let error = await #expect(throws: MigrationError.self) { try await refused.down(to: Int?.none) }
        guard case .requiredByOthers("base", ["user"])? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(
            try await Migrator(database: Database(database.settings), systems: systems).down(to: nil).done.count == 2)
    }

    @Test(arguments: [
        "CREATE UNIQUE INDEX CONCURRENTLY taken ON t (a);", "DROP INDEX CONCURRENTLY none_such;",
        "ALTER TABLE t DETACH PARTITION other CONCURRENTLY;",
    ])
    func `a statement that fails by itself fails again`(statement: String) async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_t.up.sql": "CREATE TABLE t (a int) PARTITION BY LIST (a); CREATE TABLE other (a int);"
                + "CREATE INDEX taken ON other (a);",
            "0002_u.up.sql": statement.replacing("ON t (", with: "ON plain (").replacing(
                "CREATE UNIQUE", with: "CREATE TABLE plain (a int);\nCREATE UNIQUE"),
        ])
        for _ in 1...3 {
            await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        }
        #expect(try await database.value("SELECT count(*) FROM reeve.migrations WHERE state = 'applied'") == 1)
    }

    @Test func `a migration is compiled as the server has it, and our own queries are not`() async throws {
        let database = try TestDatabase.current
        let table = "AS SELECT current_setting('jit')::bool AS jit;\n"
        let fixture = try MigrationFixture([
            "0001_together.up.sql": "CREATE TABLE together \(table)",
            "0002_apart.up.sql": "CREATE TABLE apart \(table)CREATE INDEX CONCURRENTLY i ON apart (jit);",
        ])
        #expect(try await database.value("SHOW jit") == "off")
        _ = try await fixture.migrator(database.settings).up()
        #expect(try await database.value("SELECT t.jit AND a.jit FROM app.together t, app.apart a"))
    }

    @Test func `up and down go to a version, and repeatable ones wait for the last`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(Self.three)
        defer { withExtendedLifetime(fixture) {} }
        let migrator = try fixture.migrator(database.settings)
        #expect(try await migrator.up(to: 2).done.map(\.name) == ["tables", "index"])
        let status = try await migrator.status()
        #expect(status[0].applied.count == 2)
        #expect(status[0].pending.map(\.name) == ["more", "view"])
        _ = try await migrator.up()
        #expect(try await migrator.down(to: 1).done.map(\.name) == ["view", "more", "index"])
        await #expect(throws: MigrationError.self) { try await migrator.up(to: 7) }
        await #expect(throws: MigrationError.self) { try await migrator.down(to: 7) }
    }

    @Test func `a migration that fails leaves nothing of itself, and says where`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE a (x int);",
            "0002_b.up.sql": "CREATE TABLE b (x int);\nINSERT INTO b\n  VALUES (nope);\n",
        ])
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        let text = try #require(error).description
        #expect(text.contains("0002_b.up.sql:3:11"))
        #expect(text.contains("42703"))
        #expect(text.contains("          ^"))
        let tables: [String] = try await database.value(
            "SELECT array_agg(tablename::text) FROM pg_tables WHERE schemaname = 'app'")
        #expect(tables == ["a"])
        try fixture.write("0002_b.up.sql", "CREATE TABLE b (x int);")
        #expect(try await fixture.migrator(database.settings).up().done.map(\.name) == ["b"])
    }

    @Test func `comments may change, tokens may not`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(Self.three)
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("0002_index.up.sql", "-- why\r\nCREATE   INDEX t_b\r\n ON t (b);\r\n")
        let outcome = try await fixture.migrator(database.settings).up()
        #expect(outcome.done.isEmpty)
        #expect(outcome.notices.count == 1)
        #expect(try await fixture.migrator(database.settings).up().notices.isEmpty)
        try fixture.write("0002_index.up.sql", "CREATE INDEX t_b ON t (a);")
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        let text = try #require(error).description
        #expect(text.contains("0002_index"))
        #expect(text.contains("the applied migration had 'b' here, but the file has 'a'"))
        let findings = try await fixture.migrator(database.settings).verify()
        #expect(findings.count == 1)
    }

    @Test func `missing, renamed and late files are refused with the remedy`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(Self.three)
        _ = try await fixture.migrator(database.settings).up()
        try fixture.remove("0002_index.up.sql")
        try fixture.remove("0002_index.down.sql")
        let missing = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(missing?.description.contains("0002_index was applied") == true)
        try fixture.write("0002_other.up.sql", "CREATE INDEX t_b ON t (b);")
        let renamed = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(renamed?.description.contains("was applied as 'index'") == true)
        try fixture.remove("0002_other.up.sql")
        try fixture.write("0002_index.up.sql", "CREATE INDEX t_b ON t (b);")
        try fixture.write("0005_five.up.sql", "SELECT 5;")
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("0004_late.up.sql", "CREATE TABLE late (a int);")
        let late = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(late?.hint?.contains("--out-of-order") == true)
        let outcome = try await fixture.migrator(database.settings) { $0.allowOutOfOrder = true }.up()
        #expect(outcome.done.map(\.name) == ["late"])
    }

    @Test func `a repeatable migration is applied anew when its tokens changed`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(Self.three)
        _ = try await fixture.migrator(database.settings).up()
        try fixture.write("R__view.sql", "-- only a comment\nCREATE OR REPLACE VIEW v AS SELECT a FROM t;")
        #expect(try await fixture.migrator(database.settings).up().done.isEmpty)
        try fixture.write("R__view.sql", "CREATE OR REPLACE VIEW v AS SELECT a, b FROM t;")
        #expect(try await fixture.migrator(database.settings).up().done.map(\.name) == ["view"])
        try fixture.remove("R__view.sql")
        try fixture.remove("R__view.down.sql")
        #expect(try await fixture.migrator(database.settings).up().notices.count == 1)
        #expect(try await fixture.migrator(database.settings).up().notices.isEmpty)
    }

    @Test func `a repeatable migration that cannot run in a transaction is refused before anything is done`()
        async throws
    {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE a (x int);", "R__i.sql": "CREATE INDEX CONCURRENTLY a_x ON a (x);",
        ])
        let error = await #expect(throws: MigrationError.self) { try await fixture.migrator(database.settings).up() }
        #expect(error?.hint?.contains("versioned migration") == true)
        let tables: Int = try await database.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'app'")
        #expect(tables == 0)
    }

    @Test func `an opt-in migration is applied only where it is chosen`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE a (x int);",
            "0900_big.up.sql": "-- reeve: opt-in big\nCREATE TABLE big (x int);",
            "0900_big.down.sql": "DROP TABLE big;", "0001_a.down.sql": "DROP TABLE a;",
        ])
        #expect(try await fixture.migrator(database.settings).up().done.map(\.name) == ["a"])
        #expect(try await fixture.migrator(database.settings).status()[0].optional == ["big"])
        #expect(try await fixture.migrator(database.settings, options: ["big"]).up().done.map(\.name) == ["big"])
        try fixture.write("0002_b.up.sql", "CREATE TABLE b (x int);")
        try fixture.write("0002_b.down.sql", "DROP TABLE b;")
        // One that is chosen at any time stands in nobody's way, whatever its number.
        #expect(try await fixture.migrator(database.settings).up().done.map(\.name) == ["b"])
        #expect(try await fixture.migrator(database.settings).down(to: 1).done.map(\.name) == ["big", "b"])
    }

    @Test func `names without a schema are the system's, also in public and in a name that wants quotes`() async throws
    {
        let database = try TestDatabase.current
        for schema in ["public", "My Schema"] {
            let fixture = try MigrationFixture(schema: schema, Self.three)
            let migrator = try fixture.migrator(database.settings)
            _ = try await migrator.up()
            let found: String = try await database.value(
                "SELECT schemaname::text FROM pg_tables WHERE tablename = 't'")
            #expect(found == schema)
            _ = try await migrator.down(to: 0)
            let count: Int = try await database.value("SELECT count(*) FROM pg_namespace WHERE nspname = $1", [schema])
            #expect(count == (schema == "public" ? 1 : 0))
        }
    }

    @Test func `COPY data in a migration are loaded`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_data.up.sql":
                "CREATE TABLE t (a int, b text);\nCOPY t FROM stdin;\n1\ta;b\n2\t\\N\n\\.\nINSERT INTO t VALUES (3, 'c');\n"
        ])
        _ = try await fixture.migrator(database.settings).up()
        let rows: Int = try await database.value("SELECT count(*) FROM app.t")
        #expect(rows == 3)
    }

    @Test func `settings that a migration makes do not outlive it`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_a.up.sql":
                "SELECT pg_catalog.set_config('search_path', '', false);\nSET work_mem = '3MB';\nCREATE TABLE app.a (x int);",
            "0002_b.up.sql": "CREATE TABLE b AS SELECT current_setting('work_mem') AS m;",
        ])
        _ = try await fixture.migrator(database.settings).up()
        let memory: String = try await database.value("SELECT m FROM app.b")
        #expect(memory != "3MB")
        // What the connection itself relies on is set again.
        try fixture.write("0003_c.up.sql", "SET TimeZone = 'Asia/Tokyo';\nCREATE TABLE c (x int);")
        try fixture.write("0004_d.up.sql", "CREATE TABLE d AS SELECT current_setting('TimeZone') AS zone;")
        _ = try await fixture.migrator(database.settings).up()
        let zone: String = try await database.value("SELECT zone FROM app.d")
        let own: String = try await database.value("SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'")
        #expect(zone == own)
    }

    @Test func `an older program refuses a newer ledger`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture(Self.three)
        defer { withExtendedLifetime(fixture) {} }
        let migrator = try fixture.migrator(database.settings)
        _ = try await migrator.up()
        try await database.execute("UPDATE reeve.ledger SET version = version + 1")
        let error = await #expect(throws: LedgerError.self) { try await migrator.up() }
        #expect(error?.hint.contains("newer") == true)
    }
}

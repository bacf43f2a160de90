import Foundation
import Postgres
import TestSupport
import Testing

@testable import Catalog

/// What others change in a database while a superuser tries it, who trusts them.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct LiveRaceTests {
    /// What a role makes beforehand of tables that belong to it, and while the trial is at the first of them.
    struct Attack: CustomTestStringConvertible {
        let testDescription: String
        /// Besides `m.a`, whose trigger waits for a row in `m.go`.
        let tables: String
        let change: [String]
    }

    private static let attacks = [
        Attack(
            testDescription: "a trigger", tables: "CREATE TABLE m.b (id integer PRIMARY KEY)",
            change: ["CREATE TRIGGER t BEFORE INSERT ON m.b FOR EACH ROW EXECUTE FUNCTION m.fires()"]),
        Attack(
            testDescription: "a trigger of a partition",
            tables: """
                CREATE TABLE m.b (id integer PRIMARY KEY) PARTITION BY RANGE (id);
                CREATE TABLE m.c PARTITION OF m.b DEFAULT
                """,
            change: ["CREATE TRIGGER t BEFORE INSERT ON m.c FOR EACH ROW EXECUTE FUNCTION m.fires()"]),
        Attack(
            testDescription: "a trigger of a table in another schema that a foreign key refers to",
            tables: """
                CREATE TABLE n.c (id integer PRIMARY KEY);
                CREATE TABLE m.b (id integer PRIMARY KEY, c integer NOT NULL REFERENCES n.c ON DELETE CASCADE)
                """,
            change: ["CREATE TRIGGER t BEFORE INSERT ON n.c FOR EACH ROW EXECUTE FUNCTION m.fires()"]),
        Attack(
            testDescription: "a constraint", tables: "CREATE TABLE m.b (id integer PRIMARY KEY)",
            change: ["ALTER TABLE m.b ADD CHECK (m.shoots(id::text)) NOT VALID"]),
        Attack(
            testDescription: "a constraint of a domain",
            tables: "CREATE DOMAIN m.d AS text; CREATE TABLE m.b (id integer PRIMARY KEY, v m.d DEFAULT 'x')",
            change: ["ALTER DOMAIN m.d ADD CHECK (m.shoots(value)) NOT VALID"]),
        Attack(
            testDescription: "a constraint of a domain in an array of composites",
            tables: """
                CREATE DOMAIN m.d AS text; CREATE TYPE m.e AS (v m.d);
                CREATE TABLE m.b (id integer PRIMARY KEY, v m.e[] DEFAULT '{(x)}')
                """,
            change: ["ALTER DOMAIN m.d ADD CHECK (m.shoots(value)) NOT VALID"]),
        Attack(
            testDescription: "a constraint of a domain that a range is of",
            tables: """
                CREATE DOMAIN m.d AS integer; CREATE TYPE m.e AS RANGE (subtype = m.d);
                CREATE TABLE m.b (id integer PRIMARY KEY, v m.e DEFAULT '[1,2)')
                """,
            change: ["ALTER DOMAIN m.d ADD CHECK (m.shoots(value::text)) NOT VALID"]),
        Attack(
            testDescription: "an attribute of a composite type",
            tables: """
                CREATE TYPE m.e AS (v text);
                CREATE TABLE m.b (id integer PRIMARY KEY, v m.e DEFAULT '(x)'); INSERT INTO m.b VALUES (1, '(x)')
                """,
            change: [
                "CREATE DOMAIN m.d AS text CHECK (m.shoots(value))", "ALTER TYPE m.e DROP ATTRIBUTE v",
                "ALTER TYPE m.e ADD ATTRIBUTE v m.d",
            ]),
        Attack(
            testDescription: "a domain under the name of a type",
            tables: "CREATE TYPE m.e AS ENUM ('x'); CREATE TABLE m.b (id integer PRIMARY KEY, v m.e DEFAULT 'x')",
            change: ["ALTER TYPE m.e RENAME TO f", "CREATE DOMAIN m.e AS text CHECK (m.shoots(value))"]),
        Attack(
            testDescription: "a table under the name of another", tables: "CREATE TABLE n.b (id integer PRIMARY KEY)",
            change: [
                "ALTER SCHEMA n RENAME TO o", "CREATE SCHEMA n", "CREATE TABLE n.b (id integer PRIMARY KEY)",
                "CREATE TRIGGER t BEFORE INSERT ON n.b FOR EACH ROW EXECUTE FUNCTION m.fires()",
            ]),
        Attack(
            testDescription: "a cast",
            tables: """
                CREATE TYPE m.e AS ENUM ('x'); CREATE TABLE m.b (id integer PRIMARY KEY, v text DEFAULT 'x'::m.e);
                """,
            change: [
                "CREATE FUNCTION m.cast(v m.e) RETURNS text LANGUAGE sql AS $$ SELECT m.shoots('x')::text $$",
                "CREATE CAST (m.e AS text) WITH FUNCTION m.cast AS ASSIGNMENT",
            ]),
        Attack(
            testDescription: "an operator that fits better",
            tables: """
                CREATE TYPE m.e AS ENUM ('x', 'y'); CREATE TABLE m.b (id integer PRIMARY KEY, v m.e CHECK (v <> 'y'))
                """,
            change: [
                "CREATE FUNCTION m.unlike(v m.e, w m.e) RETURNS boolean LANGUAGE sql AS $$ SELECT m.shoots('x') $$",
                "CREATE OPERATOR m.<> (LEFTARG = m.e, RIGHTARG = m.e, FUNCTION = m.unlike)",
            ]),
    ]

    @Test(.database, arguments: attacks) func `what is made meanwhile does not run as a superuser`(
        _ attack: Attack
    ) async throws {
        let database = try TestDatabase.current
        let role = "racer_\(UUID().uuidString.prefix(8).lowercased())"
        let marker = "/tmp/reeve-race-\(UUID().uuidString.prefix(8))"
        try await database.execute(
            "CREATE ROLE \(role) LOGIN", "GRANT CREATE ON DATABASE \(database.name) TO \(role)",
            "CREATE SCHEMA m AUTHORIZATION \(role)", "CREATE SCHEMA n AUTHORIZATION \(role)")
        var settings = database.plainSettings
        settings.parameters["user"] = role
        try await Connection.opened(settings) { attacker in
            try await attacker.with {
                _ = try $0.execute(
                    """
                    CREATE TABLE m.go (now boolean);
                    CREATE FUNCTION m.waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                        WHILE NOT EXISTS (SELECT FROM m.go) LOOP PERFORM pg_sleep(0.05); END LOOP; RETURN new; END $$;
                    CREATE TABLE m.a (id integer PRIMARY KEY);
                    CREATE TRIGGER w BEFORE INSERT ON m.a FOR EACH ROW EXECUTE FUNCTION m.waits();
                    \(attack.tables)
                    """)
            }
            async let trial = database.with { connection in
                try LiveTrial(CatalogReader(.schemas(["m", "n"])), trusting: [role]).run(on: connection)
            }
            try await Self.waitForTrial(database)
            let changes =
                [
                    """
                    CREATE FUNCTION m.shoots(a text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
                        COPY (SELECT 1) TO PROGRAM 'touch \(marker)'; RETURN true;
                        EXCEPTION WHEN insufficient_privilege THEN RETURN true; END $$
                    """,
                    """
                    CREATE FUNCTION m.fires() RETURNS trigger LANGUAGE plpgsql AS
                        $$ BEGIN PERFORM m.shoots('x'); RETURN new; END $$
                    """,
                ] + attack.change
            try await attacker.with { connection in
                try connection.execute("SET lock_timeout = '500ms'")
                // What is refused is not made.
                for change in changes { _ = try? connection.execute(change) }
                try connection.execute("INSERT INTO m.go VALUES (true)")
            }
            let report = try await trial
            let wasShot = FileManager.default.fileExists(atPath: marker)
            try? FileManager.default.removeItem(atPath: marker)
            #expect(!wasShot)
            #expect(report.failures == [])
            #expect(report.held.map(\.description).contains("m.a.a_pkey"))
        }
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    private static func waitForTrial(_ database: TestDatabase) async throws {
        let sql = """
            SELECT count(*) FROM pg_catalog.pg_stat_activity
            WHERE datname = current_database() AND wait_event = 'PgSleep'
            """
        try await Connection.opened(database.plainSettings) { connection in
            try await waitUntil("the trial comes to the first table") {
                try await connection.value(sql, as: Int.self) > 0
            }
        }
    }

    @Test(.database) func `a table that is being changed is left out, and the others are tried`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE SCHEMA m", "CREATE TABLE m.a (id integer PRIMARY KEY)", "CREATE TABLE m.b (id integer PRIMARY KEY)",
            "CREATE TABLE m.p (id integer PRIMARY KEY) PARTITION BY LIST (id)",
            "CREATE TABLE m.q PARTITION OF m.p DEFAULT")
        try await Connection.opened(database.plainSettings) { other in
            try await other.with { _ = try $0.execute("BEGIN; LOCK TABLE m.b, m.q IN SHARE ROW EXCLUSIVE MODE") }
            let report = try await database.with { connection in
                try LiveTrial(CatalogReader(.schemas(["m"]))).run(on: connection)
            }
            #expect(report.held.map(\.description) == ["m.a.a_pkey"])
            let reasons = Dictionary(
                uniqueKeysWithValues: report.untried.map { ($0.object.description, $0.reason) })
            #expect(Set(reasons.keys) == ["m.b.b_pkey", "m.p.p_pkey"])
            #expect(reasons["m.b.b_pkey"]?.hasPrefix("it cannot be locked: ") == true, "\(reasons)")
            #expect(reasons["m.p.p_pkey"]?.contains("cannot be locked: ") == true, "\(reasons)")
        }
    }

    @Test(.database) func `nobody is let into a schema while its tables are tried`() async throws {
        let database = try TestDatabase.current
        let role = "landlord_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute("CREATE ROLE \(role)", "CREATE SCHEMA m AUTHORIZATION \(role)")
        for (lock, isGrantRefused) in [(SchemaLock.definitions, true), (SchemaLock.names, false)] {
            try await Connection.opened(database.plainSettings) { other in
                try await other.with { _ = try $0.execute("BEGIN; \(lock)") }
                for (change, isRefused) in [
                    ("GRANT CREATE ON SCHEMA m TO PUBLIC", isGrantRefused), ("ALTER SCHEMA m RENAME TO n", true),
                ] {
                    let refusal = try await database.with { connection in
                        try connection.execute("SET lock_timeout = '300ms'; BEGIN")
                        defer { _ = try? connection.execute("ROLLBACK") }
                        do {
                            try connection.execute(change)
                            return ""
                        } catch let error as PostgresError { return error.sqlState ?? "" }
                    }
                    #expect(refusal == (isRefused ? "55P03" : ""), "\(change) beside \(lock)")
                }
            }
        }
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test(.database) func `rows come and go while the tables are locked`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE SCHEMA m", "CREATE TABLE m.a (id integer PRIMARY KEY)")
        try await Connection.opened(database.plainSettings) { other in
            try await other.with { _ = try $0.execute("BEGIN; INSERT INTO m.a VALUES (1); UPDATE m.a SET id = 2") }
            let report = try await database.with { connection in
                try LiveTrial(CatalogReader(.schemas(["m"]))).run(on: connection)
            }
            #expect(report.held.map(\.description) == ["m.a.a_pkey"] && report.untried == [])
        }
    }

    @Test(.database) func `a superuser draws from no sequence from which the table's owner may not`() async throws {
        let database = try TestDatabase.current
        let role = "drawer_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE SCHEMA m AUTHORIZATION \(role)", "CREATE SCHEMA ours",
            "GRANT USAGE ON SCHEMA ours TO \(role)", "CREATE SEQUENCE ours.numbers",
            """
            SET ROLE \(role);
            CREATE TABLE m.own (id serial PRIMARY KEY, a bigint DEFAULT nextval('m.own_id_seq'));
            CREATE TABLE m.named (id integer PRIMARY KEY, a bigint DEFAULT nextval('ours.numbers'));
            CREATE TABLE m.checked (id integer PRIMARY KEY, CHECK (nextval('ours.numbers') > 0));
            CREATE TABLE m.hidden (
                id integer PRIMARY KEY, a bigint DEFAULT nextval('m.own_id_seq') + nextval(('ours.num' || 'bers')::regclass));
            """)
        let report = try await database.with { connection in
            try connection.execute("RESET ROLE")
            return try LiveTrial(CatalogReader(.schemas(["m"])), trusting: [role]).run(on: connection)
        }
        #expect(report.held.map(\.description) == ["m.own.own_pkey"])
        #expect(Set(report.untried.compactMap(\.object.parent)) == ["named", "checked", "hidden"])
        let isUntouched: Bool = try await database.value("SELECT NOT is_called FROM ours.numbers")
        #expect(isUntouched)
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }
}

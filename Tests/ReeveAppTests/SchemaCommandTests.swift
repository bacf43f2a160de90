import Foundation
import Postgres
import Processes
import SQL
import TestSupport
import Testing

/// `reeve schema …` as a user runs it.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct SchemaCommandTests {
    private let state = "/tmp/reeve-schema-\(UUID().uuidString.prefix(8))"

    private func environment(_ fixture: MigrationFixture) -> [String: String] {
        ["REEVE_SYSTEMS": fixture.folder, "REEVE_STATE": state]
    }

    private func fixture() throws -> MigrationFixture {
        try MigrationFixture([
            "0001_orders.up.sql": """
            CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, total numeric NOT NULL CHECK (total > 0));
            CREATE FUNCTION double(a integer) RETURNS integer LANGUAGE sql AS 'SELECT a * 2';
            """
        ])
    }

    private func psql(_ sql: String, stops: Bool = true) async throws -> CommandOutcome {
        let folder = try #require(await ServerPrograms.installed().first)
        let script = "\(state)-mend.sql"
        try sql.write(toFile: script, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: script) }
        return try await Command(
            folder.path("psql"),
            ["-XqAt"] + (stops ? ["-1", "-v", "ON_ERROR_STOP=1"] : []) + [
                "-f", script, "-d", try TestDatabase.current.settings.uri,
            ]
        ).run()
    }

    @Test func `drift is told, mended and gone`() async throws {
        let fixture = try fixture()
        let database = try TestDatabase.current
        let environment = environment(fixture)
        defer { try? FileManager.default.removeItem(atPath: state) }
        #expect(
            try await ReeveBinary.run(["migrate", "up"], on: database.settings, environment: environment).succeeded)
        let good = try await ReeveBinary.json(["schema", "validate"], on: database.settings, environment: environment)
        #expect(good.status == .exited(0) && good.object["equal"] as? Bool == true)

        try await database.execute(
            "ALTER TABLE app.orders ADD COLUMN note text", "ALTER TABLE app.orders ALTER COLUMN total DROP NOT NULL",
            "CREATE OR REPLACE FUNCTION app.double(a integer) RETURNS integer LANGUAGE sql AS 'SELECT a * 3'")
        let bad = try await ReeveBinary.json(["schema", "validate"], on: database.settings, environment: environment)
        #expect(bad.status == .exited(3) && bad.object["equal"] as? Bool == false)
        let differences = try #require(bad.object["differences"] as? [[String: Any]])
        #expect(differences.count == 3)
        for one in differences {
            #expect(Set(one.keys) == ["system", "kind", "object", "property", "expected", "found", "mend", "loss"])
            #expect(one["system"] as? String == "app" && (one["mend"] as? String)?.isEmpty == false)
        }
        let text = try await ReeveBinary.run(["schema", "validate"], on: database.settings, environment: environment)
        #expect(
            text.output == """
                app: function app.double(integer): body is 'SELECT a * 3', not 'SELECT a * 2'
                app: column app.orders.note is in no migration
                app: column app.orders.total: not null is (default), not 'yes'
                3 differences

                """)
        let losses = differences.map { $0["loss"] as? String }
        #expect(losses == [nil, "no migration creates column app.orders.note", nil])
        #expect((differences[1]["mend"] as? String)?.contains("\n-- ALTER TABLE app.orders DROP COLUMN note;") == true)
        let harmless = try await ReeveBinary.run(
            ["schema", "validate", "--mend"], on: database.settings, environment: environment)
        #expect(harmless.output.contains("\n-- loses data: no migration creates column app.orders.note\n"))
        #expect(try await psql(harmless.output).succeeded)
        let rest = try await ReeveBinary.run(["schema", "validate"], on: database.settings, environment: environment)
        #expect(rest.output == "app: column app.orders.note is in no migration\n1 difference\n")
        let alone = try await ReeveBinary.run(
            ["schema", "validate", "--lossy"], on: database.settings, environment: environment)
        #expect(alone.ending == .exited(2), "\(alone.errorOutput)")
        let script = try await ReeveBinary.run(
            ["schema", "validate", "--mend", "--lossy"], on: database.settings, environment: environment)
        #expect(script.ending == .exited(3))
        let mended = try await psql(script.output)
        #expect(mended.succeeded, "\(mended.errorOutput)\n\(script.output)")
        let after = try await ReeveBinary.run(
            ["schema", "validate", "--live"], on: database.settings, environment: environment)
        #expect(after.ending == .exited(0) && after.output.hasPrefix("no difference\n"), "\(after.output)")
        #expect(after.output.contains("0 failed"))
    }

    @Test func `what is ignored is the property that is named, and no more`() async throws {
        let settings = try TestDatabase.current.settings
        let fixture = try MigrationFixture(["0001_a.up.sql": "CREATE TABLE t (a int);"])
        let file = "\(fixture.folder)/reeve.yaml"
        try "validate:\n  ignore:\n    \"table app.t: comment\": 'of the analysts: see there'\n".write(
            toFile: file, atomically: true, encoding: .utf8)
        let environment = ["REEVE_CONFIG": file, "REEVE_SYSTEMS": fixture.folder]
        _ = try await ReeveBinary.run(["migrate", "up"], on: settings, environment: environment)
        try await TestDatabase.current.execute(
            "COMMENT ON TABLE app.t IS 'x'", "GRANT SELECT ON app.t TO PUBLIC")
        let outcome = try await ReeveBinary.run(["schema", "validate"], on: settings, environment: environment)
        #expect(outcome.output.contains("table app.t: privileges of public are 'SELECT'"), "\(outcome)")
        #expect((outcome.output + outcome.errorOutput).contains("ignored: 1 difference"), "\(outcome)")
        let shown = try await ReeveBinary.run(["config", "show"], on: settings, environment: environment)
        #expect(shown.output.contains("table app.t: comment: of the analysts: see there"), "\(shown.output)")
    }

    @Test func `an edited file is told, and no drift of it`() async throws {
        let fixture = try fixture()
        let settings = try TestDatabase.current.settings
        let environment = environment(fixture)
        defer { try? FileManager.default.removeItem(atPath: state) }
        #expect(try await ReeveBinary.run(["migrate", "up"], on: settings, environment: environment).succeeded)
        try fixture.write("0001_orders.up.sql", "CREATE TABLE orders (id bigint);")
        let text = try await ReeveBinary.run(["schema", "validate"], on: settings, environment: environment)
        #expect(text.ending == .exited(3))
        #expect(text.output.hasPrefix("app/0001_orders was changed after it was applied"), "\(text.output)")
        #expect(text.output.hasSuffix("\nno difference to the applied migrations\n"), "\(text.output)")
        let report = try await ReeveBinary.json(["schema", "validate"], on: settings, environment: environment)
        let migrations = report.object["migrations"] as? [[String: Any]]
        #expect(report.status == .exited(3) && report.object["equal"] as? Bool == true)
        #expect(migrations?.first?["migration"] as? String == "0001_orders" && migrations?.count == 1)
        let script = try await ReeveBinary.run(
            ["schema", "validate", "--mend"], on: settings, environment: environment)
        #expect(script.output.isEmpty && script.errorOutput.contains("was changed after it was applied"))
        let run = try await ReeveBinary.json(["task", "run", "validate"], on: settings, environment: environment)
        let first = (run.object["runs"] as? [[String: Any]])?.first
        #expect(first?["message"] as? String == "1 difference, 1 new, 0 cleared")
    }

    /// As the README has it: psql goes on after an error.
    @Test func `a mend through psql loses no row`() async throws {
        let fixture = try MigrationFixture([
            "0001_visits.up.sql": """
            CREATE TABLE visits (at date NOT NULL, who text, code varchar(4), n numeric(6, 2)) PARTITION BY RANGE (at);
            CREATE TABLE visits_rest PARTITION OF visits DEFAULT;
            CREATE TABLE keepers (id integer PRIMARY KEY, name text, age integer);
            CREATE TYPE mood AS ENUM ('glad', 'sad');
            """
        ])
        let database = try TestDatabase.current
        let environment = environment(fixture)
        defer { try? FileManager.default.removeItem(atPath: state) }
        #expect(
            try await ReeveBinary.run(["migrate", "up"], on: database.settings, environment: environment).succeeded)
        try await database.execute(
            "CREATE TABLE app.visits_2024 PARTITION OF app.visits FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
            "ALTER TABLE app.visits_2024 ADD CHECK (who <> '')", "ALTER TABLE app.visits ALTER code TYPE text",
            "ALTER TABLE app.visits ALTER n TYPE numeric",
            "INSERT INTO app.visits VALUES ('2024-05-06', 'me', 'longer', 1.2345), ('2026-01-01', 'you', 'x', 2)",
            // Expected between two columns, so the table is created again.
            "ALTER TABLE app.keepers DROP COLUMN name", "ALTER TABLE app.keepers ADD COLUMN title text",
            "INSERT INTO app.keepers VALUES (1, 30, 'Dr')",
            "CREATE TABLE app.extra (id integer, mood app.mood, visitor integer REFERENCES app.keepers)",
            "INSERT INTO app.extra VALUES (1, 'glad', 1)", "ALTER TYPE app.mood ADD VALUE 'mad'",
            "CREATE VIEW app.extras AS SELECT * FROM app.extra",
            "CREATE MATERIALIZED VIEW app.counts AS SELECT count(*) FROM app.extra", "CREATE SEQUENCE app.numbers")
        let state = """
            SELECT (SELECT string_agg(v::text, ';' ORDER BY at) FROM app.visits v)
                || (SELECT string_agg(e::text, ';') FROM app.extra e) || (SELECT string_agg(k::text, ';') FROM app.keepers k)
                || (SELECT last_value FROM app.numbers)
            """
        let before: String = try await database.value(state)
        let script = try await ReeveBinary.run(
            ["schema", "validate", "--mend"], on: database.settings, environment: environment)
        let outcome = try await psql(script.output)
        #expect(outcome.succeeded, "\(outcome.errorOutput)\n\(script.output)")
        #expect(try await database.value(state) == before, "\(script.output)")
        #expect(!script.output.uppercased().contains("CASCADE"))
        let left = try await ReeveBinary.run(["schema", "validate"], on: database.settings, environment: environment)
        // What loses nothing is done: the constraint and the views are gone.
        #expect(
            !left.output.contains("constraint") && !left.output.contains("view"), "\(left.output)\n\(script.output)")
        let whole = try await ReeveBinary.run(
            ["schema", "validate", "--mend", "--lossy"], on: database.settings, environment: environment)
        let rough = try await psql(whole.output)
        #expect(rough.succeeded, "\(rough.errorOutput)\n\(whole.output)")
        let end = try await ReeveBinary.run(["schema", "validate"], on: database.settings, environment: environment)
        #expect(end.output == "no difference\n")
    }

    /// A statement of a rebuilt table that fails leaves the table as it was, though psql goes on.
    @Test func `a table whose rows do not fit is left as it was`() async throws {
        let fixture = try MigrationFixture([
            "0001_a.up.sql": "CREATE TABLE a (id integer, number integer NOT NULL, name text);"
        ])
        let database = try TestDatabase.current
        let environment = environment(fixture)
        defer { try? FileManager.default.removeItem(atPath: state) }
        #expect(
            try await ReeveBinary.run(["migrate", "up"], on: database.settings, environment: environment).succeeded)
        try await database.execute(
            "ALTER TABLE app.a DROP COLUMN number", "INSERT INTO app.a VALUES (1, 'x'), (2, 'y')")
        let script = try await ReeveBinary.run(
            ["schema", "validate", "--mend"], on: database.settings, environment: environment)
        #expect(script.output.contains("\nBEGIN;\n") && script.output.hasSuffix("\nCOMMIT;\n"), "\(script.output)")
        _ = try await psql(script.output, stops: false)
        let rows: Int = try await database.value("SELECT count(*) FROM app.a")
        #expect(rows == 2, "\(script.output)")
    }

    @Test func `tables of a role are tried by a superuser who trusts it`() async throws {
        let fixture = try fixture()
        let database = try TestDatabase.current
        let environment = environment(fixture)
        let role = "owner_\(UUID().uuidString.prefix(8).lowercased())"
        defer { try? FileManager.default.removeItem(atPath: state) }
        #expect(
            try await ReeveBinary.run(["migrate", "up"], on: database.settings, environment: environment).succeeded)
        try await database.execute("CREATE ROLE \(role)", "ALTER TABLE app.orders OWNER TO \(role)")
        let live = ["schema", "validate", "--live"]
        let reason = "it belongs to the role '\(role)', which is not trusted"
        let without = try await ReeveBinary.run(live, on: database.settings, environment: environment)
        #expect(without.output.contains(reason), "\(without.output)")
        let named = try await ReeveBinary.run(
            live + ["--trust", role], on: database.settings, environment: environment)
        let configured = try await ReeveBinary.run(
            live, on: database.settings, environment: environment.merging(["REEVE_TRUSTED_ROLES": role]) { $1 })
        for outcome in [named, configured] {
            #expect(outcome.output.contains("0 failed") && !outcome.output.contains("trusted"), "\(outcome.output)")
        }
        let alone = try await ReeveBinary.run(
            ["schema", "validate", "--trust", role], on: database.settings, environment: environment)
        #expect(alone.ending == .exited(2), "\(alone.errorOutput)")
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test func `names and texts forge no lines and move no cursor`() async throws {
        let fixture = try fixture()
        let database = try TestDatabase.current
        let environment = environment(fixture)
        defer { try? FileManager.default.removeItem(atPath: state) }
        #expect(
            try await ReeveBinary.run(["migrate", "up"], on: database.settings, environment: environment).succeeded)
        let end = "\nno difference\r\nno difference\u{1b}[2J\u{9b}2J\u{202e}"
        try await database.execute(
            "CREATE TABLE app.\(quoteIdentifier("x" + end)) (\(quoteIdentifier("y" + end)) integer)",
            "COMMENT ON TABLE app.orders IS \(quoteLiteral("z" + end))")
        let commands = [
            ["validate"], ["validate", "--live"], ["show"], ["show", "app.*"], ["diff", "main", fixture.folder],
        ]
        for command in commands {
            let outcome = try await ReeveBinary.run(
                ["schema"] + command, on: database.settings, environment: environment)
            let text = outcome.output + outcome.errorOutput
            #expect(text.contains("no difference"), "\(command)")
            #expect(!text.split(separator: "\n").contains { $0.hasPrefix("no difference") }, "\(command): \(text)")
            let hidden = text.unicodeScalars.filter {
                [.control, .format].contains($0.properties.generalCategory) && $0 != "\n"
            }
            #expect(hidden.isEmpty, "\(command): \(text.debugDescription)")
        }
    }

    @Test func `ignored differences are listed with their reasons, and an entry without one is refused`() async throws {
        let fixture = try fixture()
        let settings = try TestDatabase.current.settings
        var environment = environment(fixture)
        defer { try? FileManager.default.removeItem(atPath: state) }
        #expect(try await ReeveBinary.run(["migrate", "up"], on: settings, environment: environment).succeeded)
        try await TestDatabase.current.execute("CREATE TABLE app.import_7 (id integer)")
        let file = "\(state).yaml"
        try "validate:\n  ignore:\n    \"table app.import_*\": the nightly import\n".write(
            toFile: file, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: file) }
        environment["REEVE_CONFIG"] = file
        let report = try await ReeveBinary.json(["schema", "validate"], on: settings, environment: environment)
        #expect(report.status == .exited(0))
        #expect((report.object["ignored"] as? [[String: Any]])?.first?["reason"] as? String == "the nightly import")
        try "validate:\n  ignore:\n    \"table app.import_*\": \"\"\n".write(
            toFile: file, atomically: true, encoding: .utf8)
        let refused = try await ReeveBinary.run(["schema", "validate"], on: settings, environment: environment)
        #expect(refused.ending == .exited(2) && refused.errorOutput.contains("has no reason"))
    }

    @Test func `any two of a database, a folder and a snapshot are compared`() async throws {
        let fixture = try fixture()
        let database = try TestDatabase.current
        let environment = environment(fixture)
        let file = "\(state).snapshot"
        defer {
            try? FileManager.default.removeItem(atPath: state)
            try? FileManager.default.removeItem(atPath: file)
        }
        #expect(
            try await ReeveBinary.run(["migrate", "up"], on: database.settings, environment: environment).succeeded)
        let snapshot = try await ReeveBinary.run(
            ["schema", "snapshot"], on: database.settings, environment: environment)
        #expect(snapshot.output.hasPrefix("reeve schema snapshot 1\n"))
        try snapshot.output.write(toFile: file, atomically: true, encoding: .utf8)
        let url = database.settings.uri
        let sources = [file, fixture.folder, url, "main"]
        for first in sources {
            for second in sources where first != second {
                let equal = try await ReeveBinary.json(
                    ["schema", "diff", first, second], on: database.settings, environment: environment)
                #expect(equal.status == .exited(0), "\(first) \(second): \(equal.object)")
            }
        }
        try await database.execute("DROP FUNCTION app.double(integer)", "CREATE SCHEMA other")
        for source in [file, fixture.folder] {
            let missing = try await ReeveBinary.json(
                ["schema", "diff", source, "main"], on: database.settings, environment: environment)
            #expect(missing.status == .exited(3))
            let differences = try #require(missing.object["differences"] as? [[String: Any]])
            #expect(differences.map { $0["object"] as? String } == ["app.double(integer)"])
        }
        let script = try await ReeveBinary.run(
            ["schema", "diff", file, "main", "--mend"], on: database.settings, environment: environment)
        #expect(try await psql(script.output).succeeded)
        #expect(
            try await ReeveBinary.run(
                ["schema", "diff", file, "main"], on: database.settings, environment: environment
            ).ending == .exited(0))

        for (source, status) in [("postgresql://u:secret@h/d", 2), ("nonsense", 2), ("/nowhere/at/all", 2)] {
            let refused = try await ReeveBinary.run(
                ["schema", "diff", source, "main"], on: database.settings, environment: environment)
            #expect(refused.ending == .exited(Int32(status)), "\(source)")
            #expect(refused.errorOutput.contains("hint: ") && !refused.errorOutput.contains("secret"))
        }
        try "reeve schema snapshot 1\nserver: 15\n\nfrog app.x\n".write(toFile: file, atomically: true, encoding: .utf8)
        let broken = try await ReeveBinary.run(
            ["schema", "diff", file, "main"], on: database.settings, environment: environment)
        #expect(
            broken.ending == .exited(2)
                && broken.errorOutput.contains("\(file):4: 'frog app.x' does not name an object"))
    }

    @Test func `objects are listed, and shown with what belongs to them`() async throws {
        let fixture = try fixture()
        let settings = try TestDatabase.current.settings
        let environment = environment(fixture)
        defer { try? FileManager.default.removeItem(atPath: state) }
        #expect(try await ReeveBinary.run(["migrate", "up"], on: settings, environment: environment).succeeded)
        let list = try await ReeveBinary.run(["schema", "show"], on: settings, environment: environment)
        #expect(list.output.contains("table     app.orders\n"))
        let one = try await ReeveBinary.run(["schema", "show", "app.orders"], on: settings, environment: environment)
        #expect(one.output.hasPrefix("table app.orders\n") && one.output.contains("constraint app.orders.orders_pkey"))
        #expect(!one.output.contains("function"))
        let objects = try await ReeveBinary.json(
            ["schema", "show", "app.dou*"], on: settings, environment: environment)
        #expect((objects.object["objects"] as? [[String: Any]])?.count == 1)
        let none = try await ReeveBinary.run(["schema", "show", "app.nix"], on: settings, environment: environment)
        #expect(none.ending == .exited(2))
    }

    @Test func `the task writes its findings down, and the metric tells of them`() async throws {
        let fixture = try fixture()
        let database = try TestDatabase.current
        var environment = environment(fixture)
        defer { try? FileManager.default.removeItem(atPath: state) }
        #expect(
            try await ReeveBinary.run(["migrate", "up"], on: database.settings, environment: environment).succeeded)
        try await database.execute("ALTER TABLE app.orders ADD COLUMN note text")
        let run = try await ReeveBinary.json(
            ["task", "run", "validate"], on: database.settings, environment: environment)
        let first = try #require((run.object["runs"] as? [[String: Any]])?.first)
        #expect(first["message"] as? String == "1 difference, 1 new, 0 cleared")
        let open: Int = try await database.value("SELECT count(*) FROM reeve.findings WHERE cleared_at IS NULL")
        #expect(open == 1)

        let socket = "\(state).sock"
        environment["REEVE_HTTP_LISTEN"] = "unix:\(socket)"
        environment["REEVE_TASKS_ANALYZE_ENABLED"] = "no"
        let served = try RunningReeve(["serve"], environment: ReeveBinary.environment(database.settings, environment))
        @Sendable func metrics() -> String { UnixHTTP.get("/metrics", from: socket) ?? "" }
        let series = "reeve_schema_drift_objects{database=\"main\",system=\"app\",kind=\"column\"}"
        try await waitUntil("the metric tells of the drift") { metrics().contains("\(series) 1\n") }
        #expect(metrics().contains("reeve_schema_drift_objects{database=\"main\",system=\"app\",kind=\"table\"} 0\n"))
        try await database.execute("ALTER TABLE app.orders DROP COLUMN note")
        _ = try await ReeveBinary.run(["task", "run", "validate"], on: database.settings, environment: environment)
        try await waitUntil("the metric tells that it is gone") { metrics().contains("\(series) 0\n") }
        served.signal(SIGTERM)
        #expect(try await served.end() == 0)
    }
}

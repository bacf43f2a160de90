import Foundation
import Ledger
import Postgres
import Processes
import TestSupport
import Testing

/// The program as a user runs it: output, objects and exit statuses.
@Suite(.database, .timeLimit(.minutes(3)))
struct CommandTests {
    /// A pipe's reader shows it on a terminal, or a file is looked at on one.
    @Test func `messages to a pipe contain no control characters`() async throws {
        let outcome = try await ReeveBinary.run(["a\u{1b}[31mb\rc"])
        #expect(outcome.errorOutput.contains(#"a\u{1b}[31mb\u{d}c"#))
        #expect(!outcome.errorOutput.unicodeScalars.contains { $0 == "\u{1b}" || $0 == "\r" })
    }

    @Test func `a failed migration says what is committed, and where to correct it`() async throws {
        let settings = try TestDatabase.current.settings
        let fixture = try MigrationFixture([
            "0001_dups.up.sql": "CREATE TABLE dups AS SELECT 1 AS id FROM generate_series(1, 2);",
            "0002_more.up.sql":
                "CREATE TABLE more (a int);\nCREATE UNIQUE INDEX CONCURRENTLY u ON dups (id);\nSELECT 1/0;\nVACUUM more;",
        ])
        func up() async throws -> String {
            try await ReeveBinary.run(
                ["migrate", "up"], on: settings, environment: ["REEVE_SYSTEMS": fixture.folder]
            ).errorOutput
        }
        let first = try await up()
        #expect(first.contains("1 step of 4 of it is committed; correct the file from line 2 on"), "\(first)")
        // Without the statement that stood alone, the next one joins the first: it is not done with it.
        try fixture.write("0002_more.up.sql", "CREATE TABLE more (a int);\nSELECT 1/0;\nVACUUM more;")
        let second = try await up()
        #expect(second.contains("1 step of 3 of it is committed; correct the file from line 2 on"), "\(second)")
        try fixture.write("0002_more.up.sql", "CREATE TABLE more (a int);\nSELECT 1;\nVACUUM more;")
        #expect(try await !up().contains("error"))
    }

    @Test func `migrations from the command line, with their objects and exit codes`() async throws {
        let settings = try TestDatabase.current.settings
        let none = try await ReeveBinary.json(["migrate", "up"], on: settings)
        #expect(none.status == .exited(2))
        #expect(
            (none.object["error"] as? [String: Any])?["hint"] as? String
                == "name them with --system, REEVE_SYSTEMS or 'systems:' in reeve.yaml")
        let schemas: Int = try await TestDatabase.current.value(
            "SELECT count(*) FROM pg_namespace WHERE nspname = 'reeve'")
        #expect(schemas == 0)

        let status = try await ReeveBinary.json(["migrate", "status", "--system", "publisher"], on: settings)
        #expect(status.status == .exited(3))
        let dry = try await ReeveBinary.json(["migrate", "up", "--dry-run", "--system", "publisher"], on: settings)
        #expect(dry.status == .exited(3))
        let up = try await ReeveBinary.json(
            ["migrate", "up"], on: settings, environment: ["REEVE_SYSTEMS": "publisher"])
        #expect(up.status == .exited(0))
        #expect(
            (up.object["applied"] as? [[String: Any]])?.compactMap { $0["name"] as? String } == [
                "initial_schema", "operation",
            ])
        #expect(up.object["pending"] as? Int == 0)
        let done = try await ReeveBinary.json(["migrate", "status", "--system", "publisher"], on: settings)
        #expect(done.status == .exited(0))
        let system = try #require((done.object["systems"] as? [[String: Any]])?.first)
        #expect(system["system"] as? String == "publisher" && system["schema"] as? String == "publisher")
        let applied = try #require((system["applied"] as? [[String: Any]])?.first)
        #expect(Set(applied.keys) == ["version", "name", "applied_at"])
        #expect(
            try await ReeveBinary.run(["migrate", "verify", "--system", "publisher"], on: settings).ending == .exited(0)
        )

        let unconfirmed = try await ReeveBinary.json(
            ["migrate", "down", "--to", "0", "--system", "publisher", "--no-input"], on: settings)
        #expect(unconfirmed.status == .exited(6))
        let down = try await ReeveBinary.json(
            [
                "migrate", "down", "--to", "0", "--system", "publisher",
                "--confirm=\(settings.parameters["dbname"] ?? "")",
            ], on: settings)
        #expect((down.object["reverted"] as? [[String: Any]])?.count == 2)
        let audit = try await ReeveBinary.json(["audit", "verify"], on: settings)
        #expect(audit.object["intact"] as? Bool == true && audit.object["entries"] as? Int == 4)
    }

    @Test func `a system's schema can be chosen, and a required one cannot be taken away`() async throws {
        let settings = try TestDatabase.current.settings
        let environment = ["REEVE_SYSTEMS": "posters", "REEVE_SCHEMAS_POSTERS": "public"]
        #expect(try await ReeveBinary.run(["migrate", "up"], on: settings, environment: environment).succeeded)
        let there: Bool = try await TestDatabase.current.value("SELECT to_regclass('public.batch_jobs') IS NOT NULL")
        #expect(there)
        let refused = try await ReeveBinary.run(
            [
                "migrate", "down", "--to", "0", "--system", "platform",
                "--confirm=\(settings.parameters["dbname"] ?? "")",
            ], on: settings,
            environment: environment)
        #expect(refused.ending == .exited(1))
        #expect(refused.errorOutput.contains("is required by posters"))
        let moved = try await ReeveBinary.run(
            ["migrate", "up"], on: settings, environment: ["REEVE_SYSTEMS": "posters"])
        #expect(moved.ending == .exited(0) || moved.errorOutput.contains("schema"))
    }

    @Test func `a lock that is held past the wait is exit 5, a lost server 75, bad usage 2`() async throws {
        let settings = try TestDatabase.current.settings
        try await TestDatabase.current.connection { holder in
            let lock = try await holder.with { connection in
                try LedgerSchema.install(on: connection)
                return try LedgerLock.named("reeve migrations", on: connection)
            }
            #expect(try await lock.acquire(on: holder, wait: .zero))
            let locked = try await ReeveBinary.run(
                ["migrate", "up", "--system", "publisher", "--lock-wait", "200ms"], on: settings)
            #expect(locked.ending == .exited(5))
            #expect(locked.errorOutput.contains("hint: raise the limit with --lock-wait"))
        }
        var nobody = settings
        nobody.parameters["host"] = "/tmp/reeve-nobody"
        let lost = try await ReeveBinary.run(["migrate", "status", "--system", "publisher"], on: nobody)
        #expect(lost.ending == .exited(75))
        #expect(lost.errorOutput.contains("no server listens on the socket /tmp/reeve-nobody/.s.PGSQL."))
        let closed = try await ReeveBinary.run(
            ["migrate", "status", "--system", "publisher"],
            environment: ["DATABASE_URL": "postgresql://u@127.0.0.1:1/shop"])
        #expect(closed.ending == .exited(75))
        #expect(
            closed.errorOutput == """
                error: cannot connect to u@127.0.0.1:1/shop: no server listens on port 1 of 127.0.0.1
                hint: start PostgreSQL there, or correct the address: 'reeve config show' shows its origin

                """)
        #expect(try await ReeveBinary.run(["migrate", "upp"]).ending == .exited(2))
        #expect(
            try await ReeveBinary.run(["config", "check"], environment: ["REEVE_LOG_LEVEL": "loud"]).ending
                == .exited(2))
        let foreign = try await ReeveBinary.run(
            ["migrate", "status"], environment: ["DATABASE_URL": "postgresql+psycopg2://u:secret@h/d"])
        #expect(foreign.ending == .exited(2))
        #expect(!foreign.errorOutput.contains("secret"))
    }

    @Test func `a role that may not is exit 4`() async throws {
        let database = try TestDatabase.current
        let role = "r_\(database.name)"
        try await database.execute("CREATE ROLE \(role) LOGIN")
        var settings = database.settings
        settings.parameters["user"] = role
        let refused = try await ReeveBinary.run(["migrate", "up", "--system", "publisher"], on: settings)
        #expect(refused.ending == .exited(4))
        try await database.execute("DROP ROLE \(role)")
    }

    @Test func `sql split shows statements with their places`() async throws {
        let file = "/tmp/reeve-split-\(UUID().uuidString.prefix(8)).sql"
        try "-- one\nSELECT 1;\n  SELECT ';' ;\n".write(toFile: file, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: file) }
        let split = try await ReeveBinary.json(["sql", "split", file])
        let statements = try #require(split.object["statements"] as? [[String: Int]])
        #expect(statements == [["offset": 7, "length": 8, "line": 2], ["offset": 19, "length": 10, "line": 3]])
        try "SELECT '\u{1B}[31m'".write(toFile: file, atomically: true, encoding: .utf8)
        let text = try await ReeveBinary.run(["sql", "split", file]).output
        #expect(text.contains("SELECT '\\u{1b}[31m'"), "\(text)")
        try "SELECT 1;\n\\dt\n".write(toFile: file, atomically: true, encoding: .utf8)
        let refused = try await ReeveBinary.run(["sql", "split", file])
        #expect(refused.ending == .exited(1))
        #expect(refused.errorOutput.contains(":2:1: psql's meta-command \\dt"))
        #expect(try await ReeveBinary.run(["sql", "split", "/nowhere"]).ending == .exited(2))
    }

    @Test func `task next and task run`() async throws {
        let next = try await ReeveBinary.json(
            ["task", "next", "30 1 * * *", "--zone", "Europe/London", "--from", "2026-03-28T00:00:00Z", "--count", "2"])
        #expect(next.object["times"] as? [String] == ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z"])
        #expect(try await ReeveBinary.run(["task", "next", "61 * * * *"]).ending == .exited(2))
        let settings = try TestDatabase.current.settings
        let environment = ["REEVE_SYSTEMS": "publisher"]
        for task in ["migrate", "analyze"] {
            let run = try await ReeveBinary.json(["task", "run", task], on: settings, environment: environment)
            #expect(run.status == .exited(0))
            let record = try #require((run.object["runs"] as? [[String: Any]])?.first)
            #expect(record["state"] as? String == "succeeded" && record["reason"] as? String == "manual")
        }
        let history = try await ReeveBinary.json(["task", "history"], on: settings)
        #expect(
            (history.object["runs"] as? [[String: Any]])?.compactMap { $0["task"] as? String } == [
                "analyze", "migrate",
            ])
        #expect(try await ReeveBinary.run(["task", "run", "nope"], on: settings).ending == .exited(2))
        for arguments in [["run", "analyse"], ["history", "--task", "analyse"]] {
            let misspelt = try await ReeveBinary.run(["task"] + arguments, on: settings)
            #expect(misspelt.ending == .exited(2) && misspelt.errorOutput.contains("hint: did you mean 'analyze'"))
        }
        let misspelt = try await ReeveBinary.run(["migrate", "up", "--system", "pubisher"], on: settings)
        #expect(misspelt.errorOutput.contains("hint: did you mean 'publisher'"))
    }

    @Test func `migrate new makes the next files`() async throws {
        let fixture = try MigrationFixture(["0001_a.up.sql": "SELECT 1;"])
        let made = try await ReeveBinary.json(["migrate", "new", fixture.folder, "add_table"])
        #expect(
            made.object["files"] as? [String] == [
                "\(fixture.folder)/0002_add_table.up.sql", "\(fixture.folder)/0002_add_table.down.sql",
            ])
        #expect(try await ReeveBinary.run(["migrate", "new", fixture.folder, "views", "--repeatable"]).succeeded)
        #expect(FileManager.default.fileExists(atPath: "\(fixture.folder)/R__views.sql"))
    }

    @Test func `settings are shown with where they come from, and never a password`() async throws {
        let shown = try await ReeveBinary.run(
            ["config", "show"], environment: ["DATABASE_URL": "postgresql://u:s3cret@h/d", "REEVE_DRAIN": "5s"])
        #expect(shown.output.contains("u@h/d") && shown.output.contains("environment DATABASE_URL"))
        #expect(shown.output.contains("environment REEVE_DRAIN"))
        #expect(!shown.output.contains("s3cret"))
        let url = try await ReeveBinary.run(
            ["database", "url"], environment: ["DATABASE_URL": "postgresql://u:s3cret@h/d"])
        #expect(url.output == "postgresql://?dbname=d&host=h&user=u\n")
    }
}

import Foundation
import Hashing
import Postgres
import Processes
import SQL
import Storage
import TestSupport
import Testing

@testable import Backups

/// What somebody writes into a repository who may, to lead a restore or a removal elsewhere.
@Suite(.timeLimit(.minutes(2)))
struct HostileManifestTests {
    private static var part: [String: Any] {
        [
            "kind": "data", "object": "main/20260101T000000Z-1/data-1.dump.zst", "tables": ["public.t"], "bytes": 10,
            "sha256": String(repeating: "a", count: 64),
        ]
    }

    private static var good: [String: Any] {
        [
            "format": 2, "id": "20260101T000000Z-1", "database": "main", "source": "app", "reeve": "0.1.0",
            "server": 150_000, "pgDump": "15", "snapshot": "1", "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:00:01Z", "recipients": [String](), "tables": [[String: Any]](),
            "sequences": [[String: Any]](), "extensions": [String: String](), "tablespaces": [String](),
            "neededRoles": [String](), "locale": ["encoding": "UTF8", "collate": "C", "ctype": "C", "provider": "c"],
            "databaseBytes": 8_000_000, "catalog": "", "settings": ["ALTER DATABASE %database% SET work_mem TO '8MB'"],
            "roles": [String](), "parts": [part],
        ]
    }

    private func decode(_ change: (inout [String: Any]) -> Void) throws -> Manifest {
        var object = Self.good
        change(&object)
        let body = Array(try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys]))
        let bytes = body + Array("\n\(Digest.hex(Digest.of(body)))\n".utf8)
        return try Manifest.decode(bytes, object: "main/20260101T000000Z-1/manifest.json").manifest
    }

    @Test func `one that names its own is read`() throws {
        #expect(try decode { _ in }.parts.count == 1)
    }

    @Test func `one without parts is refused`() {
        #expect(throws: BackupError.self) { try decode { $0["parts"] = [[String: Any]]() } }
    }

    @Test(arguments: [
        "/etc/passwd", "../../etc/passwd", "main/../../x", "main/20260101T000000Z-1/..", "main//x", "main/./x",
        "other/20260101T000000Z-1/data-1.dump.zst", "main/x", "main/a/b/c", "main/a/\0b", "main/a/b\nc", "",
        "main/20260102T000000Z-1/manifest.json", "main/20260102T000000Z-1/proof.json",
        "main/\u{7f}/x", "main/a/\(String(repeating: "x", count: 1100))",
    ])
    func `a part that is not its own is refused`(object: String) {
        let error = #expect(throws: BackupError.self) {
            try decode { manifest in
                var part = Self.part
                part["object"] = object
                manifest["parts"] = [part]
            }
        }
        #expect(error?.description.utf8.contains { $0 < 32 } == false)
    }

    @Test(arguments: [
        ("id", "../x"), ("id", "20260102T000000Z-1"), ("database", "other"), ("startedAt", "2026\u{1b}[2J"),
        ("bytes", "9223372036854775807"), ("rows", "-1"), ("databaseBytes", "-5"),
        ("sha256", "abc"), ("sha256", "A\(String(repeating: "a", count: 63))"),
        ("sha256", "\(String(repeating: "a", count: 62))\u{e9}"), ("server", "0"), ("server", "10000000"),
    ])
    func `what cannot be is refused`(key: String, value: String) {
        #expect(throws: BackupError.self) {
            try decode { manifest in
                switch key {
                case "bytes":
                    var part = Self.part
                    part["bytes"] = Int(value)
                    manifest["parts"] = [part, part]
                case "sha256":
                    var part = Self.part
                    part["sha256"] = value
                    manifest["parts"] = [part]
                case "rows":
                    manifest["tables"] = [
                        ["schema": "s", "name": "t", "rows": -1, "digest": "", "definition": ""] as [String: Any]
                    ]
                default: manifest[key] = Int(value) ?? value
                }
            }
        }
    }

    @Test(arguments: [
        "DROP DATABASE app", "ALTER DATABASE %database% SET a TO '1'; DROP TABLE t",
        "ALTER DATABASE %database% SET a TO b", "ALTER DATABASE %database% SET search_path TO public; SELECT 1",
        "ALTER DATABASE %database% SET a TO E'\\n; SELECT 1 --'", "ALTER DATABASE %database% SET a TO 'x' 'y'",
        "ALTER ROLE a IN DATABASE postgres SET a TO '1'", "ALTER DATABASE %database% SET search_path TO \"a\"\", b",
        "ALTER DATABASE %database% OWNER TO x", "ALTER DATABASE %database% SET a TO 'b'\u{301}",
        "ALTER DATABASE %database% SET search_path TO a\nb", "alter database %database% set a to '1'",
        "ALTER DATABASE %database% SET search_path TO a,", "ALTER DATABASE %database% SET search_path TO a,,b",
    ])
    func `a setting that is something else is refused`(statement: String) {
        #expect(DatabaseSetting(statement) == nil)
        #expect(throws: BackupError.self) { try decode { $0["settings"] = [statement] } }
    }

    /// As the server splits a list of names, whatever stands in them (`SplitIdentifierString`).
    @Test(arguments: [
        ("f()", "'f()'"), ("a;b", "'a;b'"), ("a\\b", "E'a\\\\b'"), ("a'b", "'a''b'"), ("'a'", "'''a'''"),
        ("Ab , \"Ab\"\t,a\"b", "'ab', 'Ab', 'a\"b'"), ("\u{b}é", "'é'"),
    ])
    func `a list of names is written anew, each name as a literal`(list: String, written: String) {
        #expect(
            DatabaseSetting("ALTER DATABASE %database% SET search_path TO \(list)")?.statement(for: "d")
                == "ALTER DATABASE \"d\" SET \"search_path\" TO \(written)")
    }

    /// Only a superuser, the owner of the database and the role itself can mark a database as half restored.
    @Test(.database) func `no role that may create schemas stops the backups`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let role = "squat_\(UUID().uuidString.prefix(8).lowercased())"
        let mark = "\(UserSchemas.restorePrefix)wholedatabase"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE SCHEMA \(mark) AUTHORIZATION \(role)",
            "COMMENT ON SCHEMA \(mark) IS '20260101T000000Z-00000001'")
        #expect(try await database.with { try RestoreMark.backup(on: $0) } == nil)
        _ = try await vault.maker(database.settings).make()
        let owner: String = try await database.value("SELECT current_user::text")
        try await database.execute("ALTER DATABASE \(database.name) OWNER TO \(role)")
        #expect(try await database.with { try RestoreMark.backup(on: $0) } == "20260101T000000Z-00000001")
        let error = await #expect(throws: BackupError.self) { _ = try await vault.maker(database.settings).make() }
        if case .beingRestored? = error {} else { Issue.record("\(String(describing: error))") }
        try await database.execute(
            "ALTER DATABASE \(database.name) OWNER TO \(quoteIdentifier(owner))", "DROP SCHEMA \(mark)",
            "DROP ROLE \(role)")
    }

    @Test(.database) func `no role stops the backups by what it sets for itself`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let role = "odd_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE ROLE \(role) LOGIN")
        var settings = database.plainSettings
        settings.parameters["user"] = role
        try await Connection.opened(settings) { connection in
            try await connection.with { connection in
                for (name, value) in [("search_path", "a;b, 'c', \"D\" ,E"), ("local_preload_libraries", "a\",,b;")] {
                    try connection.query("SELECT set_config($1, $2, false)", [name, value])
                    try connection.execute(
                        "ALTER ROLE \(role) IN DATABASE \(database.name) SET \(name) FROM CURRENT")
                }
            }
        }
        // Bytes that are no text in this database, from one that has no encoding.
        let plain = "\(database.name)_ascii"
        try await TestCluster.runSQL(
            "CREATE DATABASE \(plain) TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
        let done = try await Command(
            "psql",
            [
                "-Xq", "-h", settings.parameters["host"] ?? "", "-p", settings.parameters["port"] ?? "", "-U", role,
                "-d", plain, "-c",
                #"""
                DO $$ BEGIN
                    EXECUTE E'ALTER ROLE \#(role) IN DATABASE \#(database.name) SET temp_tablespaces = "a\xff"';
                END $$
                """#,
            ]
        ).run()
        #expect(done.succeeded, "\(done.errorOutput)")
        try await TestCluster.runSQL("DROP DATABASE \(plain)")
        let manifest = try await vault.maker(database.settings).make().manifest
        #expect(manifest.settings.count == 1 && manifest.settings.first?.contains("a;b") == true)
        try await TestCluster.runSQL("ALTER ROLE \(role) IN DATABASE \(database.name) RESET temp_tablespaces")
        let made = try #require(manifest.settings.first.flatMap(DatabaseSetting.init))
        try await TestCluster.runSQL(made.statement(for: database.name))
        let found: [String] = try await database.value(
            "SELECT setconfig FROM pg_db_role_setting WHERE setrole = $1::regrole", [role])
        #expect(found.contains("search_path=\"a;b\", \"'c'\", \"D\", e"), "\(found)")
        try await TestCluster.runSQL("DROP ROLE \(role)")
    }

    @Test func `settings are made anew of their parts`() throws {
        func made(_ statement: String) throws -> String {
            try #require(DatabaseSetting(statement)).statement(for: "my db")
        }
        #expect(
            try made("ALTER ROLE \"odd \"\" one\" IN DATABASE %database% SET \"app.tenant\" TO 'it''s'")
                == "ALTER ROLE \"odd \"\" one\" IN DATABASE \"my db\" SET \"app.tenant\" TO 'it''s'")
        #expect(
            try made("ALTER DATABASE %database% SET search_path TO \"$user\", public, \"a, b\"")
                == "ALTER DATABASE \"my db\" SET \"search_path\" TO '$user', 'public', 'a, b'")
        #expect(try made("ALTER DATABASE %database% SET search_path TO \"\"").hasSuffix("TO ''"))
        #expect(try made("ALTER DATABASE %database% SET a TO E'b\\\\c'").hasSuffix("TO E'b\\\\c'"))
    }

    /// Whatever the server has, the statement says again.
    @Test(.database) func `settings come back as they were`() async throws {
        let database = try TestDatabase.current
        let name = quoteIdentifier(database.name)
        for setting in [
            "search_path TO \"$user\", \"odd, \"\"one\"\"\", public", "work_mem TO '9MB'",
            "\"app.x\" TO 'it''s \\ ''q'",
            "temp_tablespaces TO ''", "DateStyle TO 'ISO, DMY'", "application_name TO E'a\u{301}''b'",
        ] { try await database.execute("ALTER DATABASE \(name) SET \(setting)") }
        let before = try await database.with { try DatabaseContent.settings(on: $0).accepted }
        #expect(before.count == 6)
        try await database.execute("ALTER DATABASE \(name) RESET ALL")
        for setting in before {
            try await database.execute(try #require(DatabaseSetting(setting)).statement(for: database.name))
        }
        #expect(try await database.with { try DatabaseContent.settings(on: $0).accepted } == before)
    }

    @Test(arguments: [
        ("psql (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", true), ("psql (PostgreSQL) 15.13", false),
        ("psql (PostgreSQL) 13.22", true), ("psql (PostgreSQL) 17.5", false), ("psql (PostgreSQL) 18beta1", true),
        ("psql (PostgreSQL) 12.22", false), ("", false), ("psql (PostgreSQL) x", false),
    ])
    func `which psql can be kept from commands of its own`(version: String, can: Bool) {
        #expect(BackupTools.canRestrict(psql: version) == can)
    }

    /// The slices and the sequences of a backup are scripts, and who writes to the repository writes them.
    @Test(.database) func `a script runs nothing on this machine`() async throws {
        let database = try TestDatabase.current
        let marker = "/tmp/reeve-script-\(UUID().uuidString.prefix(8))"
        let tools = try await BackupTools.dumping(server: 150000)
        let arguments = await tools.restrictedScript()
        #expect(arguments.first == "-c")
        for (script, isWell) in [("SELECT 1;\n", true), ("SELECT 1;\n\\! touch \(marker)\n", false)] {
            let psql = try tools.command(
                "psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1"] + arguments, on: database.settings)
            let print = Command("printf", ["%s", script])
            var failed = false
            do { try await Pipeline([print, psql]).run { _ in } } catch is PipelineError { failed = true }
            #expect(failed != isWell)
        }
        #expect(!FileManager.default.fileExists(atPath: marker))
    }
}

import Foundation
import Postgres
import Processes
import TestSupport
import Testing

/// `reeve backup …` as a user runs it.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct BackupCommandTests {
    private let folder = "/tmp/reeve-backups-\(UUID().uuidString.prefix(8))"

    @Test func `a backup is made, listed, verified, proved and restored`() async throws {
        let database = try TestDatabase.current
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        chmod(folder, 0o755)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        var environment = ["REEVE_STATE": folder, "REEVE_BACKUP_REPOSITORY": "\(folder)/repository"]
        try await database.execute("CREATE TABLE t (id integer PRIMARY KEY, a text)", "INSERT INTO t VALUES (1, 'x')")
        func run(_ arguments: String...) async throws -> (object: [String: Any], status: CommandOutcome.Ending) {
            try await ReeveBinary.json(["backup"] + arguments, on: database.settings, environment: environment)
        }
        // A place is made a repository once, and by that alone.
        environment["REEVE_BACKUP_ENCRYPTION"] = "none"
        let unmade = try await run("create")
        #expect(unmade.status == .exited(1) && "\(unmade.object)".contains("reeve backup init"), "\(unmade.object)")
        #expect(!FileManager.default.fileExists(atPath: "\(folder)/repository"))
        environment["REEVE_BACKUP_ENCRYPTION"] = nil
        for isNew in [true, false] {
            let made = try await run("init")
            let repositories = try #require(made.object["repositories"] as? [[String: Any]])
            #expect(made.status == .exited(0) && repositories.map { $0["new"] as? Bool } == [isNew])
        }
        let unencrypted = try await run("create")
        #expect(unencrypted.status == .exited(2))
        let key = try await run("key", "new", "\(folder)/identity")
        environment["REEVE_BACKUP_RECIPIENTS"] = try #require(key.object["recipient"] as? String)
        let created = try await run("create")
        let backup = try #require(created.object["backup"] as? [String: Any])
        let id = try #require(backup["id"] as? String)
        #expect(Set(backup.keys).isSuperset(of: ["id", "database", "tables", "bytes", "started_at", "finished_at"]))
        let untested = try await run("list")
        #expect(((untested.object["backups"] as? [[String: Any]])?.first?["proven_at"] as? String) == nil)
        let verified = try await run("verify", "--all")
        #expect(verified.status == .exited(0))
        let closed = try await run("test")
        #expect(closed.status == .exited(2))
        let nowhere = try await run("test", "--identity", "\(folder)/none")
        #expect(nowhere.status == .exited(2))
        let mistake = (nowhere.object["error"] as? [String: Any])?["message"] as? String
        #expect(mistake == "--identity: \(folder)/none: No such file or directory")
        let proved = try await run("test", id, "--identity", "\(folder)/identity")
        #expect(proved.status == .exited(0) && proved.object["proved"] as? Bool == true, "\(proved.object)")
        #expect(
            Set(proved.object.keys) == [
                "backup", "database", "proved", "tables", "differences", "restore_seconds", "seconds", "not_compared",
            ])
        // What a restore never brings back is named.
        #expect((proved.object["not_compared"] as? [String])?.contains("the passwords of roles") == true)
        let listed = try await run("list")
        #expect(((listed.object["backups"] as? [[String: Any]])?.first?["proven_at"] as? String) != nil)
        let proven: Int = try await database.value("SELECT count(*) FROM reeve.backups WHERE proven_at IS NOT NULL")
        #expect(proven == 1)

        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let target = database.settings.database(name)
        let restored = try await run("restore", "latest", "--to", target.uri, "--identity", "\(folder)/identity")
        #expect(restored.status == .exited(0), "\(restored.object)")
        let rows = try await Connection.opened(target.plain) {
            try await $0.value("SELECT count(*) FROM t", as: Int.self)
        }
        #expect(rows == 1)
        let again = try await run(
            "restore", "latest", "--to", target.uri, "--identity", "\(folder)/identity", "--no-input")
        #expect(again.status == .exited(6))
        try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")

        let parts = try FileManager.default.contentsOfDirectory(atPath: "\(folder)/repository/main/\(id)")
        let data = try #require(parts.first { $0.hasPrefix("data-") })
        try FileManager.default.removeItem(atPath: "\(folder)/repository/main/\(id)/\(data)")
        let broken = try await run("verify")
        #expect(broken.status == .exited(3))
        let refuted = try await run("test", "--identity", "\(folder)/identity")
        #expect(refuted.status == .exited(3) && refuted.object["proved"] as? Bool == false)
    }

    /// By the page, with age, zstd, pg_restore and psql alone.
    @Test func `a backup is restored without reeve`() async throws {
        let database = try TestDatabase.current
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await database.execute(
            "CREATE TABLE t (id serial PRIMARY KEY, a text)", "INSERT INTO t (a) VALUES ('x'), ('y')",
            "CREATE INDEX t_a ON t (a)")
        var environment = ["REEVE_STATE": folder, "REEVE_BACKUP_REPOSITORY": "\(folder)/repository"]
        try initializeRepository("\(folder)/repository")
        let key = try await ReeveBinary.json(["backup", "key", "new", "\(folder)/identity"], environment: environment)
        environment["REEVE_BACKUP_RECIPIENTS"] = try #require(key.object["recipient"] as? String)
        let created = try await ReeveBinary.json(["backup", "create"], on: database.settings, environment: environment)
        let id = try #require((created.object["backup"] as? [String: Any])?["id"] as? String)
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let target = database.settings.database(name)
        let programs = try #require(await ServerPrograms.installed().first)
        let script = """
            set -euo pipefail
            cd \(folder)/repository
            [ "$(head -n 1 main/\(id)/manifest.json | tr -d '\\n' | sha256sum | cut -d' ' -f1)" = "$(tail -n 1 main/\(id)/manifest.json)" ]
            python3 -c 'import json; [print(p["sha256"], "", p["object"]) for p in json.loads(open("main/\(id)/manifest.json").readline())["parts"]]' | sha256sum -c --quiet
            open_part() { age -d -i \(folder)/identity "$1" | zstd -d; }
            restore() { open_part "$1" | \(programs.path("pg_restore")) --exit-on-error -d "\(target.uri)"; }
            restore main/\(id)/schema-before.dump.zst.age
            for part in main/\(id)/data-*.dump.zst.age; do restore "$part"; done
            open_part main/\(id)/sequences.sql.zst.age | \(programs.path("psql")) -X -q -v ON_ERROR_STOP=1 -d "\(target.uri)"
            restore main/\(id)/schema-after.dump.zst.age
            """
        let outcome = try await Command("bash", ["-c", script]).run(limit: .seconds(60))
        #expect(outcome.succeeded, "\(outcome.errorOutput)")
        let rows = try await Connection.opened(target.plain) {
            try await $0.value("SELECT count(*) FROM t", as: Int.self)
        }
        let next = try await Connection.opened(target.plain) {
            try await $0.value("INSERT INTO t (a) VALUES ('z') RETURNING id", as: Int.self)
        }
        #expect(rows == 2 && next == 3)
        try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
    }
}

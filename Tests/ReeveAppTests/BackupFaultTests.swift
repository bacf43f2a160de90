import Foundation
import Postgres
import Processes
import TestSupport
import Testing

/// Repositories that lag behind or are away, programs that do not do what they say, and what is said of it.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct BackupFaultTests {
    /// A folder with repositories, and programs that stand before the real ones in PATH.
    private final class Place: Sendable {
        let folder = "/tmp/reeve-faults-\(UUID().uuidString.prefix(8))"
        let programs: String

        init() async throws {
            programs = try #require(await ServerPrograms.installed().first).folder
            try FileManager.default.createDirectory(atPath: "\(folder)/bin", withIntermediateDirectories: true)
            chmod(folder, 0o755)
        }

        deinit { try? FileManager.default.removeItem(atPath: folder) }

        /// Puts a script in the place of a program.
        func program(_ name: String, _ script: String) throws {
            let path = "\(folder)/bin/\(name)"
            try "#!/bin/sh\n\(script)\n".write(toFile: path, atomically: true, encoding: .utf8)
            chmod(path, 0o755)
        }

        /// All of PostgreSQL's programs as they are, so that one of them can be replaced.
        func linkPrograms() throws {
            for name in ["initdb", "postgres", "pg_ctl", "pg_dump", "pg_dumpall", "pg_restore", "psql"] {
                try program(name, "exec \(programs)/\(name) \"$@\"")
            }
        }

        func environment(_ repositories: String..., more: [String: String] = [:]) -> [String: String] {
            for repository in repositories { try? initializeRepository("\(folder)/\(repository)") }
            return [
                "REEVE_STATE": folder, "REEVE_BACKUP_ENCRYPTION": "none", "REEVE_BACKUP_CHECK_ROOM": "false",
                "REEVE_BACKUP_REPOSITORY": repositories.map { "\(folder)/\($0)" }.joined(separator: ","),
                "PATH": "\(folder)/bin:\(ProcessInfo.processInfo.environment["PATH"] ?? "")",
            ].merging(more) { $1 }
        }
    }

    private func run(
        _ environment: [String: String], _ arguments: String...
    ) async throws -> CommandOutcome {
        try await ReeveBinary.run(arguments, on: TestDatabase.current.settings, environment: environment)
    }

    private func id(_ outcome: CommandOutcome) throws -> String {
        try #require(outcome.succeeded, "\(outcome.errorOutput)")
        return String(try #require(outcome.output.split(separator: ":").first))
    }

    /// Lends a database of its own beside that of the test.
    private func beside<T: Sendable>(_ body: @Sendable (ConnectionSettings) async throws -> T) async throws -> T {
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        let target = try TestDatabase.current.settings.database(name)
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let result: Result<T, any Error>
        do { result = .success(try await body(target)) } catch { result = .failure(error) }
        try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
        return try result.get()
    }

    private func rows(_ target: ConnectionSettings, _ sql: String = "SELECT count(*) FROM t") async throws -> Int {
        try await Connection.opened(target.plain) { try await $0.value(sql, as: Int.self) }
    }

    // MARK: Several repositories

    @Test func `the latest backup is the newest of all repositories`() async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        try await database.execute("CREATE TABLE t AS SELECT 1 AS a")
        let lagging = place.environment("a")
        let old = try id(try await run(lagging, "backup", "create"))
        try await database.execute("INSERT INTO t VALUES (2)")
        let new = try id(try await run(place.environment("b"), "backup", "create"))
        let both = place.environment("a", "b")
        let shown = try await run(both, "backup", "show", "latest")
        #expect(shown.output.hasPrefix(new), "\(old): \(shown.output)")
        try await beside { target in
            let restored = try await run(both, "backup", "restore", "latest", "--to", target.uri)
            #expect(restored.succeeded, "\(restored.errorOutput)")
            let count = try await rows(target)
            #expect(count == 2)
        }
        try await beside { target in
            let restored = try await run(
                both, "backup", "restore", "--as-of", "2100-01-01T00:00:00Z", "--to", target.uri)
            #expect(restored.output.contains(new), "\(restored.errorOutput)")
        }
        let tested = try await run(both, "task", "run", "restore-test")
        #expect((tested.output + tested.errorOutput).contains(new), "\(tested.output) \(tested.errorOutput)")
        let recovered = try await run(both, "recover", "--dry-run")
        #expect(recovered.output.contains(new), "\(recovered.output)")
        let older = ["recover", "--dry-run", "--repository", "\(place.folder)/a"]
        let refused = try await ReeveBinary.run(older, on: TestDatabase.current.settings, environment: both)
        #expect(refused.ending == .exited(3) && refused.errorOutput.contains("add --allow-older"), "\(refused)")
        let only = try await run(both, "recover", "--dry-run", "--repository", "\(place.folder)/a", "--allow-older")
        #expect(only.output.contains(old), "\(only.output) \(only.errorOutput)")
        // One that is in both is read from the first.
        let third = try id(try await run(both, "backup", "create"))
        try FileManager.default.removeItem(atPath: "\(place.folder)/b")
        // One that does not answer is said, and the others serve.
        try "".write(toFile: "\(place.folder)/b", atomically: true, encoding: .utf8)
        let less = try await run(both, "backup", "show", "latest")
        #expect(less.output.hasPrefix(third), "\(less.output)")
        #expect(less.errorOutput.contains("\(place.folder)/b"), "\(less.errorOutput)")
    }

    @Test func `a repository without a backup is a finding, and the others are verified`() async throws {
        let place = try await Place()
        _ = try id(try await run(place.environment("a"), "backup", "create"))
        let both = place.environment("a", "b")
        for order in [both, place.environment("b", "a")] {
            let verified = try await run(order, "backup", "verify")
            #expect(verified.ending == .exited(3), "\(verified.output) \(verified.errorOutput)")
            #expect(verified.output.contains("\(place.folder)/b does not contain this backup"), "\(verified.output)")
            #expect(!verified.output.contains("\n0 parts"), "\(verified.output)")
        }
        let none = try await run(place.environment("c"), "backup", "verify")
        #expect(none.ending == .exited(2))
    }

    @Test func `what prune cannot look at is no success`() async throws {
        let place = try await Place()
        let environment = place.environment("a")
        let made = try id(try await run(environment, "backup", "create"))
        try "{}".write(toFile: "\(place.folder)/a/main/\(made)/manifest.json", atomically: true, encoding: .utf8)
        let damaged = try await run(environment, "backup", "prune", "--dry-run")
        #expect(damaged.ending == .exited(1), "\(damaged.output)")
        #expect(damaged.errorOutput.contains("is not a valid manifest"), "\(damaged.errorOutput)")
        try FileManager.default.removeItem(atPath: "\(place.folder)/a/main/\(made)/manifest.json")
        try FileManager.default.createDirectory(
            atPath: "\(place.folder)/other", withIntermediateDirectories: true)
        try "".write(toFile: "\(place.folder)/b", atomically: true, encoding: .utf8)
        let away = try await run(place.environment("a", "b"), "backup", "prune", "--dry-run")
        #expect(away.ending == .exited(1), "\(away.output)")
    }

    // MARK: Programs that do not do what they say

    /// Each ends with 0.
    @Test(arguments: [
        ("zstd", "cat >/dev/null"), ("zstd", "exit 0"), ("zstd", "cat"), ("age", "cat >/dev/null"),
        ("age", "exec /usr/bin/age \"$@\" </dev/null"),
        ("age", "/usr/bin/age \"$@\" | head -c 260; cat >/dev/null"), ("pg_dump", "exit 0"),
        ("pg_dump", "echo nothing"), ("pg_dump", "PROGRAMS/pg_dump \"$@\" | head -c 900; exit 0"),
        ("pg_dumpall", "PROGRAMS/pg_dumpall \"$@\" | head -c 200; exit 0"),
    ])
    func `a program that says that all is well, and has not done it, fails the backup`(
        program: String, script: String
    ) async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        let key = try await ReeveBinary.json(["backup", "key", "new", "\(place.folder)/identity"])
        let environment = place.environment(
            "a",
            more: [
                "REEVE_BACKUP_ENCRYPTION": "age",
                "REEVE_BACKUP_RECIPIENTS": try #require(key.object["recipient"] as? String),
            ])
        try await database.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")
        try place.linkPrograms()
        let real = "\(program.hasPrefix("pg") ? place.programs : "/usr/bin")/\(program)"
        let version = "case \"$*\" in *--version*|*-V*) exec \(real) \"$@\";; esac\n"
        try place.program(program, version + script.replacing("PROGRAMS", with: place.programs))
        let made = try await run(environment, "backup", "create")
        #expect(made.ending == .exited(1), "\(made.output)")
        #expect(made.errorOutput.contains("\(program)"), "\(made.errorOutput)")
        let left = FileManager.default.enumerator(atPath: "\(place.folder)/a")?.allObjects ?? []
        #expect(left.allSatisfy { ["main", "main/owner.json", "repository.json"].contains("\($0)") }, "\(left)")
    }

    @Test func `what an earlier backup has lost is not referred to once a test has shown it`() async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        let environment = place.environment("a")
        try await database.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")
        let first = try id(try await run(environment, "backup", "create"))
        let folder = "\(place.folder)/a/main/\(first)"
        // What stands for any change that keeps the size.
        let data = try #require(
            try FileManager.default.contentsOfDirectory(atPath: folder).first { $0.hasPrefix("data-") })
        var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(data)")))
        for index in 20..<40 { bytes[index] ^= 0xFF }
        try Data(bytes).write(to: URL(fileURLWithPath: "\(folder)/\(data)"))
        let second = try id(try await run(environment, "backup", "create"))
        let refuted = try await run(environment, "backup", "test", first)
        #expect(refuted.ending == .exited(3), "\(refuted.output)")
        let third = try id(try await run(environment, "backup", "create"))
        for (id, refers) in [(second, true), (third, false)] {
            let manifest = try String(
                contentsOfFile: "\(place.folder)/a/main/\(id)/manifest.json", encoding: .utf8)
            #expect(manifest.contains("main/\(first)/") == refers, "\(id)")
        }
        let proved = try await run(environment, "backup", "test", third)
        #expect(proved.succeeded, "\(proved.output)")
    }

    @Test func `verify opens what is not encrypted, and says what it has not opened`() async throws {
        let place = try await Place()
        let environment = place.environment("a")
        let made = try id(try await run(environment, "backup", "create"))
        let well = try await run(environment, "backup", "verify")
        #expect(well.succeeded && !well.output.contains("not unpacked"), "\(well.output)")
        // The task has the same summary as the command.
        let whole = environment.merging(["REEVE_BACKUP_VERIFY_PERCENT": "100"]) { $1 }
        let task = try await run(whole, "task", "run", "verify")
        let summary = well.output.trimmingCharacters(in: .newlines)
        #expect(task.succeeded && task.output.contains(summary), "\(task.output) \(summary)")
        // A part that holds nothing, with a hash and a size that fit.
        let empty = try await Command(
            "sh",
            [
                "-c",
                """
                set -e; cd "$0/a"; part=$(ls main/\(made)/*.dump.zst | head -n 1); zstd -q </dev/null >"$part"
                python3 - "$part" main/\(made)/manifest.json <<'END'
                import hashlib, json, os, sys
                part, path = sys.argv[1:]
                manifest = json.loads(open(path).readline())
                for one in manifest["parts"]:
                    if one["object"] == part:
                        one["bytes"] = os.path.getsize(part)
                        one["sha256"] = hashlib.sha256(open(part, "rb").read()).hexdigest()
                body = json.dumps(manifest, separators=(",", ":"))
                open(path, "w").write(body + "\\n" + hashlib.sha256(body.encode()).hexdigest() + "\\n")
                END
                """, place.folder,
            ]
        ).run()
        try #require(empty.succeeded, "\(empty.errorOutput)")
        let found = try await run(environment, "backup", "verify")
        #expect(found.ending == .exited(3), "\(found.output)")
        let foundByTask = try await run(whole, "task", "run", "verify", "--json")
        let problem = try #require(found.output.split(separator: "\n").first)
        #expect(foundByTask.ending == .exited(1), "\(foundByTask.output)")
        #expect(foundByTask.output.contains(problem), "\(foundByTask.output) \(problem)")
        let key = try await ReeveBinary.json(["backup", "key", "new", "\(place.folder)/identity"])
        let encrypted = place.environment(
            "e",
            more: [
                "REEVE_BACKUP_ENCRYPTION": "age",
                "REEVE_BACKUP_RECIPIENTS": try #require(key.object["recipient"] as? String),
            ])
        _ = try id(try await run(encrypted, "backup", "create"))
        let closed = try await run(encrypted, "backup", "verify")
        #expect(closed.succeeded && closed.output.contains("not unpacked"), "\(closed.output)")
        let opened = try await run(encrypted, "backup", "verify", "--identity", "\(place.folder)/identity")
        #expect(opened.succeeded && !opened.output.contains("not unpacked"), "\(opened.output)")
    }

    @Test func `invented backups and proofs push out none that is there`() async throws {
        let place = try await Place()
        let environment = place.environment("a")
        let made = try id(try await run(environment, "backup", "create"))
        let file = "\(place.folder)/a/main/\(made)/manifest.json"
        // With times in the future, and with those of now.
        for date in ["2099-01-01", ""] {
            let invented = try await Command("python3", ["-c", Self.invention, "\(place.folder)/a", made, date]).run()
            try #require(invented.succeeded, "\(invented.errorOutput)")
            let pruned = try await run(environment, "backup", "prune", "--confirm", "main")
            #expect(FileManager.default.fileExists(atPath: file), "\(pruned.output)")
            #expect(pruned.errorOutput.contains("2099") == !date.isEmpty, "\(pruned.errorOutput)")
            #expect(pruned.ending == .exited(date.isEmpty ? 0 : 1), "\(pruned.output) \(pruned.errorOutput)")
            for name in try FileManager.default.contentsOfDirectory(atPath: "\(place.folder)/a/main")
            where name.hasSuffix("-invented") {
                try FileManager.default.removeItem(atPath: "\(place.folder)/a/main/\(name)")
            }
        }
        // What was not tested is not proven, although the ledger knows it.
        let untested = try await run(environment, "backup", "prune", "--dry-run")
        #expect(untested.output.contains("no backup has been proven yet"), "\(untested.output)")
        // What was tested is proven.
        _ = try await run(environment, "backup", "test", made)
        let kept = try await run(environment, "backup", "prune", "--dry-run")
        #expect(kept.succeeded && kept.output.contains("the newest proven backup"), "\(kept.output)")
    }

    @Test func `what is proven in one repository is not proven in another`() async throws {
        let place = try await Place()
        let (one, both) = (place.environment("a"), place.environment("a", "b"))
        let made = try id(try await run(both, "backup", "create"))
        let tested = try await run(one, "backup", "test", made)
        try #require(tested.succeeded, "\(tested.output)")
        for (name, reason) in [("a", "the newest proven backup"), ("b", "no backup has been proven yet")] {
            let kept = try await run(place.environment(name), "backup", "prune", "--dry-run")
            #expect(kept.succeeded && kept.output.contains(reason), "\(name): \(kept.output)")
        }
    }

    /// Writes four manifests with proofs: the folder, the backup that they are made after, and their date; none: today.
    private static let invention = """
        import datetime, hashlib, json, os, sys
        folder, made, date = sys.argv[1:]
        manifest = json.loads(open(f"{folder}/main/{made}/manifest.json").readline())
        now = datetime.datetime.now(datetime.timezone.utc)
        for number in range(4):
            manifest["id"] = f"29990101T00000{number}Z-invented"
            time = f"{date}T00:00:0{number}Z" if date else now.strftime(f"%Y-%m-%dT%H:%M:%S.{number}99Z")
            manifest["startedAt"] = manifest["finishedAt"] = time
            body = json.dumps(manifest, separators=(",", ":"))
            beside = f"{folder}/main/{manifest['id']}/"
            os.mkdir(beside)
            open(beside + "manifest.json", "w").write(body + "\\n" + hashlib.sha256(body.encode()).hexdigest() + "\\n")
            json.dump({"backup": manifest["id"], "isProved": True, "tables": 1, "differences": [], "restoreSeconds": 1,
                "testSeconds": 1, "testedAt": time, "server": 150000, "checks": []}, open(beside + "proof.json", "w"))
        """

    /// Each ends with 0. What it stands for, how it does it, and what is said of it.
    @Test(arguments: [
        ("psql", "cat >/dev/null", "psql ended before the end of its script", 75),
        // The script of the indexes has no end.
        (
            "pg_restore",
            "PROGRAMS/pg_restore \"$@\" >FOLDER/said; grep -q 'CREATE INDEX' FOLDER/said || cat FOLDER/said",
            "pg_restore", 1
        ),
        // The rows go nowhere.
        (
            "pg_restore",
            "case \"$*\" in *--table=*) cat >/dev/null;; *) exec PROGRAMS/pg_restore \"$@\";; esac",
            "it has 0 rows of public.t, but its manifest records 1000", 1
        ),
    ])
    func `a program that says that all is well, and has not done it, fails the restore of a table`(
        program: String, script: String, said: String, status: Int32
    ) async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        let environment = place.environment("a")
        try await database.execute(
            "CREATE TABLE t AS SELECT generate_series(1, 1000) AS a", "CREATE INDEX t_a ON t (a)")
        try place.linkPrograms()
        _ = try id(try await run(environment, "backup", "create"))
        let version = "case \"$*\" in *--version*|*-V*) exec \(place.programs)/\(program) \"$@\";; esac\n"
        try place.program(
            program,
            version + script.replacing("PROGRAMS", with: place.programs).replacing("FOLDER", with: place.folder))
        try await beside { target in
            let restored = try await run(
                environment, "backup", "restore", "latest", "--to", target.uri, "--table", "public.t")
            #expect(restored.ending == .exited(status), "\(restored.output)")
            #expect(restored.errorOutput.contains(said), "\(restored.errorOutput)")
            let count = try await rows(target, "SELECT count(*) FROM pg_catalog.pg_class WHERE relname = 't'")
            #expect(count == 0)
        }
    }

    // MARK: What is said

    /// The values differ at the source, and not where they are restored.
    @Test func `no row is in what a failed restore says and keeps`() async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        let environment = place.environment("a")
        try await database.execute(
            """
            CREATE FUNCTION public.pick(value text) RETURNS text LANGUAGE sql IMMUTABLE AS
                $$ SELECT CASE WHEN current_database() = '\(database.name)' THEN value ELSE 'top-secret' END $$;
            CREATE TABLE public.t (a integer, secret text);
            INSERT INTO public.t SELECT g, E'top-secret\\nERROR:  top-secret\\nDETAIL:  top-secret' || g
                FROM generate_series(1, 2) g;
            CREATE UNIQUE INDEX t_pick ON public.t (public.pick(secret));
            CREATE TABLE public.u (a text); INSERT INTO public.u VALUES ('x')
            """)
        let made = try id(try await run(environment, "backup", "create"))
        let tested = try await run(environment, "backup", "test")
        #expect(tested.ending == .exited(3), "\(tested.output)")
        #expect((tested.output + tested.errorOutput).contains("could not create unique index"), "\(tested.output)")
        #expect(!(tested.output + tested.errorOutput).contains("top-secret"), "\(tested.output) \(tested.errorOutput)")
        for name in ["proof.json", "proof.txt"] {
            let kept = try String(contentsOfFile: "\(place.folder)/a/main/\(made)/\(name)", encoding: .utf8)
            #expect(kept.contains("could not create unique index") && !kept.contains("top-secret"), "\(kept)")
        }
        try await beside { target in
            let restored = try await run(environment, "backup", "restore", "latest", "--to", target.uri)
            #expect(restored.ending == .exited(3) && restored.errorOutput.contains("t_pick"), "\(restored)")
            #expect(!restored.errorOutput.contains("top-secret"), "\(restored.errorOutput)")
        }
    }

    // MARK: Parts

    /// pg_restore reads no more of a part than it needs.
    @Test func `a small table is restored from a part that it shares with a large one`() async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        let environment = place.environment("a")
        try await database.execute(
            "CREATE TABLE public.a AS SELECT 1 AS id",
            "CREATE TABLE public.b AS SELECT g AS id, repeat(md5(g::text), 30) AS t FROM generate_series(1, 30000) g")
        _ = try id(try await run(environment, "backup", "create"))
        try await beside { target in
            let restored = try await run(
                environment, "backup", "restore", "latest", "--to", target.uri, "--table", "public.a")
            #expect(restored.succeeded, "\(restored.errorOutput)")
            let count = try await rows(target, "SELECT count(*) FROM a")
            #expect(count == 1)
        }
        // The hash is looked at all the same.
        let change = try await Command(
            "sh",
            [
                "-c",
                "cd $0/a/main; printf X | dd of=$(ls -S */data-*.zst | head -n 1) bs=1 seek=100000 conv=notrunc",
                place.folder,
            ]
        ).run()
        try #require(change.succeeded)
        try await beside { target in
            let restored = try await run(
                environment, "backup", "restore", "latest", "--to", target.uri, "--table", "public.a")
            #expect(
                restored.ending == .exited(1) && restored.errorOutput.contains("SHA-256"), "\(restored.errorOutput)")
        }
    }
}

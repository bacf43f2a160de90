import Foundation
import Postgres
import Processes
import TestSupport
import Testing

/// What becomes of the secrets in this program's environment and in its connection strings.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct SecretTests {
    private static let secrets = [
        "AWS_SECRET_ACCESS_KEY": "secret-of-aws", "PGPASSWORD": "secret-of-libpq", "REEVE_SECRET": "secret-of-ours",
    ]

    /// Programs that note their environment and arguments, and then do what they are for.
    private final class Spies: Sendable {
        let folder = "/tmp/reeve-spies-\(UUID().uuidString.prefix(8))"

        init() async throws {
            try FileManager.default.createDirectory(atPath: "\(folder)/bin", withIntermediateDirectories: true)
            chmod(folder, 0o755)
            let programs = try #require(await ServerPrograms.installed().first).folder
            for name in ["initdb", "postgres", "pg_ctl", "pg_dump", "pg_dumpall", "pg_restore", "psql"] {
                try write(name, "exec \(programs)/\(name) \"$@\"")
            }
            for name in ["zstd", "age"] { try write(name, "exec /usr/bin/\(name) \"$@\"") }
        }

        deinit { try? FileManager.default.removeItem(atPath: folder) }

        func write(_ name: String, _ last: String) throws {
            let path = "\(folder)/bin/\(name)"
            let script = """
                #!/bin/sh
                { env; pwd | sed 's/^/CWD=/'; printf 'CALL \(name) %s\\n' "$*"; } >>\(folder)/\(name).log
                \(last)

                """
            try script.write(toFile: path, atomically: true, encoding: .utf8)
            chmod(path, 0o755)
        }

        func log(_ name: String) -> String {
            (try? String(contentsOfFile: "\(folder)/\(name).log", encoding: .utf8)) ?? ""
        }

        var path: String { "\(folder)/bin:\(ProcessInfo.processInfo.environment["PATH"] ?? "")" }
    }

    /// Looks at the arguments of all processes, over and over.
    private final class Watch: Sendable {
        let found = Gathered<String>()
        private let over = StopFlag()
        private let ended = StopFlag()

        init(for secret: String) {
            let (found, over, ended) = (found, over, ended)
            let thread = Thread {
                repeat {
                    for name in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
                        guard Int(name) != nil, let data = FileManager.default.contents(atPath: "/proc/\(name)/cmdline")
                        else { continue }
                        let text = String(decoding: data.map { $0 == 0 ? 32 : $0 }, as: UTF8.self)
                        if text.contains(secret) { found.add([text]) }
                    }
                } while !over.sleep(for: .milliseconds(3))
                ended.raise()
            }
            thread.start()
        }

        func stop() async throws {
            over.raise()
            try await waitUntil("the watch ends") { self.ended.isRaised }
        }
    }

    @Test func `the embedded server and what watches it have none of them`() async throws {
        let state = "\(TestCluster.stateFolder)/s\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: state) }
        let socket = "/tmp/reeve-serve-\(UUID().uuidString.prefix(8))"
        let environment = ReeveBinary.environment(nil, Self.secrets).merging(
            ["REEVE_STATE": state, "REEVE_HTTP_LISTEN": "unix:\(socket)"]) { $1 }
        let reeve = try RunningReeve(["serve"], environment: environment)
        try await waitUntil("it is ready", limit: .seconds(90)) {
            UnixHTTP.get("/readyz", from: socket)?.contains(" 200 ") == true
        }
        let settings = EmbeddedCluster.settings(for: EmbeddedCluster.Options(stateFolder: state))
        let lines = try await Connection.opened(settings) { connection in
            try await connection.with { connection in
                try connection.execute("CREATE TABLE public.seen (line text)")
                try connection.execute("COPY public.seen FROM PROGRAM 'env'")
                return try connection.query("SELECT line FROM public.seen").map { try $0.get(0, as: String.self) }
            }
        }
        #expect(lines.contains { $0.hasPrefix("PATH=/") })
        #expect(!lines.contains { $0.contains("secret-of") || $0.hasPrefix("REEVE_") })
        var looked = 0
        for name in try FileManager.default.contentsOfDirectory(atPath: "/proc") where Int(name) != nil {
            let arguments = FileManager.default.contents(atPath: "/proc/\(name)/cmdline") ?? Data()
            guard String(decoding: arguments, as: UTF8.self).contains(state), pid_t(name) != reeve.pid else { continue }
            let inherited = String(
                decoding: FileManager.default.contents(atPath: "/proc/\(name)/environ") ?? Data(), as: UTF8.self)
            #expect(!inherited.contains("secret-of"), "\(name)")
            let folder = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(name)/cwd")
            #expect(folder == "/" || folder?.hasPrefix("\(state)/cluster/data") == true, "\(folder ?? "")")
            looked += 1
        }
        // The server and the one that waits to stop it.
        #expect(looked >= 2)
        reeve.signal(SIGTERM)
        #expect(try await reeve.end() == 0)
    }

    /// In a backup, a restore test and a restore, with a password in the URL.
    @Test func `a password is in no arguments, and goes only to programs that connect`() async throws {
        let database = try TestDatabase.current
        let spies = try await Spies()
        try await database.execute("CREATE TABLE public.t (id integer PRIMARY KEY)", "INSERT INTO public.t VALUES (1)")
        var settings = database.settings
        settings.parameters["password"] = "secret-of-url"
        settings.parameters["options"] = "-c app.token=secret-option"
        let key = try await ReeveBinary.json(["backup", "key", "new", "\(spies.folder)/identity"])
        var environment = Self.secrets.merging([
            "REEVE_STATE": spies.folder, "REEVE_BACKUP_REPOSITORY": "\(spies.folder)/repository", "PATH": spies.path,
            "REEVE_BACKUP_RECIPIENTS": try #require(key.object["recipient"] as? String),
            "REEVE_BACKUP_IDENTITY": "\(spies.folder)/identity",
            "REEVE_BACKUP_HOOKS_BEFORE": "{ env; pwd | sed 's/^/CWD=/'; } >\(spies.folder)/before.log",
            "REEVE_BACKUP_HOOKS_RESTORED": "env >\(spies.folder)/restored.log",
            "REEVE_BACKUP_HOOKS_ENVIRONMENT": "FOR_HOOKS,MISSING", "FOR_HOOKS": "given",
        ]) { $1 }
        try initializeRepository("\(spies.folder)/repository")
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let watches = [Watch(for: "secret-of"), Watch(for: "secret-option")]
        var outcomes: [CommandOutcome] = []
        outcomes.append(try await ReeveBinary.run(["backup", "create"], on: settings, environment: environment))
        outcomes.append(try await ReeveBinary.run(["backup", "test"], on: settings, environment: environment))
        // For the program itself that, and for its children by the environment.
        environment["PGPASSWORD"] = "secret-of-url"
        outcomes.append(
            try await ReeveBinary.run(
                ["backup", "restore", "latest", "--to", database.settings.database(name).uri], on: settings,
                environment: environment))
        for watch in watches {
            try await watch.stop()
            #expect(watch.found.all.isEmpty, "\(watch.found.all)")
        }
        for outcome in outcomes {
            #expect(outcome.succeeded, "\(outcome.errorOutput)")
            #expect(!(outcome.output + outcome.errorOutput).contains("secret-o"))
        }
        try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
        // To those who connect: what libpq reads, with the URL's password and options, and nothing else.
        for program in ["pg_dump", "pg_dumpall", "pg_restore"] {
            let log = spies.log(program)
            #expect(log.contains("PGPASSWORD=secret-of-url"), "\(program)")
            #expect(!log.contains("secret-of-aws") && !log.contains("secret-of-ours"), "\(program)")
            #expect(log.contains("CWD=/\n") && !log.contains("FOR_HOOKS"), "\(program)")
        }
        #expect(spies.log("pg_dump").contains("PGOPTIONS=-c app.token=secret-option -c statement_timeout=0"))
        for program in ["zstd", "age", "before", "restored"] {
            let log = spies.log(program)
            #expect(log.contains("PATH=/") && !log.contains("secret-o") && !log.contains("PGPASSWORD"), "\(program)")
        }
        let before = spies.log("before")
        #expect(before.contains("REEVE_DATABASE=main\n") && before.contains("FOR_HOOKS=given\n"))
        #expect(
            before.contains("CWD=/\n") && !before.contains("MISSING") && !before.contains("REEVE_BACKUP_REPOSITORY"))
        let remembered: String = try await database.value(
            "SELECT coalesce(string_agg(r::text, ' '), '') FROM (SELECT to_jsonb(b) FROM reeve.backups b UNION ALL SELECT to_jsonb(a) FROM reeve.audit a) r"
        )
        #expect(remembered.contains("backup") && !remembered.contains("secret-o"))
    }

    @Test(arguments: [
        "postgresql://u:secret-of-url@127.0.0.1:1/app", "postgresql://u@127.0.0.1:1/app?password=secret-of-url",
        "host=127.0.0.1 port=1 password=secret-of-url dbname=app", "postgresql://u:secret-of-url@[::1/app",
        "host='127.0.0.1 password=secret-of-url",
    ])
    func `no message repeats a password`(url: String) async throws {
        for command in [["backup", "create"], ["migrate", "status"], ["config", "show"], ["doctor"]] {
            let outcome = try await ReeveBinary.run(
                command,
                environment: [
                    "DATABASE_URL": url, "REEVE_BACKUP_REPOSITORY": "/tmp/reeve-nowhere", "REEVE_CONNECT_TIMEOUT": "2s",
                    "REEVE_SYSTEMS": "publisher",
                ])
            let said = outcome.output + outcome.errorOutput
            #expect(!said.contains("secret-of-url"), "\(command): \(said)")
        }
    }

    /// Bytes that PostgreSQL's text cannot hold.
    @Test func `what a program says when it fails reaches the ledger, whatever bytes it is made of`() async throws {
        let database = try TestDatabase.current
        let spies = try await Spies()
        try spies.write("zstd", "[ \"$1\" = --version ] && exit 0; printf 'no \\000\\377 room' >&2; exit 3")
        let environment = [
            "REEVE_STATE": spies.folder, "REEVE_BACKUP_REPOSITORY": "\(spies.folder)/repository", "PATH": spies.path,
            "REEVE_BACKUP_ENCRYPTION": "none",
        ]
        try initializeRepository("\(spies.folder)/repository")
        let outcome = try await ReeveBinary.run(["backup", "create"], on: database.settings, environment: environment)
        #expect(outcome.ending == .exited(1))
        let failure: String = try await database.value(
            "SELECT message FROM reeve.backup_attempts WHERE message IS NOT NULL LIMIT 1")
        #expect(failure.contains("no \u{FFFD}\u{FFFD} room"), "\(failure)")
        let run = try await ReeveBinary.run(
            ["task", "run", "backup"], on: database.settings,
            environment: environment.merging(["REEVE_TASKS_BACKUP_RETRIES": "0"]) { $1 })
        #expect(run.ending == .exited(1), "\(run.errorOutput)")
        let message: String = try await database.value(
            "SELECT message FROM reeve.runs WHERE task = 'backup' AND state = 'failed' LIMIT 1")
        #expect(message.contains("no \u{FFFD}\u{FFFD} room"), "\(message)")
    }
}

import Foundation
import Ledger
import Migrations
import Postgres
import Processes
import Storage
import TestSupport
import Testing

/// Ctrl-C, SIGTERM and a closed terminal, in the middle of a command.
@Suite(.database, .timeLimit(.minutes(4)))
struct InterruptionTests {
    private let fixture: MigrationFixture

    init() throws {
        fixture = try MigrationFixture([
            "0001_base.up.sql": "CREATE TABLE base (id int);", "0001_base.down.sql": "DROP TABLE base;",
            "0002_slow.up.sql": "LOCK TABLE base IN ACCESS EXCLUSIVE MODE;\nSELECT pg_sleep(600);",
            "0002_slow.down.sql": "SELECT 1;",
        ])
    }

    private func start(
        _ arguments: [String], _ settings: ConnectionSettings, _ more: [String: String] = [:]
    ) throws -> RunningReeve {
        try RunningReeve(arguments, environment: ReeveBinary.environment(settings, more))
    }

    /// Not by the text of the query: the ledger's row has the migration's text too.
    private func sleeps() async throws -> Int {
        try await TestDatabase.current.value(
            """
            SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database()
            AND wait_event = 'PgSleep' AND pid <> pg_catalog.pg_backend_pid()
            """)
    }

    /// The server's process that sleeps.
    private func sleeper() async throws -> Int32 {
        try await TestDatabase.current.value(
            """
            SELECT pid FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database()
            AND wait_event = 'PgSleep' AND pid <> pg_catalog.pg_backend_pid()
            """)
    }

    private func exclusiveLocks() async throws -> Int {
        try await TestDatabase.current.value(
            """
            SELECT count(*) FROM pg_catalog.pg_locks WHERE mode = 'AccessExclusiveLock' AND locktype = 'relation'
            AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
            """)
    }

    @Test(arguments: [(SIGINT, 130), (SIGTERM, 143), (SIGHUP, 129)] as [(Int32, Int32)])
    func `a migration that a signal stops is over on the server too, and what stands is said`(
        signal: Int32, status: Int32
    ) async throws {
        let database = try TestDatabase.current
        let reeve = try start(["migrate", "up", "--system", fixture.folder], database.settings)
        try await waitUntil("it sleeps") { try await sleeps() == 1 }
        #expect(try await exclusiveLocks() > 0)
        let began = ContinuousClock.now
        reeve.signal(signal)
        #expect(try await reeve.end() == status)
        #expect(ContinuousClock.now - began < .seconds(10))
        try await waitUntil("the statement is over", limit: .seconds(3)) { try await sleeps() == 0 }
        #expect(try await exclusiveLocks() == 0)
        #expect(
            reeve.output.contains(
                "interrupted: applied app/0001_base; app/0002_slow is not applied: its transaction was rolled back"),
            "\(reeve.output)")
        #expect(!reeve.output.contains("error:") && !reeve.output.contains("warning"), "\(reeve.output)")
        let applied: [String] = try await database.with {
            try $0.query("SELECT name FROM reeve.migrations WHERE state = 'applied'").map { try $0.get(0) }
        }
        #expect(applied == ["base"])
        let failures: Int = try await database.value(
            "SELECT count(*) FROM reeve.events WHERE kind = 'migration.failed' AND detail ->> 'error' = 'interrupted'")
        #expect(failures == 1)
    }

    @Test func `one that waits for a lock is stopped as well, and gives an object with --json`() async throws {
        let database = try TestDatabase.current
        let system = try MigrationFixture([
            "0001_base.up.sql":
                "-- reeve: lock-timeout 10min\nCREATE TABLE base (id int); ALTER TABLE public.held ADD b int;"
        ])
        try await database.execute("CREATE TABLE public.held (a int)")
        try await database.connection { holder in
            try await holder.with { try $0.execute("BEGIN; LOCK TABLE public.held IN ACCESS SHARE MODE") }
            let command = Command(
                "/bin/sh",
                ["-c", "exec \"$0\" \"$@\"", ReeveBinary.path, "migrate", "up", "--system", system.folder, "--json"],
                environment: ReeveBinary.environment(database.settings))
            async let outcome = command.run()
            try await waitUntil("it waits") { try await database.waitersForLocks() == 1 }
            let pid: Int32 = try await database.value(
                """
                SELECT pid FROM pg_catalog.pg_stat_activity
                WHERE application_name = 'reeve migrate' AND datname = pg_catalog.current_database()
                """)
            #expect(pid > 0)
            let process = try #require(try Self.processes(of: system.folder).first)
            kill(process, SIGINT)
            let ended = try await outcome
            #expect(ended.ending == .exited(130))
            let object = try #require(
                try JSONSerialization.jsonObject(with: Data(ended.output.utf8)) as? [String: [String: Any]])
            #expect(object["error"]?["code"] as? String == "interrupted")
            #expect(
                object["error"]?["message"] as? String
                    == "interrupted: app/0001_base is not applied: its transaction was rolled back")
            try await holder.with { try $0.execute("ROLLBACK") }
        }
    }

    @Test func `a step that was cut short is journalled, and the next run goes on there`() async throws {
        let database = try TestDatabase.current
        let system = try MigrationFixture([
            "0001_steps.up.sql": """
            -- reeve: no-transaction
            CREATE TABLE steps (id int);
            SELECT pg_sleep(600) WHERE NOT EXISTS (SELECT FROM public.go);
            CREATE TABLE more (id int);
            """
        ])
        try await database.execute("CREATE TABLE public.go ()")
        let reeve = try start(["migrate", "up", "--system", system.folder], database.settings)
        try await waitUntil("it sleeps") { try await sleeps() == 1 }
        reeve.signal(SIGTERM)
        #expect(try await reeve.end() == 143)
        #expect(reeve.output.contains("app/0001_steps is partly applied: run the command again"), "\(reeve.output)")
        try await waitUntil("the statement is over") { try await sleeps() == 0 }
        try await database.execute("ALTER TABLE public.go ADD a int; INSERT INTO public.go VALUES (1)")
        let again = try await ReeveBinary.run(["migrate", "up", "--system", system.folder], on: database.settings)
        #expect(again.ending == .exited(0), "\(again.errorOutput)")
    }

    @Test func `a second signal ends it at once, though the server stands still`() async throws {
        let database = try TestDatabase.current
        let reeve = try start(["migrate", "up", "--system", fixture.folder], database.settings)
        try await waitUntil("it sleeps") { try await sleeps() == 1 }
        let process = try await sleeper()
        kill(process, SIGSTOP)
        defer { kill(process, SIGCONT) }
        reeve.signal(SIGINT)
        try await Task.sleep(for: .milliseconds(500))  // that it does not end by the first is what is shown
        #expect(!reeve.hasEnded)
        let began = ContinuousClock.now
        reeve.signal(SIGINT)
        #expect(try await reeve.end() == 130)
        #expect(ContinuousClock.now - began < .seconds(1))
        #expect(reeve.output.contains("interrupted: ") && reeve.output.contains("is not known"), "\(reeve.output)")
    }

    @Test func `when the server does not answer, the end comes within its limit and says that it is not known`()
        async throws
    {
        let database = try TestDatabase.current
        let reeve = try start(["migrate", "up", "--system", fixture.folder], database.settings)
        try await waitUntil("it sleeps") { try await sleeps() == 1 }
        let process = try await sleeper()
        kill(process, SIGSTOP)
        defer { kill(process, SIGCONT) }
        reeve.signal(SIGTERM)
        #expect(try await reeve.end(limit: .seconds(18)) == 143)
        #expect(reeve.output.contains("interrupted: applied app/0001_base"), "\(reeve.output)")
        #expect(reeve.output.contains("the server may still be executing the migration"), "\(reeve.output)")
    }

    @Test func `a SIGHUP that nohup has had ignored stays so`() async throws {
        let database = try TestDatabase.current
        let command = Command(
            "nohup", [ReeveBinary.path, "migrate", "up", "--system", fixture.folder],
            environment: ReeveBinary.environment(database.settings), directory: "/tmp")
        let child = try ChildProcess(command)
        try await waitUntil("it sleeps") { try await sleeps() == 1 }
        child.signal(SIGHUP)
        try await Task.sleep(for: .seconds(1))  // that nothing happens cannot be waited for
        #expect(child.ending == nil)
        #expect(try await sleeps() == 1)
        child.signal(SIGINT)
        #expect(await child.end() == .exited(130))
    }

    @Test func `a task that is run by hand is recorded as cancelled`() async throws {
        let database = try TestDatabase.current
        let environment = ["REEVE_SYSTEMS": fixture.folder]
        let reeve = try start(["task", "run", "migrate"], database.settings, environment)
        try await waitUntil("it sleeps") { try await sleeps() == 1 }
        reeve.signal(SIGINT)
        #expect(try await reeve.end() == 130)
        #expect(reeve.output.contains("of 'migrate' in 'main' is recorded as cancelled"), "\(reeve.output)")
        let state: String = try await database.value("SELECT state FROM reeve.runs")
        #expect(state == "cancelled")
        try await waitUntil("the statement is over") { try await sleeps() == 0 }
    }

    @Test func `an interrupted backup leaves no program behind, and no backup`() async throws {
        let database = try TestDatabase.current
        let folder = "/tmp/reeve-interrupted-\(UUID().uuidString.prefix(8))"
        try initializeRepository(folder)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await database.execute(
            "CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 20) AS t FROM generate_series(1, 100000) g")
        let environment = [
            "REEVE_BACKUP_REPOSITORY": folder, "REEVE_BACKUP_ENCRYPTION": "none", "REEVE_BACKUP_BANDWIDTH": "1",
        ]
        let reeve = try start(["backup", "create"], database.settings, environment)
        try await waitUntil("it dumps") {
            try #require(!reeve.hasEnded, "\(reeve.output)")
            return try Self.children(of: reeve.pid).count > 1
        }
        let children = try Self.children(of: reeve.pid)
        reeve.signal(SIGINT)
        #expect(try await reeve.end() == 130)
        #expect(reeve.output.contains("interrupted: no backup of 'main' was made"), "\(reeve.output)")
        #expect(children.filter { kill($0, 0) == 0 }.isEmpty)
        let left = FileManager.default.enumerator(atPath: folder)?.allObjects ?? []
        #expect(left.allSatisfy { ["main", "main/owner.json", RepositoryMark.name].contains("\($0)") }, "\(left)")
        let list = try await ReeveBinary.json(["backup", "list"], on: database.settings, environment: environment)
        #expect((list.object["backups"] as? [Any])?.isEmpty == true)
        let outcomes: [Bool] = try await database.with {
            try $0.query("SELECT succeeded FROM reeve.backup_attempts").map { try $0.get(0) }
        }
        #expect(outcomes == [false])
    }

    @Test func `another's backup, made while this one waited, is not taken for its own`() async throws {
        let database = try TestDatabase.current
        let folder = "/tmp/reeve-interrupted-\(UUID().uuidString.prefix(8))"
        try initializeRepository(folder)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let environment = ["REEVE_BACKUP_REPOSITORY": folder, "REEVE_BACKUP_ENCRYPTION": "none"]
        let made = try await ReeveBinary.json(["backup", "create"], on: database.settings, environment: environment)
        let backup = try #require(made.object["backup"] as? [String: Any])
        let (id, began) = (try #require(backup["id"] as? String), try #require(backup["started_at"] as? String))
        let said = try await database.connection { holder -> String in
            let isHeld = try await holder.with { try LedgerLock.named("reeve backup", on: $0) }.acquire(
                on: holder, wait: .zero, waiting: { _ in })
            #expect(isHeld)
            let reeve = try start(["backup", "create", "--lock-wait", "60s"], database.settings, environment)
            try await waitUntil("it has begun") {
                try #require(!reeve.hasEnded, "\(reeve.output)")
                return try await database.value("SELECT count(*) FROM reeve.backup_attempts") == 2
            }
            // Another one, of now.
            let text = try String(contentsOfFile: "\(folder)/main/\(id)/manifest.json", encoding: .utf8)
            let body = try #require(text.split(separator: "\n").first)
                .replacingOccurrences(of: "\"id\":\"\(id)\"", with: "\"id\":\"other\"")
                .replacingOccurrences(
                    of: "\"startedAt\":\"\(began)\"", with: "\"startedAt\":\"\(Timestamp.now.rfc3339)\"")
            #expect(body.contains("\"other\"") && !body.contains(began + "\",\"tables"))
            try FileManager.default.createDirectory(atPath: "\(folder)/main/other", withIntermediateDirectories: true)
            let sum = try await Command("sh", ["-c", "printf %s \"$0\" | sha256sum | cut -c1-64", body]).run(
                limit: .seconds(10))
            try "\(body)\n\(sum.output)".write(
                toFile: "\(folder)/main/other/manifest.json", atomically: true, encoding: .utf8)
            reeve.signal(SIGINT)
            #expect(try await reeve.end() == 130)
            return reeve.output
        }
        #expect(said.contains("no backup of 'main' was made"), "\(said)")
        let list = try await ReeveBinary.json(["backup", "list"], on: database.settings, environment: environment)
        #expect((list.object["backups"] as? [Any])?.count == 2)
    }

    /// Runs a program on a terminal, and types Ctrl-C when it asks.
    private static let terminal = """
        import os, pty, sys
        pid, terminal = pty.fork()
        if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
        said = b""
        while True:
            try: said += os.read(terminal, 4096)
            except OSError: break
            if said.endswith(b"to continue: "): os.write(terminal, b"\\x03")
        sys.stdout.buffer.write(said)
        sys.stdout.flush()
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """

    @Test func `at a prompt Ctrl-C ends it at once, and nothing was done`() async throws {
        let database = try TestDatabase.current
        _ = try await fixture.migrator(database.settings).up(to: 1)
        let outcome = try await Command(
            "python3",
            ["-c", Self.terminal, ReeveBinary.path, "migrate", "down", "--to", "0", "--system", fixture.folder],
            environment: ReeveBinary.environment(database.settings, ["TERM": "dumb"]), directory: "/tmp"
        ).run(limit: .seconds(20))
        #expect(outcome.ending == .exited(130), "\(outcome.output)")
        #expect(outcome.output.contains("interrupted: nothing was done"), "\(outcome.output)")
        let applied: Int = try await database.value("SELECT count(*) FROM reeve.migrations")
        #expect(applied == 1)
    }

    // MARK: What the tests look at

    /// The processes of the program that were given an argument.
    private static func processes(of argument: String) throws -> [pid_t] {
        try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter { pid in
            guard let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else { return false }
            let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            return words.first == ReeveBinary.path && words.contains(argument)
        }
    }

    private static func children(of parent: pid_t) throws -> [pid_t] {
        try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter { pid in
            guard let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
                let end = text.lastIndex(of: ")")
            else { return false }
            return text[end...].split(separator: " ").dropFirst(2).first.flatMap { pid_t($0) } == parent
        }
    }
}

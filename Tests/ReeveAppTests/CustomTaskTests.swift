import Foundation
import Postgres
import TestSupport
import Testing

@testable import Kernel
@testable import ReeveApp

/// Tasks that the configuration defines, below `tasks.custom`.
@Suite(.database, .timeLimit(.minutes(4)))
struct CustomTaskTests {
    /// A folder with a configuration that has tasks.
    private final class Place: Sendable {
        let folder: String
        var file: String { "\(folder)/reeve.yaml" }
        var environment: [String: String] { ["REEVE_CONFIG": file, "SECRET_OF_OTHERS": "hidden", "WANTED": "seen"] }

        init(_ tasks: String) throws {
            folder = "/tmp/reeve-custom-\(UUID().uuidString.prefix(8))"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            let lines = tasks.split(separator: "\n").map { "    \($0)\n" }.joined()
            try "tasks:\n  custom:\n\(lines)".write(toFile: file, atomically: true, encoding: .utf8)
        }

        deinit { try? FileManager.default.removeItem(atPath: folder) }

        func mistakes() -> [String] {
            ConfigurationReview(path: file, environment: [:], features: .reeve).mistakes.map {
                $0.description.replacing("\(folder)/", with: "") + ($0.hint.map { " (\($0))" } ?? "")
            }
        }

        func run(_ task: String) async throws -> (state: String, message: String, status: Int32) {
            let (object, status) = try await ReeveBinary.json(
                ["task", "run", task], on: TestDatabase.current.settings, environment: environment)
            let run = try #require((object["runs"] as? [[String: Any]])?.first, "\(object)")
            guard case .exited(let code) = status else { throw NeverHappened(what: "an exit") }
            return (run["state"] as? String ?? "", run["message"] as? String ?? "", code)
        }
    }

    /// Whether a process with this text in its arguments runs.
    private static func runs(_ text: String) -> Bool {
        let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return processes.contains { process in
            guard Int32(process) != nil, let line = FileManager.default.contents(atPath: "/proc/\(process)/cmdline")
            else { return false }
            return String(decoding: line, as: UTF8.self).contains(text)
        }
    }

    @Test func `SQL runs in one transaction, as a role, and each statement alone on request`() async throws {
        let database = try TestDatabase.current
        let role = "r_\(database.name)"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE TABLE public.t (who text)", "GRANT ALL ON public.t TO \(role)")
        let place = try Place(
            """
            fill: {cron: '@daily', role: \(role), sql: "INSERT INTO public.t VALUES (current_user); INSERT INTO public.t VALUES ('b')"}
            half: {cron: '@daily', sql: "INSERT INTO public.t VALUES ('lost'); SELECT 1/0"}
            path: {cron: '@daily', sql: "INSERT INTO public.t VALUES (current_setting('search_path'))"}
            vacuum: {cron: '@daily', transaction: no, sql: "VACUUM public.t; ANALYZE public.t"}
            """)
        #expect(place.mistakes() == [])
        let fill = try await place.run("fill")
        #expect(fill.state == "succeeded" && fill.message == "INSERT 0 1, INSERT 0 1" && fill.status == 0)
        let half = try await place.run("half")
        #expect(half.state == "failed" && half.message.contains("division by zero") && half.status == 1)
        #expect(try await place.run("path").state == "succeeded")
        let vacuum = try await place.run("vacuum")
        #expect(vacuum.state == "succeeded" && vacuum.message == "VACUUM, ANALYZE", "\(vacuum)")
        let rows: String = try await database.value(
            "SELECT string_agg(who, ';' ORDER BY who COLLATE \"C\") FROM public.t")
        #expect(rows == ["b", "pg_catalog, pg_temp", role].sorted().joined(separator: ";"))
        try await database.execute("DROP TABLE public.t", "DROP ROLE \(role)")
    }

    @Test func `a command gets what it needs, and its exit status decides`() async throws {
        let place = try Place(
            """
            ok: {cron: '@daily', environment: [WANTED], command: 'echo first; echo "$REEVE_TASK $REEVE_DATABASE $WANTED $SECRET_OF_OTHERS|$PGPASSWORD"; pwd >&2'}
            bad: {cron: '@daily', command: 'echo out; echo reason >&2; exit 3'}
            huge: {cron: '@daily', command: 'yes line | head -c 20000000; echo; echo end'}
            many: {cron: '@daily', command: 'yes line | head -c 20000000 >&2; exit 1'}
            """)
        let ok = try await place.run("ok")
        #expect(ok.state == "succeeded" && ok.message == "ok main seen |", "\(ok)")
        let bad = try await place.run("bad")
        #expect(bad.state == "failed" && bad.message == "the command exited with 3: reason" && bad.status == 1)
        for name in ["huge", "many"] {
            let run = try await place.run(name)
            #expect(run.state == (name == "huge" ? "succeeded" : "failed") && run.message.utf8.count < 5000)
        }
        let list = try await ReeveBinary.run(["task", "list"], environment: place.environment)
        #expect(list.output.contains("command: echo out; echo reason"), "\(list)")
    }

    @Test func `at the timeout a command ends with all of its processes, and a statement is cancelled`() async throws {
        let mark = "reeve-mark-\(UUID().uuidString.prefix(8))"
        let place = try Place(
            """
            stubborn: {cron: '@daily', timeout: 1s, command: 'trap "" TERM; sh -c "trap \\"\\" TERM; sleep 600; : \(mark)" & sleep 600; wait; : \(mark)'}
            hang: {cron: '@daily', timeout: 1s, sql: "SELECT pg_sleep(600) /* \(mark) */"}
            """)
        async let stubborn = place.run("stubborn")
        try await waitUntil("the command runs") { Self.runs(mark) }
        let ended = try await stubborn
        #expect(ended.state == "timed_out" && ended.message.contains("did not end within"), "\(ended)")
        #expect(!Self.runs(mark))
        #expect(try await place.run("hang").state == "timed_out")
        try await waitUntil("the statement is cancelled") {
            try await TestDatabase.current.value(
                "SELECT count(*) = 0 FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%\(mark) */%'"
            )
        }
    }

    @Test func `the schedule runs it, and a killed service leaves neither the command nor the run`() async throws {
        let database = try TestDatabase.current
        let mark = "reeve-mark-\(UUID().uuidString.prefix(8))"
        let place = try Place(
            """
            often: {every: 1s, sql: "SELECT 1"}
            long: {every: 1s, command: 'sleep 600; : \(mark)'}
            """)
        let served = try Served(database.settings, place.environment)
        try await waitUntil("the command runs") { Self.runs(mark) }
        try await waitUntil("the schedule ran and is measured") {
            (served.get("/metrics")?.body ?? "").contains(
                "reeve_task_runs_total{database=\"main\",task=\"often\",state=\"succeeded\"}")
        }
        served.reeve.signal(SIGKILL)
        _ = try await served.reeve.end()
        try await waitUntil("the command has ended") { !Self.runs(mark) }
        try? FileManager.default.removeItem(atPath: served.socket)
    }

    @Test func `what is not defined completely is a mistake`() throws {
        let place = try Place(
            """
            none: {cron: '@daily'}
            both: {cron: '@daily', sql: SELECT 1, command: 'true'}
            never: {sql: SELECT 1}
            analyze: {cron: '@daily', sql: SELECT 1}
            where: {cron: '@daily', sql: SELECT 1, databases: [mian]}
            quote: {cron: '@daily', sql: "SELECT 'x"}
            empty: {cron: '@daily', sql: '-- nothing'}
            role: {cron: '@daily', command: 'true', role: x}
            typo: {corn: '@daily', sql: SELECT 1}
            schedule: {cron: '@dayly', sql: SELECT 1, timeout: 0s}
            """)
        let mistakes = place.mistakes()
        let expected = [
            "reeve.yaml:3: 'tasks.custom.none' has neither 'sql' nor 'command'",
            "reeve.yaml:4: 'tasks.custom.both' has both 'sql' and 'command'",
            "reeve.yaml:5: 'tasks.custom.never' has neither 'cron' nor 'every'",
            "reeve.yaml:6: a task has the name 'analyze' already",
            "reeve.yaml:7: the database 'mian' is not configured (did you mean 'main')",
            "reeve.yaml:8: 'tasks.custom.quote.sql': ", "reeve.yaml:9: 'tasks.custom.empty.sql' has no statement",
            "reeve.yaml:10: 'tasks.custom.role.role' has no effect with 'command'",
            "reeve.yaml:11: unknown key 'tasks.custom.typo.corn' (did you mean 'cron')",
            "reeve.yaml:11: 'tasks.custom.typo' has neither 'cron' nor 'every'",
            "reeve.yaml:12: 'tasks.custom.schedule.cron': '@dayly' is not a short form (did you mean '@daily')",
            "reeve.yaml:12: 'tasks.custom.schedule.timeout'",
        ]
        for one in expected {
            #expect(mistakes.contains { $0.hasPrefix(one) }, "\(one) is not in \(mistakes)")
        }
        #expect(mistakes.count == expected.count, "\(mistakes)")
    }

    @Test func `doctor names the role that a task cannot use`() async throws {
        let settings = try TestDatabase.current.settings
        let good = try Place("mine: {cron: '@daily', sql: SELECT 1, role: pg_monitor}")
        let bad = try Place("mine: {cron: '@daily', sql: SELECT 1, role: nobody_at_all}")
        let arguments = ["doctor", "--only", "own-tasks"]
        let fine = try await ReeveBinary.run(arguments, on: settings, environment: good.environment)
        #expect(fine.succeeded, "\(fine)")
        let found = try await ReeveBinary.run(arguments, on: settings, environment: bad.environment)
        #expect(found.ending == .exited(3) && found.output.contains("the role 'nobody_at_all' does not exist"))
    }

    /// What counts is the file that was read, not the one to which its path leads by now.
    @Test func `a link that leads elsewhere later does not make a command trusted`() throws {
        let good = try Place("mine: {cron: '@daily', command: 'echo good'}")
        let bad = try Place("mine: {cron: '@daily', command: 'echo bad'}")
        try FileManager.default.setAttributes([.posixPermissions: 0o777], ofItemAtPath: bad.folder)
        let (link, command) = ("\(good.folder)/link", Setting<String?>("tasks.custom.*.command", .text, "A command."))
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: bad.folder)
        let configuration = try Configuration.load(
            path: "\(link)/reeve.yaml", environment: [:], catalog: FeatureList.reeve.settings)
        try FileManager.default.removeItem(atPath: link)
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: good.folder)
        #expect(throws: ConfigurationError.self) { try configuration.checkCommand(command, "mine") }
        // Nor does a link in the place of the folder.
        try FileManager.default.moveItem(atPath: bad.folder, toPath: "\(bad.folder)-moved")
        defer { try? FileManager.default.removeItem(atPath: "\(bad.folder)-moved") }
        try FileManager.default.createSymbolicLink(atPath: bad.folder, withDestinationPath: good.folder)
        #expect(throws: ConfigurationError.self) { try configuration.checkCommand(command, "mine") }
        let later = try Configuration.load(
            path: "\(link)/reeve.yaml", environment: [:], catalog: FeatureList.reeve.settings)
        try later.checkCommand(command, "mine")
    }

    @Test func `a file that others can write yields no command`() async throws {
        let place = try Place("mine: {cron: '@daily', command: 'echo ran'}\nplain: {cron: '@daily', sql: SELECT 1}")
        #expect(place.mistakes() == [])
        #expect(try await place.run("mine").message == "ran")
        for (path, mode) in [(place.file, 0o666), (place.file, 0o662), (place.folder, 0o777)] {
            let before = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] ?? 0o755
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
            #expect(
                place.mistakes().contains {
                    $0.contains("'tasks.custom.mine.command' is not run, because other users can write \(path)")
                        || $0.contains("is not run, because other users can write")
                })
            let refused = try await place.run("mine")
            #expect(refused.state == "failed" && refused.message.contains("because other users can write \(path)"))
            #expect(try await place.run("plain").state == "succeeded")
            try FileManager.default.setAttributes([.posixPermissions: before], ofItemAtPath: path)
        }
        #expect(try await place.run("mine").message == "ran")
    }
}

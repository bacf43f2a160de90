import Foundation
import Postgres
import Processes
import TestSupport
import Testing

/// The shell sessions of the documentation, run as they are written, with the output that the text shows.
@Suite(.heavy, .timeLimit(.minutes(6)))
struct DocumentationTests {
    /// A command of a document, and the output that the document shows.
    private struct Step {
        let line: Int
        var command: String
        var output: [String] = []
    }

    /// Returns the sessions of a document, each with the title of its section: the code blocks in which a line begins
    /// with a dollar sign. A here-document belongs to its command.
    private static func sessions(of document: String) throws -> [(section: String, steps: [Step])] {
        let text = try String(contentsOfFile: "\(ShippedFixture.repository)/\(document)", encoding: .utf8)
        var (sessions, steps): ([(section: String, steps: [Step])], [Step]) = ([], [])
        var (section, end, isCode) = ("", String?.none, false)
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init).enumerated()
        {
            if line.hasPrefix("```") {
                if isCode, !steps.isEmpty { sessions.append((section, steps)) }
                (isCode, steps) = (!isCode, [])
            } else if !isCode {
                if line.hasPrefix("#") { section = String(line.drop { $0 == "#" || $0 == " " }) }
            } else if let last = end {
                steps[steps.count - 1].command += "\n\(line)"
                if line == last { end = nil }
            } else if line.hasPrefix("$ ") {
                steps.append(Step(line: index + 1, command: String(line.dropFirst(2))))
                end = line.firstMatch(of: /<<'?(\w+)'?/).map { String($0.1) }
            } else if !steps.isEmpty {
                steps[steps.count - 1].output.append(line)
            }
        }
        return sessions
    }

    /// Replaces what differs between two runs of the same commands: times, hashes, counts of runs and entries, and
    /// widths of columns.
    private static func plain(_ text: String) -> String {
        text.replacing(/\d{4}-\d\d-\d\dT[\d:.]+Z/, with: "TIME").replacing(/\b[0-9a-f]{12,}\b/, with: "HASH")
            .replacing(/\b\d{10}(\.\d+)?$/, with: "SECONDS").replacing(
                /(entry|(already )?anchored up to entry) \d+/, with: "entry N"
            )
            .replacing(/\d+ entries/, with: "N entries").replacing(
                /analysed \d+ of \d+ tables/, with: "analysed N tables"
            )
            .replacing(/^(shop\s+1\s+orders\s+)\d+$/) { "\($0.1)N" }.replacing(/^\d+(\s+analyze\s)/) { "N\($0.1)" }
            .replacing(/^ID +/, with: "ID ").replacing(/-+/, with: "-").replacing(/\s+/, with: " ")
            .trimmingCharacters(in: .whitespaces)
    }

    /// A shell in which the commands of a session run one after the other.
    private struct Shell {
        let environment: [String: String]
        let folder: String
        /// What is written in the documents, and what stands for it here.
        let replacements: [(String, String)]

        /// Runs a command, and keeps its variables for the next one.
        func run(_ command: String) async throws -> CommandOutcome {
            let state = "\(folder)/shell"
            let text = replacements.reduce(command) { $0.replacing($1.0, with: $1.1) }
            let script = "set -a; [ -e \(state) ] && . \(state)\n\(text)\nstatus=$?\nexport -p > \(state)\nexit $status"
            return try await Command("bash", ["-c", script], environment: environment, directory: folder).run(
                limit: .seconds(120))
        }

        /// Runs a step until it does what the document shows. Only metrics and health are asked more than once.
        func check(_ step: Step, _ document: String) async throws {
            let isLater = step.command.contains("curl ")
            let wanted = step.output.map(DocumentationTests.plain).filter { !$0.isEmpty }
            let end = ContinuousClock.now + .seconds(60)
            var lines: [String] = []
            var outcome: CommandOutcome
            repeat {
                outcome = try await run(step.command)
                let text = outcome.output + outcome.errorOutput
                lines = text.split(separator: "\n").map { line in
                    let written = replacements.reversed().reduce(String(line)) { $0.replacing($1.1, with: $1.0) }
                    return DocumentationTests.plain(written)
                }.filter { !$0.isEmpty }
                if isLater { lines = lines.filter { wanted.contains($0) } }
                if lines == wanted || !isLater { break }
                try await Task.sleep(for: .milliseconds(200))
            } while ContinuousClock.now < end
            let place = "\(document):\(step.line): \(step.command)"
            if wanted.isEmpty {
                // Where no output is shown, the command succeeds.
                #expect(outcome.succeeded, "\(place)\n\(lines.joined(separator: "\n"))")
            } else {
                #expect(lines == wanted, "\(place)")
            }
        }
    }

    private func makeFolder() throws -> String {
        let folder = "/tmp/reeve-documents-\(UUID().uuidString.prefix(8).lowercased())"
        for path in [folder, "\(folder)/state", "\(folder)/shop", "\(folder)/safe", "\(folder)/mnt"] {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            chmod(path, 0o755)
        }
        try FileManager.default.removeItem(atPath: "\(folder)/shop")
        return folder
    }

    @Test func `the tour runs as it is written`() async throws {
        let sessions = try Self.sessions(of: "README.md").filter { $0.section == "A tour" }
        #expect(sessions.flatMap(\.steps).count >= 20)
        let folder = try makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let port = try FreePort.next()
        let programs = URL(fileURLWithPath: ReeveBinary.path).deletingLastPathComponent().path
        let environment = ReeveBinary.environment(
            nil, ["REEVE_STATE": "\(folder)/state", "REEVE_HTTP_LISTEN": "127.0.0.1:\(port)"])
        let served = try RunningReeve(["serve"], environment: environment)
        let shell = Shell(
            environment: environment, folder: folder,
            replacements: [
                ("$PWD/.build/release", programs), ("/tmp/shop", "\(folder)/shop"),
                ("http://127.0.0.1:7433", "http://127.0.0.1:\(port)"),
                ("/home/me/.local/state/reeve", "\(folder)/state"),
            ])
        try await waitUntil("the service is ready: \(served.output.suffix(500))", limit: .seconds(120)) {
            try await shell.run("curl -fsS -o /dev/null http://127.0.0.1:7433/readyz").succeeded
        }
        let loaded = try await shell.run(
            "cd \(ShippedFixture.repository)/sample && psql -X -q \"$(\(ReeveBinary.path) database url)\" -f sample.sql"
        )
        #expect(loaded.succeeded, "\(loaded.errorOutput)")
        for step in sessions.flatMap(\.steps) { try await shell.check(step, "README.md") }
        for session in try Self.sessions(of: "docs/ledger.md") {
            for step in session.steps { try await shell.check(step, "docs/ledger.md") }
        }
        served.signal(SIGTERM)
        #expect(try await served.end() == 0)
    }

    @Test(.database) func `backups are made, tested and restored as it is written`() async throws {
        let database = try TestDatabase.current
        let sessions = try Self.sessions(of: "README.md").filter { $0.section == "Backups" }
        #expect(sessions.flatMap(\.steps).count >= 5)
        try await database.execute("CREATE TABLE public.t (a int)", "INSERT INTO public.t VALUES (1), (2)")
        let folder = try makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let programs = URL(fileURLWithPath: ReeveBinary.path).deletingLastPathComponent().path
        let parameters = database.settings.parameters
        let environment = ReeveBinary.environment(
            database.settings,
            [
                "REEVE_STATE": "\(folder)/state", "PGHOST": parameters["host"] ?? "",
                "PGPORT": parameters["port"] ?? "",
                "PGUSER": parameters["user"] ?? "",
                "PATH": "\(programs):\(ProcessInfo.processInfo.environment["PATH"] ?? "")",
            ])
        let target = "\(database.name)_doc"
        let shell = Shell(
            environment: environment, folder: folder,
            replacements: [
                ("/safe/place", "\(folder)/safe"), ("/mnt/backups", "\(folder)/mnt"),
                ("createdb restored", "createdb \(target)"), ("postgresql:///restored", "postgresql:///\(target)"),
            ])
        for step in sessions.flatMap(\.steps) { try await shell.check(step, "README.md") }
        let rows = try await Connection.opened(database.settings.database(target)) { connection in
            try await connection.value("SELECT count(*) FROM public.t", as: Int.self)
        }
        #expect(rows == 2)
        try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(target) WITH (FORCE)")
    }
}

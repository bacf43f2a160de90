import Foundation
import Processes
import TestSupport
import Testing

@testable import CommandLine
@testable import Kernel
@testable import ReeveApp
@testable import Reporting

@Suite struct CommandLineTests {
    private let parser = CommandLineParser(commands: FeatureList.reeve.commands)

    private func parsed(_ line: String) throws -> (String, ParsedArguments) {
        guard case .run(let spec, let arguments) = try parser.parse(line.split(separator: " ").map(String.init)) else {
            throw UsageError("not a run: \(line)")
        }
        return (spec.name, arguments)
    }

    @Test func `options stand anywhere, with a space or an equals sign`() throws {
        let (name, arguments) = try parsed("--json migrate --database x up --system=a --system b --to 3")
        #expect(name == "migrate up")
        #expect(arguments.flags == ["json"])
        #expect(arguments.values == ["database": ["x"], "system": ["a", "b"], "to": ["3"]])
        let (_, split) = try parsed("sql split -- --odd.sql")
        #expect(split.positional == ["--odd.sql"])
    }

    @Test(arguments: [
        ("migarte up", "did you mean 'migrate'"), ("migrate upp", "did you mean 'up'"),
        ("migrate up --lok-wait 3s", "did you mean '--lock-wait'"),
        ("migrate up --jsno", "did you mean '--json'"), ("frobnicate", "reeve --help"),
        ("up", "did you mean 'reeve migrate up'"),
        ("MIGRATE up", "did you mean 'migrate'"), ("migrate up --frobnicate", "reeve migrate up --help"),
    ])
    func `a word that is near is suggested`(line: String, hint: String) {
        let error = #expect(throws: UsageError.self) { try parsed(line) }
        #expect(error?.hint?.contains(hint) == true, "\(String(describing: error))")
    }

    @Test(arguments: [
        "migrate", "migrate up --to", "sql split", "sql split a b", "migrate up --dry-run=yes",
        "migrate up --to 1 --to 2", "serve now",
    ])
    func `what is incomplete or too much is refused`(line: String) {
        #expect(throws: UsageError.self) { try parsed(line) }
    }

    @Test func `the help is made of the table and fits 80 columns`() throws {
        let help = HelpText(commands: FeatureList.reeve.commands)
        for spec in FeatureList.reeve.commands {
            #expect(help.overview.contains(spec.name))
            #expect(help.family(spec.noun).contains(spec.summary.prefix(20)))
            let text = help.command(spec)
            for option in spec.options { #expect(text.contains("--\(option.name)")) }
            for line in text.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
        }
        for line in help.overview.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
        guard case .help("migrate", nil) = try parser.parse(["migrate"]) else {
            Issue.record("a noun alone is no help")
            return
        }
        guard case .help(_, .some) = try parser.parse(["migrate", "up", "-h"]) else {
            Issue.record("-h is no help")
            return
        }
    }

    @Test(arguments: [["-v"], ["-V"], ["--version"], ["--json", "--version"]])
    func `the version is shown on request`(arguments: [String]) throws {
        guard case .version = try parser.parse(arguments) else {
            Issue.record("\(arguments) is not the version")
            return
        }
    }

    @Test func `-v after a command is --verbose, as in PostgreSQL's programs`() throws {
        #expect(try parsed("migrate up -v").1.flags == ["verbose"])
        #expect(try parsed("-v migrate up").1.flags == ["verbose"])
    }

    @Test func `help names a command, a noun or nothing`() throws {
        let help = HelpText(commands: FeatureList.reeve.commands)
        #expect(try parsed("help migrate up").1.positional == ["migrate", "up"])
        #expect(try help.page([]) == help.overview)
        #expect(try help.page(["migrate"]) == help.family("migrate"))
        #expect(try help.page(["migrate", "up"]).contains("usage: reeve migrate up [options]"))
        #expect(try help.page(["serve"]).contains("usage: reeve serve"))
        let error = #expect(throws: UsageError.self) { try help.page(["migrate", "upp"]) }
        #expect(error?.hint == "did you mean 'up'")
        #expect(throws: UsageError.self) { try help.page(["serve", "now"]) }
    }

    @Test func `a table fits a terminal, and a pipe gets all of it on one line a row`() {
        var table = TextTable("KEY", "VALUE", "FROM")
        table.add(
            "a", String(repeating: "word ", count: 30) + String(repeating: "x", count: 60), "/etc/reeve/reeve.yaml:12")
        let narrow = table.text(columns: 80)
        #expect(
            narrow.split(separator: "\n").allSatisfy { $0.count <= 80 } && narrow.contains("\n     word"), "\(narrow)")
        let joined = narrow.filter { !$0.isWhitespace }
        #expect(joined.filter { $0 == "x" }.count == 60)
        #expect(table.text(columns: nil).split(separator: "\n").count == 2)
        #expect(TextWrapping.wrap("one two\n  three four\nfive", width: 5) == "one\ntwo\n  three four\nfive")
    }

    @Test func `on a terminal of 80 columns no line of the usual commands is longer`() async throws {
        let commands = [
            "help", "task list", "config show", "doctor --only nope", "migrate up", "completion -h", "config check",
        ]
        for command in commands {
            let line = "stty cols 80; '\(ReeveBinary.path)' \(command)"
            let outcome = try await Command(
                "script", ["-qec", line, "/dev/null"],
                environment: ReeveBinary.environment(
                    nil,
                    [
                        "DATABASE_URL":
                            "postgresql://somebody-with-a-long-name@127.0.0.1:1/a-database-with-a-name?application_name=x",
                        "REEVE_STATE": "/tmp/reeve-a-state-folder-with-a-long-name/and-another-long-name",
                        "TERM": "xterm",
                    ])
            ).run()
            let lines = outcome.output.replacing(/\u{1B}\[[0-9;]*m/, with: "").split(whereSeparator: \.isNewline)
            #expect(!lines.isEmpty && lines.allSatisfy { $0.count <= 80 }, "\(command): \(outcome.output)")
        }
    }

    @Test func `distances count what a typing hand gets wrong`() {
        #expect(editDistance("", "") == 0)
        #expect(editDistance("abc", "") == 3)
        #expect(editDistance("lisetn", "listen") == 1)
        #expect(editDistance("kitten", "sitting") == 3)
        #expect(closest(to: "zzz", among: ["migrate", "serve"]) == nil)
    }
}

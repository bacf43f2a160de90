import Foundation
import Testing

@testable import CommandLine
@testable import Kernel
@testable import ReeveApp

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

    @Test func `distances count what a typing hand gets wrong`() {
        #expect(editDistance("", "") == 0)
        #expect(editDistance("abc", "") == 3)
        #expect(editDistance("lisetn", "listen") == 1)
        #expect(editDistance("kitten", "sitting") == 3)
        #expect(closest(to: "zzz", among: ["migrate", "serve"]) == nil)
    }
}

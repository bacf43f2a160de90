import Foundation
import Processes
import TestSupport
import Testing

@testable import CommandLine
@testable import Kernel
@testable import ReeveApp

/// What shells offer, and the manual page: both come from the table that parses.
@Suite struct CompletionTests {
    private func offered(_ words: String..., splitsEquals: Bool = false) -> Completions.Answer {
        Completions(commands: FeatureList.reeve.commands) { kind in
            switch kind {
            case .databases: ["shop", "studio"]
            case .systems: ["posters", "publisher"]
            case .tasks: ["analyze", "anchor"]
            default: []
            }
        }.answer(words, splitsEquals: splitsEquals)
    }

    @Test func `every command and every option is offered`() {
        #expect(Set(offered("").candidates.map(\.word)) == Set(FeatureList.reeve.commands.map(\.noun)))
        for spec in FeatureList.reeve.commands {
            let words = [spec.noun] + (spec.verb.map { [$0] } ?? [])
            if let verb = spec.verb { #expect(offered(spec.noun, "").candidates.map(\.word).contains(verb)) }
            let completions = Completions(commands: FeatureList.reeve.commands) { _ in [] }
            let options = completions.answer(words + ["--"]).candidates.map(\.word)
            #expect(options == (spec.options + OptionSpec.global).map { "--\($0.name)" }, "\(spec.name)")
        }
    }

    @Test func `words, options and values are completed where they stand`() {
        #expect(offered("mig").candidates.map(\.word) == ["migrate"])
        #expect(offered("--json", "migrate", "u").candidates.map(\.word) == ["up"])
        #expect(offered("migrate", "--database", "x", "u").candidates.map(\.word) == ["up"])
        #expect(offered("migrate", "up", "--database", "s").candidates.map(\.word) == ["shop", "studio"])
        #expect(offered("migrate", "up", "--database=st").candidates.map(\.word) == ["--database=studio"])
        #expect(
            offered("migrate", "up", "--database", "=", "st", splitsEquals: true).candidates.map(\.word) == ["studio"])
        #expect(offered("migrate", "up", "--database", "=", splitsEquals: true).candidates.map(\.word).count == 2)
        #expect(offered("task", "run", "an").candidates.map(\.word) == ["analyze", "anchor"])
        #expect(offered("task", "run", "analyze", "").candidates == [])
        #expect(offered("config", "reference", "exit").candidates.map(\.word) == ["exit-codes"])
        #expect(offered("completion", "").candidates.map(\.word) == ["bash", "zsh", "fish"])
        #expect(offered("help", "migr").candidates.map(\.word) == ["migrate"])
        #expect(offered("help", "migrate", "up").candidates.map(\.word) == ["up"])
        #expect(offered("help", "migrate", "up", "").candidates == [])
        #expect(offered("sql", "split", "").hasFiles && offered("migrate", "up", "--config", "").hasFiles)
        #expect(!offered("migrate", "up", "--dry-run", "--dr").candidates.map(\.word).contains("--dry-run"))
        #expect(offered("migrate", "up", "--system", "a", "--sys").candidates.map(\.word) == ["--system"])
        #expect(offered("no", "such", "").candidates == [])
        #expect(offered("sql", "split", "--", "--").candidates == [])
    }

    /// Lets a shell that has loaded its script complete a line.
    private func bash(_ words: [String], environment: [String: String] = [:]) async throws -> [String] {
        let program =
            #"source <("$1" completion bash); shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); "#
            + #"_reeve; printf '%s\n' "${COMPREPLY[@]}""#
        let outcome = try await Command(
            "bash", ["--norc", "-c", program, "bash", ReeveBinary.path, ReeveBinary.path] + words,
            environment: ReeveBinary.environment(nil, environment), directory: "/tmp"
        ).run()
        #expect(outcome.succeeded && outcome.errorOutput.isEmpty, "\(outcome.errorOutput)")
        return outcome.output.split(separator: "\n").map(String.init)
    }

    @Test func `names that a shell interprets are not offered`() {
        let names = ["plain", "größe-2", "b`./evil`", "$(evil)", "a b", "a;b", "~x", "/srv/app_1"]
        let completions = Completions(commands: FeatureList.reeve.commands) { _ in names }
        let offered = completions.answer(["schema", "validate", "--system", ""]).candidates.map(\.word)
        #expect(offered == ["plain", "größe-2", "/srv/app_1"])
    }

    @Test func `Bash completes with names of the configuration`() async throws {
        let file = "/tmp/reeve-completion-\(UUID().uuidString.prefix(8)).yaml"
        try """
        databases:
          shop: {url: 'postgresql://127.0.0.1:1/none'}
          studio: {url: 'postgresql://127.0.0.1:1/none', systems: [./db/own]}
        """.write(toFile: file, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: file) }
        let environment = ["REEVE_CONFIG": file]
        #expect(try await bash(["migrate", "ver"]) == ["verify"])
        #expect(try await bash(["migrate", "up", "--database", "="], environment: environment) == ["shop", "studio"])
        #expect(try await bash(["migrate", "up", "--system", "./d"], environment: environment) == ["./db/own"])
        #expect(try await bash(["migrate", "up", "--config", file, "--database", "sh"]) == ["shop"])
        #expect(try await bash(["sql", "split", String(file.dropLast(3))]) == [file])
        #expect(try await bash(["task", "run", "analy"], environment: ["REEVE_CONFIG": "/nowhere"]) == ["analyze"])
    }

    @Test func `the manual page has every command, and no text is an instruction`() {
        let text = ManPage(commands: FeatureList.reeve.commands, version: "0").text
        for spec in FeatureList.reeve.commands {
            #expect(text.contains(".SS \"reeve \(spec.name.replacing("-", with: "\\-"))"), "\(spec.name)")
        }
        let odd = CommandSpec(
            noun: "odd", verb: nil, summary: ".x 'a' \\n", discussion: "one\n.two\n  kept", options: []
        ) { _ in .done }
        let page = ManPage(commands: [odd], version: "0").text
        #expect(page.contains("\\&.x \\(aqa\\(aq \\en.\n.PP\none\n\\&.two\n.br\n  kept\n"))
        let known = [".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".BR", ".I", ".br"]
        for line in text.split(separator: "\n") where line.hasPrefix(".") || line.hasPrefix("'") {
            #expect(known.contains(String(line.prefix { $0 != " " })), "\(line)")
        }
    }
}

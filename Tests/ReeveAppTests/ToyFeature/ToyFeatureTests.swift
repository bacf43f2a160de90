import CommandLine
import Foundation
import Kernel
import Ledger
import Postgres
import ProgramFeature
import ReeveApp
import Reporting
import Scheduling
import Telemetry
import TestSupport
import Testing

@testable import Kernel

/// A folder and a line in the list are all that a feature takes: everything that is made from the list has it.
@Suite struct ToyFeatureTests {
    private let features = FeatureList(FeatureList.reeve.features + [.toy])

    private func configuration(_ yaml: String, _ environment: [String: String] = [:]) throws -> Configuration {
        let file = "/tmp/reeve-toy-\(UUID().uuidString.prefix(8)).yaml"
        try yaml.write(toFile: file, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: file) }
        return try features.configuration(path: file, environment: environment)
    }

    @Test func `its command is parsed and in the help`() throws {
        let parser = CommandLineParser(commands: features.commands)
        guard case .run(let spec, let arguments) = try parser.parse(["toy", "greet", "you"]) else {
            Issue.record("not a command")
            return
        }
        #expect(spec.name == "toy greet" && arguments.positional == ["you"])
        #expect(HelpText(commands: features.commands).overview.contains("toy greet"))
        #expect(throws: UsageError.self) {
            try CommandLineParser(commands: FeatureList.reeve.commands).parse(["toy", "greet", "you"])
        }
    }

    @Test func `its settings have defaults, are read and are checked`() throws {
        let none = try configuration("")
        #expect(none[ToyCommand.greeting] == "hello" && none[ToyCommand.times] == nil)
        let file = try configuration("toy:\n  greeting: hi\n  times: 2\n")
        #expect(file[ToyCommand.greeting] == "hi" && file[ToyCommand.times] == 2)
        #expect(try configuration("", ["REEVE_TOY_TIMES": "3"])[ToyCommand.times] == 3)
        let error = #expect(throws: ConfigurationError.self) { try configuration("toy:\n  times: 4\n") }
        #expect(error?.description.contains("from 1 to 3") == true)
        #expect(throws: ConfigurationError.self) {
            try FeatureList.reeve.configuration(path: "\(ShippedFixture.repository)/Package.swift", environment: [:])
        }
    }

    @Test func `its section of system.yaml, its task, its metric and its check do their work`() async throws {
        let fixture = try MigrationFixture()
        try fixture.write("system.yaml", "name: app\ntoys: [ball, kite]\n")
        let configuration = try configuration("tasks:\n  play: {enabled: yes, every: 5s}\n")
        let systems = try SystemCatalog(configuration: configuration, sections: features.sections).systems(
            [fixture.folder], origin: .flag("system"), options: [], withRequirements: false)
        #expect(systems[0][ToySection.section] == ["ball", "kite"])
        #expect(throws: ConfigurationError.self) {
            try SystemFile(folder: fixture.folder, sections: FeatureList.reeve.sections)
        }
        let plan = try #require(
            try features.plans(configuration, isEmbedded: false).first { $0.spec.name == "play" })
        #expect(plan.isEnabled)
        let cluster = try await TestCluster.shared
        let database = Database(cluster.settings(database: "postgres"))
        let open = OpenDatabase(name: "main", database: database, cluster: nil, systems: systems)
        let said = try await ToyTask.spec.work(TaskCall(open: open, configuration: configuration, logger: .silent))
        #expect(said == "played with ball, kite")
        var sample = MetricSample()
        try await ToyMetrics.collector.collect(open, &sample)
        let registry = MetricRegistry()
        registry.replace("toys", with: sample)
        #expect(ExpositionFormat.text.render(registry.snapshot()).contains("reeve_toys{database=\"main\"} 3"))
        await database.pool.close()
    }

    @Test(.database) func `its table in the ledger is made, brought up to date and known as ours`() async throws {
        let database = try TestDatabase.current
        try await LedgerPart.$all.withValue(features.ledger) {
            try await database.with { connection in
                try LedgerSchema.install(on: connection)
                try ToyLedger.record("ball", on: connection)
                #expect(try LedgerSchema.isInstalled(on: connection))
                // As the version before left it.
                try connection.execute("ALTER TABLE reeve.toys DROP COLUMN broken")
                try connection.query("UPDATE reeve.ledger SET parts = parts || '{\"toys\": 1}'")
                try LedgerSchema.install(on: connection)
                let isBroken: Bool? = try connection.query("SELECT broken FROM reeve.toys").first?.get(0)
                #expect(isBroken == false)
                try connection.query("UPDATE reeve.ledger SET parts = parts || '{\"toys\": 3}'")
                let error = #expect(throws: LedgerError.self) { try LedgerSchema.install(on: connection) }
                #expect(
                    error?.description.contains("the part 'toys' of the ledger in this database has version 3") == true)
            }
        }
        // A program without the feature leaves the ledger alone.
        let error = await #expect(throws: LedgerError.self) {
            try await database.with { _ = try LedgerSchema.isInstalled(on: $0) }
        }
        #expect(error?.description.contains("table toys is not part of the ledger") == true)
    }

    @Test func `its error is reported as it says`() {
        let report = ErrorReport(ToyError())
        #expect(report.code == "toy" && report.hint == "glue it" && report.exitCode == .finding)
    }

    @Test(arguments: Reference.allCases)
    func `the references have what it brings`(topic: Reference) {
        let lines: [Reference: [String]] = [
            .settings: ["| `toy.greeting` | `hello` | What the toy says. |", "| `toy.times` |  |"],
            .system: ["| `toys` | The toys of the system. | `toys: [ball]` |"],
            .tasks: ["| `play` | `@daily` | 60 s | 0 |"], .checks: ["| `toys` | 60 s |"],
            .metrics: ["| `reeve_toys` | gauge |  | database |"], .errors: ["| `toy` | 3 | A toy is broken. |"],
        ]
        let (with, without) = (topic.table(features).markdown, topic.table(.reeve).markdown)
        for line in lines[topic] ?? [] { #expect(with.contains(line) && !without.contains(line), "\(line)") }
    }
}

import Foundation
import Postgres
import TestSupport
import Testing

@testable import Kernel
@testable import MaintenanceFeature
@testable import ReeveApp

@Suite struct ConfigurationTests {
    private func load(_ yaml: String, _ environment: [String: String] = [:]) throws -> Configuration {
        let file = "/tmp/reeve-config-\(UUID().uuidString.prefix(8)).yaml"
        try yaml.write(toFile: file, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: file) }
        return try FeatureList.reeve.configuration(path: file, environment: environment)
    }

    @Test(arguments: [
        ("http:\n  lisen: off\n", ":2:", "did you mean 'listen'"),
        ("htp:\n  listen: off\n", ":1:", "did you mean 'http'"),
        ("http:\n  listen: nowhere\n", ":2:", "unix:/path"), ("http:\n\tlisten: off\n", ":2:", "spaces"),
        ("pool:\n  size: many\n", ":2:", ""), ("pool:\n  size: 0\n", ":2:", ""), ("drain: soon\n", ":1:", "500ms"),
        ("log:\n  level: wraning\n", ":2:", "did you mean 'warning'"), ("pool: 10\n", ":1:", ""),
        ("drain: [1s]\n", ":1:", ""),
        ("pool:\n  size: 5\n  size: 6\n", ":3:", ""), ("a: [1\n", ":2:", ""),
        ("tasks:\n  analyze:\n    schedule: '61 * * * *'\n", ":3:", ""),
        ("tasks:\n  analyze:\n    zone: Mars/Olympus\n", ":3:", "Europe/Berlin"),
        ("database: postgresql+asyncpg://h/d\n", ":1:", "postgresql://"),
        ("databases:\n  a:\n    ulr: x\n", ":3:", "did you mean 'url'"),
        ("tasks:\n  analyze:\n    enabled: maybe\n", ":3:", ""),
        ("backup:\n  repository: gs://b/p\n", ":2:", "s3://BUCKET"),
        ("backup:\n  repository: [/srv, 's3://b?colour=red']\n", ":2:", "file:///FOLDER"),
    ])
    func `what is wrong is told with file, line and what was likely meant`(yaml: String, line: String, hint: String) {
        let error = #expect(throws: ConfigurationError.self) { try load(yaml) }
        #expect(error?.description.contains(line) == true, "\(String(describing: error))")
        #expect(hint.isEmpty || error?.hint?.contains(hint) == true, "\(String(describing: error?.hint))")
    }

    private static func lines(_ count: Int, _ line: (Int) -> String) -> String {
        (0..<count).map { line($0) + "\n" }.joined()
    }

    /// A name per level, each of which stands for ten of the one before.
    private static let bomb = lines(11) { level in
        let below = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
        return "a\(level): &a\(level) " + (level == 0 ? "[x]" : "[\(below)]")
    }

    private struct Excess: CustomTestStringConvertible {
        let yaml: String
        let message: String

        init(_ yaml: String, _ message: String) {
            self.yaml = yaml
            self.message = message
        }

        var testDescription: String { "\(yaml.prefix(20).debugDescription): \(message)" }
    }

    private static let excesses = [
        Excess(bomb, "more than 100000 values"),
        Excess(String(repeating: "[", count: 100_000), "nested more than 100 levels deep"),
        Excess(lines(200) { String(repeating: " ", count: $0) + "a:" }, "nested more than 100 levels deep"),
        Excess("a: &a [*a]\n", "nested more than 100 levels deep"),
        Excess(lines(100_001) { "k\($0): x" }, "more than 100000 values"),
        Excess(lines(50_000) { "- &a\($0) x" }, "more than 1000 anchors"),
        Excess("# " + String(repeating: "x", count: 4 << 20), "larger than 4 MiB"),
        Excess("drain: 5s\n---\ndrain: 6s\n", ":2: the file contains a second YAML document"),
        Excess("---\ndrain: 5s\n...\n---\n", ":4: the file contains a second YAML document"),
    ]

    @Test(arguments: excesses)
    private func `a file that stands for more than it is, or for two, is refused at once`(excess: Excess) {
        let began = ContinuousClock.now
        let error = #expect(throws: ConfigurationError.self) { try load(excess.yaml) }
        #expect(error?.description.contains(excess.message) == true, "\(String(describing: error))")
        #expect(ContinuousClock.now - began < .seconds(10))
    }

    @Test func `an ordinary file with aliases and one document is read`() throws {
        let yaml = "---\nbackup:\n  repository: &r [/srv/a, /srv/b]\n  checks: &c []\n...\n"
        #expect((try? YAMLNode.parse(yaml, file: "f")) != nil)
        let aliased = try YAMLNode.parse("a: &a [x, y]\nb: *a\nc: [*a, *a]\n", file: "f")
        guard case .mapping(let entries, _) = aliased, case .sequence(let items, _) = entries[2].value else {
            Issue.record("no list")
            return
        }
        #expect(items.count == 2)
    }

    @Test(arguments: ["../../x", "a.b", ".", "a/b", "", "-a", "ä", "a b"])
    func `a name that is no word is refused`(name: String) throws {
        for key in ["databases", "tasks"] {
            let error = #expect(throws: ConfigurationError.self) {
                try load("\(key):\n  '\(name)': {url: 'postgresql://h/d'}\n")
            }
            #expect(
                error?.description.contains(":2: '\(name)' is not a valid name under '\(key)'") == true,
                "\(String(describing: error))")
            #expect(error?.hint == "use letters, digits, _ and -")
        }
    }

    @Test func `the environment is stronger than the file, and the file than defaults`() throws {
        let yaml = "pool:\n  size: 3\n  wait: 5s\n"
        #expect(try load(yaml).poolLimits == Pool.Limits(size: 3, overflow: 20, wait: .seconds(5)))
        let changed = try load(yaml, ["REEVE_POOL_SIZE": "7", "DATABASE_POOL_SIZE": "9", "DATABASE_MAX_OVERFLOW": "1"])
        #expect(changed.poolLimits == Pool.Limits(size: 7, overflow: 1, wait: .seconds(5)))
        #expect(changed.store.origin("pool.size") == .environment("REEVE_POOL_SIZE"))
        #expect(changed.store.origin("drain") == .fallback)
        let task = try load("", ["REEVE_TASKS_ANALYZE_ENABLED": "false", "REEVE_SYSTEMS": "posters, advideo"])
        #expect(task[TaskSettings.standard.enabled, "analyze"] == false)
        #expect(task.databases[0].systems == ["posters", "advideo"])
        #expect(throws: ConfigurationError.self) { try load("", ["REEVE_POOL_SIZE": "x"]) }
    }

    @Test func `databases come from URL, libpq's variables, the container's, and else the embedded`() throws {
        func parameters(_ yaml: String, _ environment: [String: String]) throws -> [String: String]? {
            guard case .connection(let settings) = try load(yaml, environment).databases[0].source else { return nil }
            return settings.parameters
        }
        #expect(try parameters("", [:]) == nil)
        #expect(
            try parameters(
                "", ["POSTGRES_DB": "d", "POSTGRES_USER": "u", "POSTGRES_PASSWORD": "p", "POSTGRES_PORT": "5433"])
                == ["dbname": "d", "user": "u", "password": "p", "port": "5433", "host": "localhost"])
        #expect(try parameters("", ["PGHOST": "h", "POSTGRES_DB": "d"]) == [:])
        #expect(try parameters("", ["DATABASE_URL": "postgresql://h/a", "PGHOST": "h"])?["dbname"] == "a")
        #expect(
            try parameters("", ["DATABASE_URL": "postgresql://h/a", "REEVE_DATABASE_URL": "postgresql://h/b"])?[
                "dbname"] == "b")
        #expect(try parameters("database: postgresql://h/c\n", [:])?["dbname"] == "c")
        #expect(try parameters("database: postgresql://h/c\n", ["DATABASE_URL": "postgresql://h/a"])?["dbname"] == "a")
        let several = try load(
            "databases:\n  one: {url: 'postgresql://h/1', systems: [posters]}\n  two: {url: 'postgresql://h/2'}\nsystems: advideo\n"
        )
        #expect(several.databases.map(\.name) == ["one", "two"])
        #expect(several.databases.map(\.systems) == [["posters"], ["advideo"]])
        #expect(throws: ConfigurationError.self) {
            try load("database: postgresql://h/c\ndatabases:\n  x: {url: 'postgresql://h/d'}\n")
        }
        #expect(throws: ConfigurationError.self) { try load("databases:\n  x: {systems: []}\n") }
    }

    @Test func `the example is valid and has every key`() throws {
        let path = "\(ShippedFixture.repository)/reeve.example.yaml"
        let configuration = try FeatureList.reeve.configuration(path: path, environment: [:])
        #expect(configuration.databases.map(\.name) == ["shop", "studio"])
        let tasks = try FeatureList.reeve.plans(configuration, isEmbedded: false)
        #expect(tasks.map(\.isEnabled) == [false] + Array(repeating: true, count: 12))
        let text = try String(contentsOfFile: path, encoding: .utf8)
        for key in FeatureList.reeve.settings.keys {
            let word = key.path.last == "*" ? key.path[key.path.count - 2] : key.path[key.path.count - 1]
            #expect(text.contains("\(word):"), "\(key.dotted) is not in the example")
        }
        let uncommented = text.replacing("#every:", with: "every:")
        #expect(throws: (any Error).self) {
            try FeatureList.reeve.plans(try load(uncommented), isEmbedded: false)
        }
    }

    @Test func `a variable that names no key is found`() throws {
        let configuration = try load(
            "", ["REEVE_HTTP_LISTN": "off", "REEVE_DRAIN": "5s", "REEVE_TASKS_MIGRATE_ENABLED": "no"])
        #expect(configuration.store.unknownVariables == ["REEVE_HTTP_LISTN": "REEVE_HTTP_LISTEN"])
    }

    @Test func `a task that is not there is refused`() throws {
        let configuration = try load("tasks:\n  analyse:\n    enabled: true\n")
        let error = #expect(throws: ConfigurationError.self) {
            try FeatureList.reeve.plans(configuration, isEmbedded: false)
        }
        #expect(error?.hint == "did you mean 'analyze'")
    }

    @Test func `a system file is checked like the configuration`() throws {
        let fixture = try MigrationFixture()
        _ = try SystemFile(folder: fixture.folder, sections: FeatureList.reeve.sections)
        for (text, expected) in [
            ("nmae: app\n", "did you mean 'name'"), ("schema: app\n", "the key 'name' is missing"),
            ("name: App\n", "not a valid name"),
            ("name: [a]\n", "single value"),
        ] {
            try fixture.write("system.yaml", text)
            let error = #expect(throws: ConfigurationError.self) {
                try SystemFile(folder: fixture.folder, sections: FeatureList.reeve.sections)
            }
            let told = "\(error?.description ?? "") \(error?.hint ?? "")"
            #expect(told.contains(expected))
        }
    }

    @Test func `statistics are stale by autovacuum's measure`() {
        func stale(_ rows: Double, _ changes: Int, _ analyzed: Bool) -> Bool {
            AnalyzeTask.isStale(
                AnalyzeTask.TableStatistics(schema: "s", name: "t", rows: rows, changes: changes, wasAnalyzed: analyzed)
            )
        }
        #expect(!stale(-1, 0, false) && stale(-1, 1, false) && stale(100, 0, false))
        #expect(!stale(1000, 150, true) && stale(1000, 151, true) && !stale(0, 50, true))
    }
}

import Foundation
import Kernel
import ProgramFeature
import ReeveApp
import TestSupport
import Testing

/// The documentation holds the references that the program prints. With REEVE_WRITE_REFERENCES set, the tables in the
/// documents are written anew.
@Suite struct ReferenceTests {
    private static let documents: [Reference: String] = [
        .settings: "configuration.md", .system: "system-yaml.md", .tasks: "tasks.md", .checks: "checks.md",
        .metrics: "metrics.md", .errors: "errors.md", .exitCodes: "exit-codes.md",
    ]

    @Test(arguments: Reference.allCases)
    func `the document holds what the program prints`(topic: Reference) throws {
        let document = try #require(Self.documents[topic])
        let path = "\(ShippedFixture.repository)/docs/\(document)"
        let table = topic.table(.reeve).markdown
        var text = try String(contentsOfFile: path, encoding: .utf8)
        if ProcessInfo.processInfo.environment["REEVE_WRITE_REFERENCES"] != nil {
            let head = text.split(separator: "\n", omittingEmptySubsequences: false).prefix { !$0.hasPrefix("|") }
            text = head.joined(separator: "\n") + "\n" + table
            try text.write(toFile: path, atomically: true, encoding: .utf8)
        }
        #expect(
            text.hasSuffix("\n" + table),
            "docs/\(document) is not what 'reeve config reference \(topic.rawValue)' prints")
    }

    @Test func `names are used once, and say what they are`() {
        let features = FeatureList.reeve
        func isUnique(_ names: [String]) -> Bool { Set(names).count == names.count }
        #expect(isUnique(features.commands.map(\.name)) && isUnique(features.settings.keys.map(\.dotted)))
        #expect(isUnique(features.tasks.map(\.name)) && isUnique(features.checks.map(\.name)))
        #expect(isUnique(features.metrics.map(\.name)) && isUnique(features.collectors.map(\.name)))
        #expect(isUnique(features.sections.map(\.name)) && isUnique(features.probes.map(\.name)))
        for metric in features.metrics {
            #expect(metric.name.hasSuffix("_total") == (metric.kind == .counter), "\(metric.name)")
            #expect(metric.help.hasSuffix("."), "\(metric.name)")
        }
    }

    /// What the type of a setting promises holds without a configuration.
    @Test func `every default is a value of its setting`() throws {
        let settings = FeatureList.reeve.settings
        for key in settings.keys {
            guard let fallback = key.fallback else { continue }
            var store = SettingStore(settings)
            try store.set(key.path.map { $0 == "*" ? "analyze" : $0 }, [fallback], .flag("test"))
        }
    }
}

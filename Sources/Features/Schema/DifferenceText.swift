import Catalog
import Kernel
import Migrations
import Postgres
import Reporting
import SQL

/// The text and JSON forms of differences.
struct DifferenceText {
    private let differences: [Difference]
    private let mend: ([Difference]) -> MendScript
    /// Notes for the user in addition to the differences.
    let notes: [String]
    /// Lines about migrations whose files were changed, and about unfinished migrations.
    let migrations: [String]

    /// - Parameter lossy: whether the SQL includes statements that lose rows or values. Otherwise they are comments.
    init(differences: [Difference], mender: Mender, lossy: Bool) {
        self.differences = differences
        mend = { mender.script(for: $0, lossy: lossy) }
        notes = []
        migrations = []
    }

    /// - Parameter lossy: whether the SQL includes statements that lose rows or values. Otherwise they are comments.
    init(_ report: SchemaReport, lossy: Bool) {
        differences = report.differences
        mend = { report.mend($0, lossy: lossy) }
        var notes: [String] = []
        for (system, count) in report.pending.sorted(by: { $0.key < $1.key }) where count > 0 {
            notes.append(
                "note: \(system) has \(counted(count, "pending migration")), which \(count == 1 ? "was" : "were") not compared"
            )
        }
        if !report.ignored.isEmpty { notes.append("note: ignored: \(counted(report.ignored.count, "difference"))") }
        for entry in report.unusedEntries {
            notes.append("note: validate.ignore: '\(entry.pattern)' no longer matches any difference")
        }
        for kind in report.found.unsupportedKinds { notes.append("note: \(kind) cannot be compared") }
        if report.expected.source == .snapshots {
            notes.append("note: compared with the committed snapshots, because no scratch database may be created")
        }
        self.notes = notes
        migrations = report.migrations.map { "\($0.finding.evidence)" + ($0.finding.mend.map { "\n  \($0)" } ?? "") }
    }

    /// The text: one line per difference.
    var lines: String { (migrations + [differenceLines]).joined(separator: "\n") }

    private var differenceLines: String {
        if differences.isEmpty {
            return migrations.isEmpty ? "no difference" : "no difference to the applied migrations"
        }
        let all = differences.map { "\($0.system.map { "\($0): " } ?? "")\(Self.line($0))" }
        let count = differences.count
        return (all + [counted(count, "difference")]).joined(separator: "\n")
    }

    static func line(_ difference: Difference) -> String {
        let object = "\(difference.object.kind.name) \(visible("\(difference.object)"))"
        switch difference.sort {
        case .missing: return "\(object) is missing"
        case .unexpected: return "\(object) is in no migration"
        case .changed where ExactText.same(difference.expected, difference.found):
            return "\(object): a hidden value of \(visible(difference.property ?? "")) differs"
        case .changed:
            let (expected, found) = shortened(difference.expected, difference.found)
            let property = difference.property ?? ""
            let verb = property.hasPrefix("privileges ") ? "are" : "is"
            return "\(object): \(visible(property)) \(verb) \(found), not \(expected)"
        }
    }

    /// Shortens two values to one line each. A long value is shown from just before the first difference.
    private static func shortened(_ expected: String?, _ found: String?) -> (String, String) {
        let common = zip(expected ?? "", found ?? "").prefix { $0 == $1 }.count
        func short(_ value: String?) -> String {
            guard let value else { return "(default)" }
            let limit = 60
            let start = value.count > limit ? max(0, common - 15) : 0
            let part = value.dropFirst(start).prefix(limit)
            return "'\(start > 0 ? "…" : "")\(visible(String(part)))\(start + limit < value.count ? "…" : "")'"
        }
        return (short(expected), short(found))
    }

    /// The SQL script that mends all differences.
    var script: String { differences.isEmpty ? "" : mend(differences).script }

    var json: [JSONValue] {
        differences.map { difference in
            var fields = Self.fields(difference)
            let script = mend([difference])
            fields["mend"] = .string(script.script)
            fields["loss"] = .string((script.statements + script.withheld).lazy.compactMap(\.loss).first)
            return .object(fields)
        }
    }

    static func fields(_ difference: Difference) -> [String: JSONValue] {
        [
            "system": .string(difference.system), "kind": .string(difference.object.kind.name),
            "object": .string(difference.object.description), "property": .string(difference.property ?? "present"),
            "expected": .string(difference.expected), "found": .string(difference.found),
        ]
    }
}

extension LiveReport {
    var text: String {
        let failed = failures.map { "\($0.object.kind.name) \(visible("\($0.object): \($0.reason)"))" }
        let left = untried.map { "not tested: \($0.object.kind.name) \(visible("\($0.object): \($0.reason)"))" }
        let sum =
            "tested \(counted(held.count + failures.count, "object")): \(held.count) passed, \(failures.count) failed; "
            + "\(untried.count) could not be tested"
        return (left + failed + [sum]).joined(separator: "\n")
    }

    var json: JSONValue {
        let list = { (entries: [Entry]) -> JSONValue in
            .array(
                entries.map {
                    [
                        "kind": .string($0.object.kind.name), "object": .string($0.object.description),
                        "reason": .string($0.reason),
                    ]
                })
        }
        return ["tried": .int(held.count + failures.count), "failures": list(failures), "untried": list(untried)]
    }
}

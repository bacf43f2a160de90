import Foundation
import Kernel
import Reporting

/// A reference that is generated from the features. The documentation contains a copy of each reference, and a test
/// checks that the copies are up to date.
public enum Reference: String, CaseIterable, Sendable {
    case settings
    case system = "system-yaml"
    case tasks, checks, metrics, errors
    case exitCodes = "exit-codes"

    /// Returns the table for the given features.
    public func table(_ features: FeatureList) -> ReferenceTable {
        switch self {
        case .settings: Self.settings(features.settings.keys)
        case .system: Self.system(SystemFile.keys + features.sections)
        case .tasks: Self.tasks(features.tasks)
        case .checks: Self.checks(features.checks)
        case .metrics: Self.metrics(features)
        case .errors: Self.errors(features.errorCodes)
        case .exitCodes: Self.statuses
        }
    }

    private static func settings(_ keys: [SettingKey]) -> ReferenceTable {
        var table = ReferenceTable(
            ["key", "default", "summary"], heads: ["key", "default", "meaning"], extra: "environment")
        for key in keys {
            table.add(
                [.code(key.dotted.replacing("*", with: "NAME")), .code(key.fallback), .text(key.summary)],
                extra: SettingKey.environmentName(key.path))
        }
        return table
    }

    private static func system(_ keys: [SystemKey]) -> ReferenceTable {
        var table = ReferenceTable(["key", "summary", "example"], heads: ["key", "meaning", "example"])
        for key in keys { table.add([.code(key.name), .text(key.summary), .code(key.example)]) }
        return table
    }

    private static func tasks(_ tasks: [TaskSpec]) -> ReferenceTable {
        var table = ReferenceTable(
            ["task", "schedule", "timeout", "retries", "summary"],
            heads: ["task", "schedule", "timeout", "retries", "what it does"])
        for task in tasks {
            table.add([
                .code(task.name), .code(task.schedule), .text("\(task.timeout.components.seconds) s"),
                .text("\(task.retries)"), .text(task.summary),
            ])
        }
        return table
    }

    private static func checks(_ checks: [Check]) -> ReferenceTable {
        var table = ReferenceTable(["check", "limit", "summary"], heads: ["check", "limit", "what it checks"])
        for check in checks {
            table.add([.code(check.name), .text("\(check.limit.components.seconds) s"), .text(check.summary)])
        }
        return table
    }

    private static func metrics(_ features: FeatureList) -> ReferenceTable {
        let alerts = AlertRules.shipped()
        var table = ReferenceTable(
            ["name", "type", "unit", "labels", "summary", "alerts"],
            heads: ["metric", "type", "unit", "labels", "meaning", "alerts"])
        for metric in features.metrics.sorted(by: { $0.name < $1.name }) {
            table.add([
                .code(metric.name), .text(metric.kind.rawValue), .text(metric.unit),
                .text(metric.labels.joined(separator: ", ")), .text(metric.help),
                .text(alerts.names(using: metric.name).joined(separator: ", ")),
            ])
        }
        return table
    }
}

extension Reference {
    private static func errors(_ codes: [ErrorCode]) -> ReferenceTable {
        var table = ReferenceTable(["code", "exit", "summary"], heads: ["code", "exit", "meaning"])
        for code in codes {
            table.add([
                code.name == ErrorCode.sqlState ? .text(code.name) : .code(code.name),
                .text(code.exitCodes.map { "\($0.rawValue)" }.joined(separator: ", ")), .text(code.meaning),
            ])
        }
        table.add([
            .code("interrupted"), .text("128 + N"),
            .text("A signal ended the command. The message says what was done."),
        ])
        return table
    }

    private static var statuses: ReferenceTable {
        var table = ReferenceTable(["exit", "name", "summary"], heads: ["exit", "name", "meaning"])
        for code in ExitCode.allCases {
            table.add([.text("\(code.rawValue)"), .text(code.name), .text(code.meaning)])
        }
        table.add([
            .text("128 + N"), .text("interrupted"),
            .text("Signal N ended the command: 129 SIGHUP, 130 SIGINT, 143 SIGTERM."),
        ])
        return table
    }
}

/// A table that is printed as Markdown or as JSON.
public struct ReferenceTable: Sendable {
    enum Cell: Sendable {
        case text(String)
        case code(String?)
    }

    private let fields: [String]
    private let heads: [String]
    private let extra: String?
    private var rows: [(cells: [Cell], extra: String)] = []

    /// - Parameters:
    ///   - fields: the names of the columns in JSON.
    ///   - heads: the column headings in Markdown.
    ///   - extra: the name of an additional field that only JSON has.
    init(_ fields: [String], heads: [String], extra: String? = nil) {
        self.fields = fields
        self.heads = heads
        self.extra = extra
    }

    mutating func add(_ cells: [Cell], extra: String = "") { rows.append((cells, extra)) }

    public var markdown: String {
        let head = "| \(heads.joined(separator: " | ")) |\n|\(String(repeating: "---|", count: heads.count))\n"
        return rows.reduce(into: head) { text, row in
            text += "| \(row.cells.map(Self.markdown).joined(separator: " | ")) |\n"
        }
    }

    private static func markdown(_ cell: Cell) -> String {
        switch cell {
        case .text(let text): text
        case .code(let text): text.map { "`\($0)`" } ?? ""
        }
    }

    var json: JSONValue {
        .array(
            rows.map { row in
                var values: [String: JSONValue] = [:]
                for (field, cell) in zip(fields, row.cells) {
                    switch cell {
                    case .text(let text): values[field] = .string(text)
                    case .code(let text): values[field] = .string(text)
                    }
                }
                if let extra { values[extra] = .string(row.extra) }
                return .object(values)
            })
    }
}

/// The shipped alert rules. They can be searched by metric.
struct AlertRules: Sendable {
    private let rules: [(name: String, expression: String)]

    /// Reads the rules of `monitoring/rules`; none if the folder is not installed.
    static func shipped() -> AlertRules {
        guard let folder = ShippedFiles.path("monitoring/rules") else { return AlertRules(rules: []) }
        let files = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return AlertRules(
            rules: files.filter { $0.hasSuffix(".yaml") && !$0.hasSuffix(".test.yaml") }.sorted().flatMap { file in
                let path = "\(folder)/\(file)"
                guard let text = try? String(contentsOfFile: path, encoding: .utf8),
                    let node = try? YAMLNode.parse(text, file: path)
                else { return [(name: String, expression: String)]() }
                return node["groups"].flatMap { $0["rules"] }.compactMap { rule in
                    guard let name = rule["alert"].first?.text, let expression = rule["expr"].first?.text else {
                        return nil
                    }
                    return (name, expression)
                }
            })
    }

    func names(using metric: String) -> [String] {
        rules.filter { rule in
            let words = rule.expression.split { !($0.isLetter || $0.isNumber || $0 == "_" || $0 == ":") }
            return words.contains { $0 == metric || $0 == "\(metric)_bucket" || $0 == "\(metric)_count" }
        }.map(\.name)
    }
}

extension YAMLNode {
    /// Returns the values of a key: the elements of a list, or a single value; none if the key is missing.
    fileprivate subscript(_ key: String) -> [YAMLNode] {
        guard case .mapping(let entries, _) = self, let value = entries.first(where: { $0.key == key })?.value else {
            return []
        }
        if case .sequence(let items, _) = value { return items }
        return [value]
    }

    fileprivate var text: String? { if case .scalar(let text, _, _) = self { text } else { nil } }
}

import Foundation
import Scheduling

/// The settings that were made, each with where it was made; the strongest source wins.
struct SettingStore: Sendable {
    enum Origin: Sendable, Equatable, CustomStringConvertible {
        case file(String, line: Int)
        case environment(String)
        case flag(String)
        case fallback

        var description: String {
            switch self {
            case .file(let file, let line): "\(file):\(line)"
            case .environment(let name): "environment \(name)"
            case .flag(let name): "--\(name)"
            case .fallback: "default"
            }
        }
    }

    struct Setting: Sendable {
        let key: ConfigurationKey
        /// One value; a list has any number.
        let values: [String]
        let origin: Origin
    }

    /// By dotted path.
    private(set) var settings: [String: Setting] = [:]
    /// The variables `REEVE_…` that name no key, with what was likely meant.
    private(set) var unknownVariables: [String: String?] = [:]

    /// Reads a file's tree; every key must be known.
    ///
    /// - Throws: `ConfigurationError` with the line, and the key that was likely meant.
    mutating func read(_ node: YAMLNode, file: String) throws {
        try read(node, at: [], file: file)
    }

    private mutating func read(_ node: YAMLNode, at path: [String], file: String) throws {
        if path == ["database"], case .scalar(let text, _, let line) = node, !node.isNull {
            return try set(["database", "url"], [text], .file(file, line: line))
        }
        if let key = ConfigurationKey.all.first(where: { $0.matches(path) }) {
            if node.isNull { return }
            return try set(path, try values(of: node, key, path, file), .file(file, line: node.line))
        }
        guard case .mapping(let entries, _) = node else {
            if node.isNull { return }
            throw ConfigurationError(
                file, node.line, "'\(path.joined(separator: "."))' holds further keys, not a value")
        }
        for entry in entries {
            let inner = path + [entry.key]
            guard Self.isKnown(inner) else {
                let known = Self.children(of: path)
                let hint =
                    closest(to: entry.key, among: known).map { "did you mean '\($0)'" }
                    ?? (known.isEmpty ? nil : "known here: \(known.joined(separator: ", "))")
                throw ConfigurationError(
                    file, entry.keyLine, "unknown key '\(inner.joined(separator: "."))'", hint: hint)
            }
            try read(entry.value, at: inner, file: file)
        }
    }

    private func values(
        of node: YAMLNode, _ key: ConfigurationKey, _ path: [String], _ file: String
    ) throws -> [String] {
        switch node {
        case .scalar(let text, _, _): return key.kind == .list ? Self.list(text) : [text]
        case .sequence(let items, let line) where key.kind == .list:
            return try items.map {
                guard case .scalar(let text, _, _) = $0 else {
                    throw ConfigurationError(file, line, "'\(path.joined(separator: "."))' is a list of words")
                }
                return text
            }
        case .mapping(let entries, _) where key.kind == .reasons:
            return try entries.map { entry in
                guard case .scalar(let reason, _, _) = entry.value else {
                    throw ConfigurationError(file, entry.keyLine, "the reason for '\(entry.key)' is a text")
                }
                return entry.key + ReasonedList.separator + reason
            }
        case .sequence(_, let line), .mapping(_, let line):
            throw ConfigurationError(file, line, "'\(path.joined(separator: "."))' is a single value")
        }
    }

    /// Reads `REEVE_…` variables, and those that other tools use under the strength of these.
    mutating func read(environment: [String: String]) throws {
        let foreign = [
            "DATABASE_POOL_SIZE": ["pool", "size"], "DATABASE_MAX_OVERFLOW": ["pool", "max_overflow"],
            "DATABASE_URL": ["database", "url"],
        ]
        for (name, path) in foreign {
            if let value = environment[name], !value.isEmpty { try set(path, [value], .environment(name)) }
        }
        for key in ConfigurationKey.all where !key.path.contains("*") {
            try read(key.path, environment)
        }
        // Names that the file gives, and those of tasks, stand in variables in capitals.
        let named = Set(
            settings.keys.compactMap { path -> [String]? in
                let words = path.split(separator: ".").map(String.init)
                return ["databases", "tasks", "schemas"].contains(words[0]) ? Array(words.prefix(2)) : nil
            })
        let tasks = TaskDefaults.names.map { ["tasks", $0] }
        let schemas = ShippedSystems.names.map { ["schemas", $0] }
        var paths = ConfigurationKey.all.map(\.path).filter { !$0.contains("*") }
        for prefix in named.union(tasks).union(schemas) {
            for key in ConfigurationKey.all where key.path.first == prefix[0] && key.path.contains("*") {
                paths.append([prefix[0], prefix[1]] + key.path.dropFirst(2))
            }
        }
        for path in paths where path[0] == "databases" || path[0] == "tasks" || path[0] == "schemas" {
            try read(path, environment)
        }
        findUnknown(in: environment, known: paths.map(ConfigurationKey.environmentName))
    }

    private mutating func findUnknown(in environment: [String: String], known: [String]) {
        let known = known + ["REEVE_CONFIG", "REEVE_DATABASE", "REEVE_TEST_STATE"]
        for name in environment.keys where name.hasPrefix("REEVE_") && !known.contains(name) {
            unknownVariables[name] = .some(closest(to: name, among: known))
        }
    }

    private mutating func read(_ path: [String], _ environment: [String: String]) throws {
        var names = [ConfigurationKey.environmentName(path)]
        if path == ["database", "url"] { names = ["REEVE_DATABASE_URL", "REEVE_DATABASE"] }
        for name in names {
            guard let value = environment[name], !value.isEmpty else { continue }
            let kind = ConfigurationKey.all.first { $0.matches(path) }?.kind
            return try set(path, kind == .list || kind == .reasons ? Self.list(value) : [value], .environment(name))
        }
    }

    /// Makes a setting, unless a stronger one is there: later calls are stronger.
    mutating func set(_ path: [String], _ values: [String], _ origin: Origin) throws {
        guard let key = ConfigurationKey.all.first(where: { $0.matches(path) }) else { return }
        for value in values {
            if let problem = key.kind.problem(with: value) {
                let dotted = path.joined(separator: ".")
                throw ConfigurationError("\(origin)", nil, "'\(dotted)': \(problem.message)", hint: problem.hint)
            }
        }
        settings[path.joined(separator: ".")] = Setting(key: key, values: values, origin: origin)
    }

    /// The names that the user chose below a key.
    func names(below key: String) -> [String] {
        let names = settings.keys.compactMap { path -> String? in
            let words = path.split(separator: ".").map(String.init)
            return words.count > 1 && words[0] == key ? words[1] : nil
        }
        return Set(names).sorted()
    }

    func origin(_ path: String) -> Origin { settings[path]?.origin ?? .fallback }

    func text(_ path: String) -> String? { values(path).first }

    func values(_ path: String) -> [String] {
        if let setting = settings[path] { return setting.values }
        let words = path.split(separator: ".").map(String.init)
        return ConfigurationKey.all.first { $0.matches(words) }?.fallback.map { [$0] } ?? []
    }

    func integer(_ path: String) -> Int? { text(path).flatMap { Int($0) } }
    func duration(_ path: String) -> Duration? { text(path).flatMap { WrittenDuration.parse($0) } }
    func boolean(_ path: String) -> Bool? { text(path).flatMap { ConfigurationKey.Kind.boolean(from: $0) } }

    private static func isKnown(_ path: [String]) -> Bool {
        ConfigurationKey.all.contains { key in
            key.path.count >= path.count && zip(key.path, path).allSatisfy { $0 == "*" || $0 == $1 }
        }
    }

    private static func children(of path: [String]) -> [String] {
        let children = ConfigurationKey.all.compactMap { key -> String? in
            guard key.path.count > path.count, zip(key.path, path).allSatisfy({ $0 == "*" || $0 == $1 }) else {
                return nil
            }
            let child = key.path[path.count]
            return child == "*" ? nil : child
        }
        return Set(children).sorted()
    }

    static func list(_ text: String) -> [String] {
        text.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
    }
}

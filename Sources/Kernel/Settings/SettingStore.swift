import Foundation
import Reporting

/// The configured settings, each with its source. If several sources set a key, the value of the strongest source is
/// used (see `Configuration`).
public struct SettingStore: Sendable {
    public enum Origin: Sendable, Equatable, CustomStringConvertible {
        case file(String, line: Int)
        case environment(String)
        case flag(String)
        case fallback

        public var description: String {
            switch self {
            case .file(let file, let line): "\(file):\(line)"
            case .environment(let name): "environment \(name)"
            case .flag(let name): "--\(name)"
            case .fallback: "default"
            }
        }
    }

    /// The values that were written for a key.
    public struct Entry: Sendable {
        public let key: SettingKey
        /// One value, or any number of values for a list.
        public let values: [String]
        public let origin: Origin
    }

    public let catalog: SettingCatalog
    /// The entries by dotted path.
    public private(set) var entries: [String: Entry] = [:]
    /// The `REEVE_…` variables that match no key, each with the variable that was likely meant.
    public private(set) var unknownVariables: [String: String?] = [:]

    /// The mistakes that were found so far. A value with a mistake is left out.
    public private(set) var mistakes: [ConfigurationError] = []
    /// The places of the parts of the file, by dotted path, and of values with a mistake.
    private var places: [String: Origin] = [:]

    public init(_ catalog: SettingCatalog) { self.catalog = catalog }

    // MARK: Reading

    /// Reads the tree of a file, and collects the mistakes in it.
    public mutating func read(_ node: YAMLNode, file: String) { attempt { try $0.read(node, at: [], file: file) } }

    /// Does one of several steps, and collects its mistakes.
    private mutating func attempt(_ step: (inout SettingStore) throws -> Void) {
        do {
            try step(&self)
        } catch let error as ConfigurationError {
            mistakes += error.all
        } catch {
            mistakes.append(ConfigurationError("configuration", nil, "\(error)"))
        }
    }

    private mutating func read(_ node: YAMLNode, at path: [String], file: String) throws {
        places[path.joined(separator: ".")] = .file(file, line: node.line)
        if path == ["database"], case .scalar(let text, _, let line) = node, !node.isNull {
            return try set(["database", "url"], [text], .file(file, line: line))
        }
        if let key = catalog.key(at: path) {
            if node.isNull { return }
            return try set(path, try values(of: node, key, path, file), .file(file, line: node.line))
        }
        guard case .mapping(let entries, _) = node else {
            if node.isNull { return }
            throw ConfigurationError(
                file, node.line, "'\(path.joined(separator: "."))' must be a map of keys")
        }
        for entry in entries {
            attempt { try $0.read(entry, below: path, file: file) }
        }
    }

    private mutating func read(
        _ entry: (key: String, keyLine: Int, value: YAMLNode), below path: [String], file: String
    ) throws {
        let inner = path + [entry.key]
        // A name is part of dotted setting paths, of variable names in capitals, and of folder names in
        // repositories. Other characters are therefore not allowed.
        if catalog.takesName(below: path), entry.key.wholeMatch(of: /[A-Za-z0-9][A-Za-z0-9_-]*/) == nil {
            throw ConfigurationError(
                file, entry.keyLine, "'\(entry.key)' is not a valid name under '\(path.joined(separator: "."))'",
                hint: "use letters, digits, _ and -")
        }
        guard catalog.isKnown(inner) else {
            let known = catalog.children(of: path)
            let hint =
                didYouMean(entry.key, among: known)
                ?? (known.isEmpty ? nil : "known here: \(known.joined(separator: ", "))")
            throw ConfigurationError(
                file, entry.keyLine, "unknown key '\(inner.joined(separator: "."))'", hint: hint)
        }
        try read(entry.value, at: inner, file: file)
    }

    private func values(of node: YAMLNode, _ key: SettingKey, _ path: [String], _ file: String) throws -> [String] {
        let dotted = path.joined(separator: ".")
        switch (node, key.shape) {
        case (.scalar(let text, _, _), .list): return Self.list(text)
        case (.scalar(let text, _, _), _): return [text]
        case (.sequence(let items, let line), .list):
            return try items.map {
                guard case .scalar(let text, _, _) = $0 else {
                    throw ConfigurationError(file, line, "'\(dotted)' must be a list of words")
                }
                return text
            }
        case (.mapping(let entries, _), .reasons):
            return try entries.map { entry in
                guard case .scalar(let reason, _, _) = entry.value else {
                    throw ConfigurationError(file, entry.keyLine, "the reason for '\(entry.key)' must be text")
                }
                return ReasonedPattern(pattern: entry.key, reason: reason).text
            }
        case (.sequence(_, let line), _), (.mapping(_, let line), _):
            throw ConfigurationError(file, line, "'\(dotted)' must be a single value")
        }
    }

    /// Reads the variables of other tools and the `REEVE_…` variables. The latter take precedence.
    public mutating func read(environment: [String: String]) {
        let foreign = [
            "DATABASE_POOL_SIZE": ["pool", "size"], "DATABASE_MAX_OVERFLOW": ["pool", "max_overflow"],
            "DATABASE_URL": ["database", "url"],
        ]
        for (name, path) in foreign {
            if let value = environment[name], !value.isEmpty {
                attempt { try $0.set(path, [value], .environment(name)) }
            }
        }
        // The names that the user chose in the file, in capitals, are part of the names of environment variables.
        let named = Set(
            entries.compactMap { path, entry in
                entry.key.path.firstIndex(of: "*").map { star in
                    Array(path.split(separator: ".").map(String.init).prefix(star + 1))
                }
            })
        let paths = catalog.paths(named: named)
        for path in paths { attempt { try $0.read(path, environment) } }
        findUnknown(in: environment, known: paths.map(SettingKey.environmentName))
    }

    private mutating func read(_ path: [String], _ environment: [String: String]) throws {
        var names = [SettingKey.environmentName(path)]
        if path == ["database", "url"] { names.append("REEVE_DATABASE") }
        for name in names {
            guard let value = environment[name], !value.isEmpty else { continue }
            let isOne = catalog.key(at: path)?.shape == .value
            return try set(path, isOne ? [value] : Self.list(value), .environment(name))
        }
    }

    private mutating func findUnknown(in environment: [String: String], known: [String]) {
        let known = known + ["REEVE_CONFIG", "REEVE_DATABASE", "REEVE_TASK", "REEVE_TEST_STATE"]
        for name in environment.keys where name.hasPrefix("REEVE_") && !known.contains(name) {
            unknownVariables[name] = .some(closest(to: name, among: known))
        }
    }

    /// Sets a key, and replaces its previous value. Sources must therefore be read from the weakest to the strongest.
    ///
    /// - Throws: `ConfigurationError` if a value is not valid for the key.
    public mutating func set(_ path: [String], _ values: [String], _ origin: Origin) throws {
        guard let key = catalog.key(at: path) else { return }
        let dotted = path.joined(separator: ".")
        places[dotted] = origin
        var mistakes: [ConfigurationError] = []
        for value in values {
            do throws(InvalidValue) {
                try key.check(value)
            } catch {
                mistakes.append(
                    ConfigurationError("\(origin)", nil, "'\(dotted)': \(error.message)", hint: error.hint))
            }
        }
        try ConfigurationError.check(mistakes)
        entries[dotted] = Entry(key: key, values: values, origin: origin)
    }

    static func list(_ text: String) -> [String] {
        text.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
    }

    // MARK: Queries

    /// Returns the names that the user chose below a key, even if nothing is set below a name.
    public func names(below key: String) -> [String] {
        let names = Set(entries.keys).union(places.keys).compactMap { path -> String? in
            guard path.hasPrefix("\(key).") else { return nil }
            return path.dropFirst(key.count + 1).split(separator: ".").first.map(String.init)
        }
        return Set(names).sorted()
    }

    /// Returns the values of a key as they were written, or its default.
    public func texts(_ path: String) -> [String] {
        if let entry = entries[path] {
            guard case .reasons = entry.key.shape else { return entry.values }
            return entry.values.map { ReasonedPattern($0)?.shown ?? $0 }
        }
        return catalog.key(at: path.split(separator: ".").map(String.init))?.fallback.map { [$0] } ?? []
    }

    public func origin(_ path: String) -> Origin { entries[path]?.origin ?? .fallback }

    /// Where a key, or the first key below a path, is written; also if its value has a mistake.
    public func place(_ path: String) -> Origin {
        let inner = places.filter { $0.key.hasPrefix("\(path).") }.min { $0.key < $1.key }
        return places[path] ?? inner?.value ?? origin(path)
    }

    /// Whether a value is written for a key, even if it has a mistake.
    public func isWritten(_ path: String) -> Bool { places[path] != nil || entries[path] != nil }

    /// Returns the value of a setting.
    ///
    /// - Parameter name: the name in place of the `*` in the setting's path.
    public subscript<Value>(_ setting: Setting<Value>, _ name: String? = nil) -> Value {
        do throws(InvalidValue) {
            return try setting.value(entries[path(setting, name)]?.values ?? [])
        } catch {
            // Values are checked when they are set, and a test parses every default.
            preconditionFailure("'\(setting.key.dotted)' has a value that was not checked: \(error.message)")
        }
    }

    func path<Value>(_ setting: Setting<Value>, _ name: String?) -> String {
        name.map { name in setting.key.path.map { $0 == "*" ? name : $0 }.joined(separator: ".") } ?? setting.key.dotted
    }
}

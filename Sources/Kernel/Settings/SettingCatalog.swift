/// The settings that the features of a program bring.
public struct SettingCatalog: Sendable {
    public let keys: [SettingKey]
    /// The names that are known below a key such as `tasks`, whatever the file says; they can be set in variables.
    let knownNames: [String: [String]]

    public init(_ keys: [SettingKey], knownNames: [String: [String]] = [:]) {
        self.keys = keys
        self.knownNames = knownNames
    }

    func key(at path: [String]) -> SettingKey? { keys.first { $0.matches(path) } }

    /// Whether a key has this path, or lies below it.
    func isKnown(_ path: [String]) -> Bool { keys.contains { Self.begins($0, with: path) } }

    /// Whether a name that the user chooses stands below a path.
    func takesName(below path: [String]) -> Bool {
        keys.contains { $0.path.count > path.count && Self.begins($0, with: path) && $0.path[path.count] == "*" }
    }

    /// The next words of the keys below a path; empty where any name may stand.
    func children(of path: [String]) -> [String] {
        let children = keys.compactMap { key -> String? in
            guard key.path.count > path.count, Self.begins(key, with: path) else { return nil }
            let child = key.path[path.count]
            return child == "*" ? nil : child
        }
        return Set(children).sorted()
    }

    /// All paths that a variable can set: those of keys without a name, and those with the names that are known.
    ///
    /// - Parameter named: names that the file gives, such as `["databases", "shop"]`.
    func paths(named: Set<[String]>) -> [[String]] {
        let known = knownNames.flatMap { key, names in names.map { [key, $0] } }
        let prefixes = named.union(known).sorted { $0.lexicographicallyPrecedes($1) }
        return keys.filter { !$0.hasName }.map(\.path)
            + prefixes.flatMap { prefix in
                keys.filter { $0.hasName && $0.path.first == prefix[0] }.map { prefix + $0.path.dropFirst(2) }
            }
    }

    private static func begins(_ key: SettingKey, with path: [String]) -> Bool {
        key.path.count >= path.count && zip(key.path, path).allSatisfy { $0 == "*" || $0 == $1 }
    }
}

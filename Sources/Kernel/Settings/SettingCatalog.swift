/// The settings of the program and of its features.
public struct SettingCatalog: Sendable {
    public let keys: [SettingKey]
    /// Names that exist below a key such as `tasks`, even if the file does not contain them. Environment variables can
    /// therefore set the keys below these names.
    let knownNames: [String: [String]]

    public init(_ keys: [SettingKey], knownNames: [String: [String]] = [:]) {
        self.keys = keys
        self.knownNames = knownNames
    }

    func key(at path: [String]) -> SettingKey? { keys.first { $0.matches(path) } }

    /// Whether a path is a key, or the beginning of a key's path.
    func isKnown(_ path: [String]) -> Bool { keys.contains { Self.begins($0, with: path) } }

    /// Whether the next word after a path can be a name that the user chooses.
    func takesName(below path: [String]) -> Bool {
        keys.contains { $0.path.count > path.count && Self.begins($0, with: path) && $0.path[path.count] == "*" }
    }

    /// Returns the fixed words that can follow a path; none if only a name that the user chooses can follow.
    func children(of path: [String]) -> [String] {
        let children = keys.compactMap { key -> String? in
            guard key.path.count > path.count, Self.begins(key, with: path) else { return nil }
            let child = key.path[path.count]
            return child == "*" ? nil : child
        }
        return Set(children).sorted()
    }

    /// Returns all paths that an environment variable can set: the keys whose path contains no name, and the keys whose
    /// path contains a known name.
    ///
    /// - Parameter named: further known names, which are in the file. Each is preceded by its key, for instance
    ///   `["databases", "shop"]`.
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

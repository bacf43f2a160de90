/// The settings of the program and of its features.
public struct SettingCatalog: Sendable {
    public let keys: [SettingKey]
    /// Names that exist below a key such as `tasks`, even if the file does not contain them. Environment variables can
    /// therefore set the keys below these names.
    let knownNames: [String: [String]]
    private let fixedWords: [String: Set<[String]>]

    public init(_ keys: [SettingKey], knownNames: [String: [String]] = [:]) {
        self.keys = keys
        self.knownNames = knownNames
        fixedWords = Self.fixedWords(keys)
    }

    func key(at path: [String]) -> SettingKey? { keys.first { $0.path.count == path.count && begins($0, with: path) } }

    /// Whether a path is a key, or the beginning of a key's path.
    func isKnown(_ path: [String]) -> Bool { keys.contains { begins($0, with: path) } }

    /// Whether the next word after a path can be a name that the user chooses.
    func takesName(below path: [String]) -> Bool {
        keys.contains { $0.path.count > path.count && begins($0, with: path) && $0.path[path.count] == "*" }
    }

    /// Returns the fixed words that can follow a path; none if only a name that the user chooses can follow.
    func children(of path: [String]) -> [String] {
        let children = keys.compactMap { key -> String? in
            guard key.path.count > path.count, begins(key, with: path) else { return nil }
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
                keys.filter { $0.path.firstIndex(of: "*") == prefix.count - 1 && begins($0, with: prefix) }
                    .map { prefix + $0.path.dropFirst(prefix.count) }
            }
    }

    /// Whether a key's path begins with `path`. `*` stands for any name, but not for a word that another key has in
    /// its place, such as `custom` in `tasks.custom`.
    private func begins(_ key: SettingKey, with path: [String]) -> Bool {
        guard key.path.count >= path.count else { return false }
        return zip(key.path, path).enumerated().allSatisfy { index, pair in
            pair.0 == pair.1 || pair.0 == "*" && !isFixed(pair.1, after: key.path[..<index])
        }
    }

    private func isFixed(_ word: String, after prefix: ArraySlice<String>) -> Bool {
        fixedWords[word]?.contains(Array(prefix)) == true
    }

    /// Returns the words that keys have in a place where other keys have a name, each with the paths before it.
    private static func fixedWords(_ keys: [SettingKey]) -> [String: Set<[String]>] {
        var places = Set<[String]>()
        for key in keys {
            for (index, word) in key.path.enumerated() where word == "*" { places.insert(Array(key.path[..<index])) }
        }
        var words: [String: Set<[String]>] = [:]
        for key in keys {
            for (index, word) in key.path.enumerated() where word != "*" && places.contains(Array(key.path[..<index])) {
                words[word, default: []].insert(Array(key.path[..<index]))
            }
        }
        return words
    }
}

import SQL

/// The settings that the first statements of a script make for the session, whatever they were before. Pure.
struct ExplicitSettings: Sendable {
    private var names: Set<String> = []
    /// Whether all other settings are reset.
    private var coversAll = false

    /// The names under which the role and the user of a session are compared with its settings.
    static let role = "role"
    static let user = "session_authorization"

    /// - Parameter statements: as the words of each; the first one that is no SET or RESET ends the search.
    init(_ statements: [[ScriptWord]]) {
        for words in statements.map({ $0.map { $0.keyword.lowercased() } }) {
            guard let found = Self.name(words) else { return }
            if found == "all" { coversAll = true } else { names.insert(found) }
        }
    }

    /// - Parameter name: as the server spells it, for instance `DateStyle`.
    func cover(_ name: String) -> Bool {
        let name = name.lowercased()
        // RESET ALL resets neither the role nor the user.
        return names.contains(name) || coversAll && ![Self.role, Self.user].contains(name)
    }

    /// Returns the setting that a statement makes; `all` for RESET ALL; nil if it is another statement.
    private static func name(_ words: [String]) -> String? {
        guard let first = words.first, ["set", "reset"].contains(first) else { return nil }
        var rest = words.dropFirst()
        if rest.first == "session", rest.dropFirst().first == "authorization" { return user }
        if rest.first == "session" { rest = rest.dropFirst() }
        switch rest.first {
        case nil, "local", "transaction", "constraints", "characteristics": return nil
        case "time": return "timezone"
        case "schema": return "search_path"
        case "names": return "client_encoding"
        default: break
        }
        if rest.first == role { return role }
        // A name may have several parts.
        return rest.prefix { !["to", "="].contains($0) }.joined().filter { $0 != "\"" }
    }
}

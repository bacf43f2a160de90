/// A statement of pg_dumpall about roles, as far as it tells which. Pure.
struct RoleStatement: Sendable, Equatable {
    /// As the statement spells them, quoted where they must be.
    let roles: [String]

    /// nil for a statement about something else.
    init?(_ sql: String) {
        for prefix in ["CREATE ROLE ", "ALTER ROLE ", "COMMENT ON ROLE "] where sql.hasPrefix(prefix) {
            roles = [Self.name(sql.dropFirst(prefix.count))]
            return
        }
        guard sql.hasPrefix("GRANT ") else { return nil }
        let group = Self.name(sql.dropFirst("GRANT ".count))
        let rest = sql.dropFirst("GRANT ".count + group.count)
        guard rest.hasPrefix(" TO ") else { return nil }
        roles = [group, Self.name(rest.dropFirst(" TO ".count))]
    }

    /// Whether it speaks of nothing but these.
    func isAbout(_ known: Set<String>) -> Bool { roles.allSatisfy(known.contains) }

    /// The identifier that a text begins with.
    private static func name(_ text: Substring) -> String {
        guard text.first == "\"" else { return String(text.prefix { !$0.isWhitespace && $0 != ";" }) }
        var end = text.index(after: text.startIndex)
        while end < text.endIndex {
            if text[end] == "\"" {
                let next = text.index(after: end)
                guard next < text.endIndex, text[next] == "\"" else { return String(text[...end]) }
                end = text.index(after: next)
            } else {
                end = text.index(after: end)
            }
        }
        return String(text)
    }
}

import SQL

/// What a replay runs instead of a statement that would change more than the scratch database. Pure.
///
/// Roles, databases, tablespaces and the server's configuration belong to all databases of the server: the migration
/// has changed them once, and somebody may have changed them since. A subscription connects to another server, where it
/// creates and drops replication slots and takes changes from them. Statements within functions and DO are not seen.
enum ReplayedStatement {
    /// Returns the statements that take the place of one; nil if it runs as it is.
    static func substitute(_ words: [ScriptWord], in source: [UInt8]) -> [String]? {
        let keywords = words.prefix(2).map(\.keyword)
        switch (keywords.first, keywords.dropFirst().first) {
        case ("CREATE", "USER") where words.count > 2 && words[2].keyword == "MAPPING",
            ("ALTER", "USER") where words.count > 2 && words[2].keyword == "MAPPING",
            ("DROP", "USER") where words.count > 2 && words[2].keyword == "MAPPING":
            return nil
        case ("CREATE", "ROLE"), ("CREATE", "USER"), ("CREATE", "GROUP"): return ReplayedRole.creation(words)
        case ("DROP", "ROLE"), ("DROP", "USER"), ("DROP", "GROUP"): return ReplayedRole.removal(words)
        case ("DROP", "OWNED"), ("REASSIGN", "OWNED"): return ReplayedRole.ofOwned(words, in: source)
        case ("CREATE", "DATABASE"), ("CREATE", "TABLESPACE"), ("DROP", "DATABASE"), ("DROP", "TABLESPACE"),
            ("ALTER", "DATABASE"), ("ALTER", "TABLESPACE"), ("ALTER", "SYSTEM"), ("ALTER", "ROLE"),
            ("ALTER", "USER"), ("ALTER", "GROUP"):
            return []
        case ("GRANT", _), ("REVOKE", _), ("COMMENT", _), ("SECURITY", _):
            // GRANT without ON is about memberships of roles.
            guard let on = words.firstIndex(where: { $0.keyword == "ON" }), on + 1 < words.count else { return [] }
            return ["DATABASE", "TABLESPACE", "PARAMETER", "ROLE"].contains(words[on + 1].keyword) ? [] : nil
        case ("CREATE", "SUBSCRIPTION"): return ReplayedSubscription.creation(words, source)
        case ("ALTER", "SUBSCRIPTION"): return ReplayedSubscription.alteration(words, source)
        case ("DROP", "SUBSCRIPTION"): return ReplayedSubscription.removal(words)
        default: return nil
        }
    }
}

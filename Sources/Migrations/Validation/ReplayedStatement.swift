import SQL

/// What a replay runs instead of a statement that would change more than the scratch database. Pure.
///
/// Roles, databases, tablespaces and the server's configuration belong to all databases of the server: the migration
/// has changed them once, and somebody may have changed them since. A subscription connects to another server, where it
/// creates and drops replication slots and takes changes from them. Statements within functions and DO are not seen.
enum ReplayedStatement {
    /// Returns the statements that take the place of one; nil if it runs as it is.
    static func substitute(_ words: [ScriptWord], in source: [UInt8]) -> [String]? {
        let keywords = words.prefix(3).map(\.keyword)
        // User mappings belong to the database. A role may have the name `mapping`.
        if keywords.dropFirst().elementsEqual(["USER", "MAPPING"]), words.count > 3,
            ["FOR", "IF"].contains(words[3].keyword)
        {
            return nil
        }
        switch (keywords.first, keywords.dropFirst().first) {
        case ("CREATE", "ROLE"), ("CREATE", "USER"), ("CREATE", "GROUP"): return ReplayedRole.creation(words)
        case ("DROP", "ROLE"), ("DROP", "USER"), ("DROP", "GROUP"): return ReplayedRole.removal(words)
        case ("DROP", "OWNED"), ("REASSIGN", "OWNED"): return ReplayedRole.ofOwned(words, in: source)
        case ("CREATE", "DATABASE"), ("CREATE", "TABLESPACE"), ("DROP", "DATABASE"), ("DROP", "TABLESPACE"),
            ("ALTER", "DATABASE"), ("ALTER", "TABLESPACE"), ("ALTER", "SYSTEM"), ("ALTER", "ROLE"),
            ("ALTER", "USER"), ("ALTER", "GROUP"):
            return []
        case ("GRANT", _), ("REVOKE", _), ("COMMENT", _), ("SECURITY", _):
            // GRANT without ON is about memberships of roles.
            guard let on = words.firstIndex(where: { $0.keyword == "ON" }) else {
                return ReplayedRole.membership(words, in: source)
            }
            guard isShared(words[(on + 1)...]) else { return nil }
            return ["GRANT", "REVOKE"].contains(words[0].keyword) ? ofDatabase(words, on, in: source) : []
        case ("CREATE", "SCHEMA"):
            // The schema's elements may be GRANT statements.
            let elements = words.indices.filter { words[$0].keyword == "ON" }.map { words[($0 + 1)...] }
            return elements.contains(where: isShared)
                ? [ReplayedRole.refusal("CREATE SCHEMA with privileges on databases or parameters")] : nil
        case ("COPY", _): return writesFile(words) ? [] : nil
        case ("CREATE", "SUBSCRIPTION"): return ReplayedSubscription.creation(words, source)
        case ("ALTER", "SUBSCRIPTION"): return ReplayedSubscription.alteration(words, source)
        case ("DROP", "SUBSCRIPTION"): return ReplayedSubscription.removal(words)
        default: return nil
        }
    }

    /// Privileges on the database are given on the scratch database, because later statements may require them. Those
    /// on other objects of the server are not.
    ///
    /// - Parameter on: the index of ON.
    private static func ofDatabase(_ words: [ScriptWord], _ on: Int, in source: [UInt8]) -> [String] {
        guard words[on + 1].keyword == "DATABASE",
            let end = words[(on + 2)...].firstIndex(where: { ["TO", "FROM"].contains($0.keyword) })
        else { return [] }
        let (before, after) = (text(words[...(on + 1)], source), text(words[end...], source))
        return [
            ReplayedRole.block(
                """
                EXECUTE pg_catalog.concat_ws(' ', \(quoteLiteral(before)),
                    pg_catalog.quote_ident(pg_catalog.current_database()), \(quoteLiteral(after)));
                """)
        ]
    }

    /// Returns the words as they are written in a source, from the first to the last.
    static func text(_ words: ArraySlice<ScriptWord>, _ source: [UInt8]) -> String {
        guard let first = words.first, let last = words.last else { return "" }
        return String(decoding: source[first.range.lowerBound..<last.range.upperBound], as: UTF8.self)
    }

    /// Returns whether the words behind ON name an object of the whole server. A table may have a name such as `role`.
    private static func isShared(_ words: ArraySlice<ScriptWord>) -> Bool {
        guard let first = words.first, let second = words.dropFirst().first else { return false }
        return ["DATABASE", "TABLESPACE", "PARAMETER", "ROLE"].contains(first.keyword)
            && !["TO", "FROM", "IS", ",", ".", "("].contains(second.keyword)
    }

    /// Returns whether a COPY writes a file of the server, or starts a program there.
    private static func writesFile(_ words: [ScriptWord]) -> Bool {
        var depth = 0
        var isName = false
        for (word, next) in zip(words, words.dropFirst()) {
            // Behind a point, each word is a name.
            defer { isName = word.text == "." }
            if word.text == "(" { depth += 1 }
            if word.text == ")" { depth -= 1 }
            guard depth == 0, !isName, ["TO", "FROM"].contains(word.keyword) else { continue }
            return next.keyword == "PROGRAM" || word.keyword == "TO" && next.keyword != "STDOUT"
        }
        return false
    }
}

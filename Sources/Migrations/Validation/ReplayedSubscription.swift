import SQL

/// What a replay runs instead of a statement about a subscription. Pure.
enum ReplayedSubscription {
    static func creation(_ words: [ScriptWord], _ source: [UInt8]) -> [String]? {
        guard words.count > 2 else { return nil }
        var options = Options(words)
        let isEnabled = options.isOn("ENABLED") ?? options.isOn("CONNECT") ?? true
        options.replace(["CONNECT", "CREATE_SLOT", "COPY_DATA", "ENABLED"], by: "connect = false")
        // Its worker cannot connect to the scratch database.
        return [ReplayedStatement.text(words.prefix(options.start), source) + options.text]
            + (isEnabled ? ["ALTER SUBSCRIPTION \(words[2].text) ENABLE"] : [])
    }

    static func alteration(_ words: [ScriptWord], _ source: [UInt8]) -> [String]? {
        guard words.count > 4 else { return nil }
        if words[3].keyword == "REFRESH" { return [] }
        if let others = slotOptions(words, source) { return others }
        guard ["SET", "ADD", "DROP"].contains(words[3].keyword), words[4].keyword == "PUBLICATION"
        else { return nil }
        var options = Options(words)
        options.replace(["REFRESH", "COPY_DATA"], by: "refresh = false")
        return [ReplayedStatement.text(words.prefix(options.start), source) + options.text]
    }

    /// Leaves out the options of SET (…) for which the server alters the slot.
    private static func slotOptions(_ words: [ScriptWord], _ source: [UInt8]) -> [String]? {
        guard words[3].keyword == "SET", words[4].text == "(", words.last?.text == ")" else { return nil }
        let items = words[5..<(words.count - 1)].split { $0.text == "," }
        let kept = items.filter { !["FAILOVER", "TWO_PHASE"].contains($0.first?.keyword) }
        if kept.count == items.count { return nil }
        let list = kept.map { ReplayedStatement.text($0, source) }.joined(separator: ", ")
        return kept.isEmpty ? [] : [ReplayedStatement.text(words[...4], source) + list + ")"]
    }

    static func removal(_ words: [ScriptWord]) -> [String]? {
        guard words.count > 2 else { return nil }
        if words[2].keyword == "IF" {
            // It may not exist. Only an existing one can be separated from its slot.
            guard words.count > 4 else { return nil }
            let separation = separation(words[4].text).map { "EXECUTE \(quoteLiteral($0));" }.joined(separator: " ")
            return [
                "DO \(quoteLiteral("BEGIN \(separation) EXCEPTION WHEN undefined_object THEN END"))",
                "DROP SUBSCRIPTION IF EXISTS \(words[4].text)",
            ]
        }
        return separation(words[2].text) + ["DROP SUBSCRIPTION \(words[2].text)"]
    }

    /// The statements after which a subscription can be dropped without its slot.
    private static func separation(_ subscription: String) -> [String] {
        ["DISABLE", "SET (slot_name = NONE)"].map { "ALTER SUBSCRIPTION \(subscription) \($0)" }
    }

    /// The options `WITH (…)` at the end of a statement.
    private struct Options {
        /// The index of the word WITH, or of the end.
        let start: Int
        private var items: [[ScriptWord]] = []
        private var added: [String] = []

        init(_ words: [ScriptWord]) {
            guard words.last?.text == ")", let open = words.lastIndex(where: { $0.text == "(" }), open > 0,
                words[open - 1].keyword == "WITH"
            else {
                start = words.count
                return
            }
            start = open - 1
            items = words[(open + 1)..<(words.count - 1)].split { $0.text == "," }.map(Array.init)
        }

        /// Whether an option is on; nil if it is not written.
        func isOn(_ name: String) -> Bool? {
            guard let item = items.last(where: { $0.first?.keyword == name }) else { return nil }
            return item.count < 3 || !["FALSE", "OFF", "0", "'FALSE'", "'OFF'"].contains(item[2].text.uppercased())
        }

        /// Removes options, and adds one.
        mutating func replace(_ names: [String], by option: String) {
            items.removeAll { names.contains($0.first?.keyword ?? "") }
            added.append(option)
        }

        var text: String {
            let all = items.map { $0.map(\.text).joined(separator: " ") } + added
            return " WITH (\(all.joined(separator: ", ")))"
        }
    }
}

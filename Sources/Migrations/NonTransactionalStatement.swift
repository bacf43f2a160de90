import Postgres

/// A statement that PostgreSQL does not allow in a transaction, and that is therefore run alone.
enum NonTransactionalStatement: Equatable, Sendable {
    /// Names keep their quotes, so that `to_regclass` and `parse_ident` can parse them.
    case createIndex(name: String, table: String)
    case dropIndex(name: String)
    case reindex(index: String)
    case reindexTable(String)
    case detachPartition(parent: String, partition: String)
    case createDatabase(name: String)
    case dropDatabase(name: String)
    /// A statement that can be repeated without harm, or whose completion cannot be checked in the catalog.
    case other

    /// Whether the statement waits for transactions of other sessions without blocking them. A lock timeout would only
    /// interrupt such a statement half-way.
    var waitsPatiently: Bool {
        switch self {
        case .createIndex, .dropIndex, .reindex, .reindexTable, .detachPartition: true
        default: false
        }
    }

    /// Recognises, by the tokens of a statement, that the statement must run alone. Returns nil if the statement may
    /// run in a transaction.
    ///
    /// Based on the notes about each command in PostgreSQL's manual ("cannot be executed inside a transaction block").
    init?(words: [String]) {
        var reader = WordReader(words)
        switch reader.next() {
        case "CREATE": self.init(create: &reader)
        case "DROP": self.init(drop: &reader)
        case "REINDEX": self.init(reindex: &reader)
        case "ALTER": self.init(alter: &reader)
        case "VACUUM": self = .other
        case "CLUSTER" where reader.isAtEnd || words == ["CLUSTER", "VERBOSE"]: self = .other
        case "DISCARD" where words.last == "ALL": self = .other
        default: return nil
        }
    }

    private init?(create reader: inout WordReader) {
        reader.skip("UNIQUE")
        if reader.skip("INDEX") {
            guard reader.skip("CONCURRENTLY") else { return nil }
            reader.skip("IF", "NOT", "EXISTS")
            let name = reader.peek == "ON" ? "" : reader.name()
            guard reader.skip("ON") else { return nil }
            reader.skip("ONLY")
            self = .createIndex(name: name, table: reader.name())
        } else if reader.skip("DATABASE") {
            self = .createDatabase(name: reader.name())
        } else if reader.skip("TABLESPACE") || reader.skip("SUBSCRIPTION") {
            self = .other
        } else {
            return nil
        }
    }

    private init?(drop reader: inout WordReader) {
        if reader.skip("INDEX") {
            guard reader.skip("CONCURRENTLY") else { return nil }
            reader.skip("IF", "EXISTS")
            self = .dropIndex(name: reader.name())
        } else if reader.skip("DATABASE") {
            reader.skip("IF", "EXISTS")
            self = .dropDatabase(name: reader.name())
        } else if reader.skip("TABLESPACE") || reader.skip("SUBSCRIPTION") {
            self = .other
        } else {
            return nil
        }
    }

    private init?(reindex reader: inout WordReader) {
        let options = reader.parenthesised()
        let what = reader.next()
        let concurrently = reader.skip("CONCURRENTLY") || options.contains("CONCURRENTLY")
        switch what {
        case "DATABASE", "SYSTEM", "SCHEMA": self = .other
        case "INDEX" where concurrently: self = .reindex(index: reader.name())
        case "TABLE" where concurrently: self = .reindexTable(reader.name())
        default: return nil
        }
    }

    private init?(alter reader: inout WordReader) {
        if reader.skip("SYSTEM") {
            self = .other
        } else if reader.skip("DATABASE") {
            _ = reader.name()
            guard reader.skip("SET", "TABLESPACE") else { return nil }
            self = .other
        } else if reader.skip("TABLE") {
            reader.skip("IF", "EXISTS")
            reader.skip("ONLY")
            let parent = reader.name()
            guard reader.skip("DETACH", "PARTITION") else { return nil }
            let partition = reader.name()
            guard reader.skip("CONCURRENTLY") else { return nil }
            self = .detachPartition(parent: parent, partition: partition)
        } else {
            return nil
        }
    }
}

/// Reads the tokens of a statement from left to right.
private struct WordReader {
    private var words: ArraySlice<String>

    init(_ words: [String]) { self.words = words[...] }

    var isAtEnd: Bool { words.isEmpty }
    var peek: String? { words.first }

    mutating func next() -> String? { words.popFirst() }

    @discardableResult
    mutating func skip(_ expected: String...) -> Bool {
        guard words.starts(with: expected) else { return false }
        words = words.dropFirst(expected.count)
        return true
    }

    /// Returns a name with its qualifiers. Parts of the name without quotes are in upper case. The name is nevertheless
    /// right: PostgreSQL folds such parts to lower case, both here and in the script.
    mutating func name() -> String {
        var name = next() ?? ""
        while words.first == "." {
            words = words.dropFirst()
            name += "." + (next() ?? "")
        }
        return name
    }

    /// Returns the tokens between parentheses at the current position; empty if there are no parentheses.
    mutating func parenthesised() -> [String] {
        guard words.first == "(", let end = words.firstIndex(of: ")") else { return [] }
        defer { words = words[words.index(after: end)...] }
        return Array(words[words.index(after: words.startIndex)..<end])
    }
}

import Postgres

/// A statement that PostgreSQL does not allow in a transaction, and that is therefore run alone.
enum NonTransactionalStatement: Equatable, Sendable {
    /// Names are as in the script, with their quotes, so that the server folds and truncates them.
    case createIndex(IndexStatement)
    case dropIndex(name: String)
    /// With CONCURRENTLY.
    case reindex(ReindexScope)
    case detachPartition(parent: String, partition: String)
    case createDatabase(name: String)
    case dropDatabase(name: String)
    /// CALL or DO with code that may end transactions. If it fails, a part of its work may be committed. It is run
    /// again only by a later run.
    case procedure
    /// A statement whose completion cannot be checked in the catalog. It is run again after an interruption.
    case other

    /// Whether a lock timeout would interrupt the statement half-way. The statements on indexes and partitions wait for
    /// transactions of other sessions without blocking them.
    var waitsPatiently: Bool {
        switch self {
        case .createIndex, .dropIndex, .reindex, .detachPartition, .procedure: true
        case .createDatabase, .dropDatabase, .other: false
        }
    }

    /// Recognises, by the tokens of a statement, that the statement must run alone. Returns nil if the statement may
    /// run in a transaction.
    ///
    /// Based on the notes about each command in PostgreSQL's manual ("cannot be executed inside a transaction block").
    ///
    /// - Parameter isAutocommit: whether the statement is in a script that does not use transactions. Statements that
    ///   may commit by themselves, or of which some forms cannot run in a transaction, then run alone, too.
    init?(words: [ScriptWord], isAutocommit: Bool) {
        var reader = WordReader(words)
        let first = reader.next() ?? ""
        let found: Self? =
            switch first {
            case "CREATE": Self(create: &reader)
            case "DROP": Self(drop: &reader)
            case "REINDEX": Self(reindex: &reader)
            case "ALTER": Self(alter: &reader)
            case "VACUUM": .other
            case "CLUSTER" where reader.isAtEnd || words.map(\.keyword) == ["CLUSTER", "VERBOSE"]: .other
            case "DISCARD" where words.last?.keyword == "ALL": .other
            case "CALL" where isAutocommit: .procedure
            // The query of a cursor WITH HOLD runs at the end of the transaction, as the role that the script has set.
            // The server refuses the others outside a transaction block, because they would have no effect.
            case "DECLARE" where isAutocommit, "LOCK" where isAutocommit: .other
            case "SAVEPOINT" where isAutocommit, "RELEASE" where isAutocommit, "ROLLBACK" where isAutocommit: .other
            case "DO" where isAutocommit && words.contains(where: Self.endsTransaction): .procedure
            default: nil
            }
        let mayBeAlone = isAutocommit && ["REINDEX", "CLUSTER"].contains(first)
        guard let statement = found ?? (mayBeAlone ? .other : nil) else { return nil }
        self = statement
    }

    /// Whether a token of DO, its code, contains a statement that ends a transaction, or that may call a procedure
    /// which does.
    private static func endsTransaction(_ word: ScriptWord) -> Bool {
        word.text.contains(/(?i)\b(?:commit|rollback|call)\b/)
    }

    private init?(create reader: inout WordReader) {
        let isUnique = reader.skip("UNIQUE")
        if reader.skip("INDEX") {
            guard reader.skip("CONCURRENTLY") else { return nil }
            let toleratesExisting = reader.skip("IF", "NOT", "EXISTS")
            let name = reader.peek == "ON" ? nil : reader.name()
            guard reader.skip("ON") else { return nil }
            let table = reader.relation()
            self = .createIndex(
                IndexStatement(
                    name: name, table: table, isUnique: isUnique, toleratesExisting: toleratesExisting,
                    definitionStart: reader.position))
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
        let isOption = options.firstIndex(of: "CONCURRENTLY").map {
            !["OFF", "FALSE", "0", "'OFF'", "'FALSE'"].contains(options.dropFirst($0 + 1).first?.uppercased())
        }
        let concurrently = reader.skip("CONCURRENTLY") || isOption ?? false
        switch what {
        case "INDEX" where concurrently: self = .reindex(.index(reader.name()))
        case "TABLE" where concurrently: self = .reindex(.table(reader.name()))
        case "SCHEMA" where concurrently: self = .reindex(.schema(reader.name()))
        case "DATABASE" where concurrently: self = .reindex(.database)
        case "DATABASE", "SYSTEM", "SCHEMA": self = .other
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
            let parent = reader.relation()
            guard reader.skip("DETACH", "PARTITION") else { return nil }
            let partition = reader.name()
            guard reader.skip("CONCURRENTLY") else { return nil }
            self = .detachPartition(parent: parent, partition: partition)
        } else if reader.skip("SUBSCRIPTION") {
            // PostgreSQL 17 and later alter the slot for these options.
            guard ["PUBLICATION", "FAILOVER", "TWO_PHASE"].contains(where: reader.contains) else { return nil }
            self = .other
        } else {
            return nil
        }
    }
}

/// What a `REINDEX` rebuilds. Names are as in the script.
enum ReindexScope: Equatable, Sendable {
    case index(String)
    case table(String)
    case schema(String)
    case database
}

/// A `CREATE INDEX CONCURRENTLY`.
struct IndexStatement: Equatable, Sendable {
    /// nil if the server chooses the name.
    let name: String?
    let table: String
    let isUnique: Bool
    /// Whether the statement has `IF NOT EXISTS`.
    let toleratesExisting: Bool
    /// The offset in the script of the text after the name of the table.
    let definitionStart: Int
}

/// Reads the tokens of a statement from left to right.
private struct WordReader {
    private var words: ArraySlice<ScriptWord>
    /// The offset in the script after the last token that was read.
    private(set) var position = 0

    init(_ words: [ScriptWord]) { self.words = words[...] }

    var isAtEnd: Bool { words.isEmpty }
    var peek: String? { words.first?.keyword }

    func contains(_ keyword: String) -> Bool { words.contains { $0.keyword == keyword } }

    /// Reads a token, and returns it as a keyword.
    mutating func next() -> String? { take()?.keyword }

    private mutating func take() -> ScriptWord? {
        let word = words.popFirst()
        if let word { position = word.range.upperBound }
        return word
    }

    @discardableResult
    mutating func skip(_ expected: String...) -> Bool {
        guard words.lazy.map(\.keyword).starts(with: expected) else { return false }
        for _ in expected { _ = take() }
        return true
    }

    /// Reads a name with its qualifiers, and returns it as it is written.
    mutating func name() -> String {
        var name = take()?.text ?? ""
        while peek == "." {
            _ = take()
            name += "." + (take()?.text ?? "")
        }
        return name
    }

    /// Reads the name of a table, in one of the forms `t`, `t *`, `ONLY t` and `ONLY (t)`.
    mutating func relation() -> String {
        let isEnclosed = skip("ONLY", "(")
        if !isEnclosed { skip("ONLY") }
        defer { skip(isEnclosed ? ")" : "*") }
        return name()
    }

    /// Reads the tokens between parentheses at the current position, and returns them as keywords; empty if there are
    /// no parentheses.
    mutating func parenthesised() -> [String] {
        guard peek == "(" else { return [] }
        var found: [String] = []
        while let word = take(), word.keyword != ")" { found.append(word.keyword) }
        return found
    }
}

import Postgres

/// Takes the definition of a view to one spelling for all versions of PostgreSQL.
///
/// Up to version 15, the server names the relation before each column (`SELECT jobs.id FROM jobs`); from 16 on it does
/// not where a query has one relation only (`SELECT id FROM jobs`). The shorter form is taken, but for columns in ORDER
/// BY that have the name of another output column, where it would mean that one.
enum ViewSpelling {
    static func canonical(_ definition: String) -> String {
        let bytes = Array(definition.utf8)
        guard let tokens = try? SQLLexer.tokens(of: bytes) else { return definition }
        let query = ViewQuery(bytes: bytes, tokens: tokens)
        guard let name = query.onlyRelation else { return definition }
        var result: [UInt8] = []
        var copied = 0
        for index in tokens.indices.dropLast(2) where query.isQualifier(index, name) {
            result += bytes[copied..<tokens[index].range.lowerBound]
            copied = tokens[index + 2].range.lowerBound
        }
        return String(decoding: result + bytes[copied...], as: UTF8.self)
    }
}

/// The tokens of a view's query, with how deep in parentheses each stands.
private struct ViewQuery {
    let words: [String]
    let tokens: [SQLToken]
    /// Whether a token stands within a query in parentheses.
    private let isNested: [Bool]
    private let isInParentheses: [Bool]

    init(bytes: [UInt8], tokens: [SQLToken]) {
        self.tokens = tokens
        let words = tokens.map { String(decoding: bytes[$0.range], as: UTF8.self) }
        self.words = words
        var nested: [Bool] = []
        var inside: [Bool] = []
        // For each open parenthesis, whether a query begins after it.
        var open: [Bool] = []
        for (index, token) in tokens.enumerated() {
            if token.kind == .closeParenthesis, !open.isEmpty { open.removeLast() }
            nested.append(open.contains(true))
            inside.append(!open.isEmpty)
            if token.kind == .openParenthesis {
                let next = index + 1 < words.count ? words[index + 1] : ""
                open.append(["SELECT", "WITH", "VALUES", "TABLE"].contains(next))
            }
        }
        isNested = nested
        isInParentheses = inside
    }

    /// The name under which the one relation of the query goes; nil when there are several, or none.
    var onlyRelation: String? {
        let outer = tokens.indices.filter { !isInParentheses[$0] }
        guard !outer.contains(where: { ["UNION", "INTERSECT", "EXCEPT", "JOIN"].contains(words[$0]) }),
            let from = outer.first(where: { words[$0] == "FROM" && tokens[$0].kind == .word })
        else { return nil }
        let ends = ["WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR"]
        let end = outer.first { $0 > from && ends.contains(words[$0]) } ?? tokens.count
        let item = (from + 1..<end).filter { !isInParentheses[$0] }
        guard !item.contains(where: { words[$0] == "," }) else { return nil }
        return name(of: item)
    }

    /// The alias of a FROM item, else the last part of its name.
    private func name(of item: [Int]) -> String? {
        var last: String?
        for index in item {
            switch tokens[index].kind {
            case .word
            where ["ONLY", "LATERAL", "AS", "WITH", "ORDINALITY", "ROWS", "TABLESAMPLE"].contains(words[index]):
                if words[index] == "TABLESAMPLE" { return last }
            case .word, .quotedIdentifier: last = words[index]
            default: break
            }
        }
        return last
    }

    /// Whether a token is the relation's name before a column's.
    func isQualifier(_ index: Int, _ name: String) -> Bool {
        guard words[index] == name, words[index + 1] == ".", !isNested[index],
            index == 0 || words[index - 1] != ".",
            tokens[index + 2].kind == .word || tokens[index + 2].kind == .quotedIdentifier
        else { return false }
        return !(isInOrder(index) && outputNames.contains(words[index + 2]))
    }

    private func isInOrder(_ index: Int) -> Bool {
        let order = tokens.indices.last { !isInParentheses[$0] && words[$0] == "ORDER" }
        return order.map { index > $0 } ?? false
    }

    /// What the query's columns are called, where they are given another name.
    private var outputNames: Set<String> {
        Set(
            tokens.indices.dropFirst().filter { !isInParentheses[$0] && words[$0 - 1] == "AS" }.map { words[$0] })
    }
}

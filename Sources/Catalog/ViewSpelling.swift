import Postgres
import SQL

/// Converts the definition of a view into one form for all versions of PostgreSQL.
///
/// Up to version 15, the server writes the relation before each column (`SELECT jobs.id FROM jobs`). From version 16
/// on, it omits the relation if a query has only one (`SELECT id FROM jobs`). The canonical form is the shorter one,
/// with one exception: in ORDER BY, the relation is kept before a column that has the same name as another output
/// column, because the shorter form would refer to that output column.
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

/// The tokens of a view's query, and their nesting in parentheses.
private struct ViewQuery {
    let words: [String]
    let tokens: [SQLToken]
    /// Whether each token is inside a subquery in parentheses.
    private let isNested: [Bool]
    private let isInParentheses: [Bool]

    init(bytes: [UInt8], tokens: [SQLToken]) {
        self.tokens = tokens
        let words = tokens.map { String(decoding: bytes[$0.range], as: UTF8.self) }
        self.words = words
        var nested: [Bool] = []
        var inside: [Bool] = []
        // For each open parenthesis, whether it begins a subquery.
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

    /// The name or alias of the only relation of the query; nil if there are several or none.
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

    /// Returns the alias of a FROM item, or the last part of its name.
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

    /// Returns whether a token is the name of the relation before a column name.
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

    /// The names that the query assigns to its output columns with AS.
    private var outputNames: Set<String> {
        Set(
            tokens.indices.dropFirst().filter { !isInParentheses[$0] && words[$0 - 1] == "AS" }.map { words[$0] })
    }
}

import Postgres
import SQL

/// Converts a definition that PostgreSQL has printed into a form that is the same after a dump and restore, and in all
/// versions.
enum SpellingRules {
    static func canonical(_ value: String, property: String, of kind: ObjectKind) -> String {
        switch (kind, property) {
        case (.view, "definition"), (.materializedView, "definition"), (.rule, "definition"):
            let body = value.drop { $0 == " " }
            let plain = ExpressionSpelling.canonical(String(body.hasSuffix(";") ? body.dropLast() : body))
            return kind == .rule ? plain : ViewSpelling.canonical(plain)
        case (.index, "keys"): return ExpressionSpelling.canonical(indexKeys(value))
        case (.index, "predicate"), (.column, "default"), (.column, "generated"), (.constraint, "expression"),
            (.constraint, "definition"), (.policy, "using"), (.policy, "with check"), (.domain, "default"),
            (.domainConstraint, "expression"), (.trigger, "definition"),
            (.publication, "tables"), (.statistics, "definition"):
            return ExpressionSpelling.canonical(value)
        default: return value
        }
    }

    /// Returns the text in the parentheses after `USING method`.
    private static func indexKeys(_ definition: String) -> String {
        let bytes = Array(definition.utf8)
        guard let tokens = try? SQLLexer.tokens(of: bytes) else { return definition }
        var depth = 0
        var start: Int?
        var isAfterUsing = false
        for token in tokens {
            switch token.kind {
            case .word: if depth == 0, definition.bytes(token.range).lowercased() == "using" { isAfterUsing = true }
            case .openParenthesis:
                if depth == 0, isAfterUsing, start == nil { start = token.range.upperBound }
                depth += 1
            case .closeParenthesis:
                depth -= 1
                if depth == 0, let start { return definition.bytes(start..<token.range.lowerBound) }
            default: break
            }
        }
        return definition
    }
}

extension String {
    /// Returns the text in a range of the UTF-8 bytes.
    func bytes(_ range: Range<Int>) -> String {
        let view = utf8
        return String(
            decoding: view[
                view.index(
                    view.startIndex, offsetBy: range.lowerBound)..<view.index(
                        view.startIndex, offsetBy: range.upperBound)], as: UTF8.self)
    }
}

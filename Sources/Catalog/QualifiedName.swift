import Postgres

/// Names as SQL writes them, with quotes where they need them.
enum QualifiedName {
    /// The names between commas outside quotes and parentheses.
    static func list(_ text: String) -> [String] {
        split(text[...], at: ",").map { String(Substring($0.utf8.drop { $0 == UInt8(ascii: " ") })) }.filter {
            !$0.isEmpty
        }
    }

    /// The lines of a text, where names with line feeds are in quotes.
    static func lines(_ text: String) -> [String] { split(text[...], at: "\n").map(String.init).filter { !$0.isEmpty } }

    /// The parts of a dotted name, without their quotes.
    static func parts(_ text: Substring) -> [String] { split(text, at: ".").map { unquoted(String($0)) } }

    static func unquoted(_ name: String) -> String {
        unquoteIdentifier(name) ?? name
    }

    static func firstOutsideQuotes(_ wanted: Unicode.Scalar, in text: Substring) -> Substring.Index? {
        var isQuoted = false
        for index in text.utf8.indices {
            if text.utf8[index] == UInt8(ascii: "\"") { isQuoted.toggle() }
            if text.utf8[index] == UInt8(ascii: wanted), !isQuoted { return index }
        }
        return nil
    }

    private static func split(_ text: Substring, at separator: Unicode.Scalar) -> [Substring] {
        var parts: [Substring] = []
        var start = text.startIndex
        var isQuoted = false
        var depth = 0
        for index in text.utf8.indices {
            switch text.utf8[index] {
            case UInt8(ascii: "\""): isQuoted.toggle()
            case UInt8(ascii: "("): if !isQuoted { depth += 1 }
            case UInt8(ascii: ")"): if !isQuoted { depth -= 1 }
            case UInt8(ascii: separator):
                if !isQuoted, depth == 0 {
                    parts.append(text[start..<index])
                    start = text.utf8.index(after: index)
                }
            default: break
            }
        }
        parts.append(text[start...])
        return parts
    }
}

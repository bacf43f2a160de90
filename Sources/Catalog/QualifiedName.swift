import Postgres
import SQL

/// Parses names and lists of names in SQL notation, with quotes if necessary.
///
/// Text in single or double quotes is skipped byte by byte, because names and literals may contain any characters, for
/// instance commas and line feeds. No other code parses such lists.
enum QualifiedName {
    /// Returns the items of a list: the texts between commas outside quotes and parentheses.
    static func list(_ text: String) -> [String] {
        split(text[...], at: ",").map { String(Substring($0.utf8.drop { $0 == UInt8(ascii: " ") })) }.filter {
            !$0.isEmpty
        }
    }

    /// Returns the items of a list as `ExactText`, which compares byte for byte, as PostgreSQL compares names.
    static func exactList(_ text: String?) -> [ExactText] { list(text ?? "").map(ExactText.init) }

    /// Returns the lines of a text. A line feed in quotes does not end a line.
    static func lines(_ text: String) -> [String] { split(text[...], at: "\n").map(String.init).filter { !$0.isEmpty } }

    /// Returns the lines of a text as `ExactText`.
    static func exactLines(_ text: String?) -> [ExactText] { lines(text ?? "").map(ExactText.init) }

    /// Returns the parts of a dotted name, without quotes.
    static func parts(_ text: Substring) -> [String] { split(text, at: ".").map { unquoted(String($0)) } }

    /// Returns the texts before and after the first separator outside quotes; the whole text and an empty text if there
    /// is no separator.
    static func halves(_ text: String, at separator: Unicode.Scalar) -> (before: String, after: String) {
        guard let position = firstOutsideQuotes(separator, in: text[...]) else { return (text, "") }
        return (String(text[..<position]), String(text[text.utf8.index(after: position)...]))
    }

    static func unquoted(_ name: String) -> String {
        unquoteIdentifier(name) ?? name
    }

    static func firstOutsideQuotes(_ wanted: Unicode.Scalar, in text: Substring) -> Substring.Index? {
        var result: Substring.Index?
        scan(text) { index, byte, _ in
            if byte == UInt8(ascii: wanted) { result = index }
            return result == nil
        }
        return result
    }

    private static func split(_ text: Substring, at separator: Unicode.Scalar) -> [Substring] {
        var parts: [Substring] = []
        var start = text.startIndex
        scan(text) { index, byte, depth in
            if byte == UInt8(ascii: separator), depth == 0 {
                parts.append(text[start..<index])
                start = text.utf8.index(after: index)
            }
            return true
        }
        parts.append(text[start...])
        return parts
    }

    /// Calls `goesOn` with each byte outside quotes and its depth in parentheses, until `goesOn` returns false.
    private static func scan(_ text: Substring, _ goesOn: (Substring.Index, UInt8, Int) -> Bool) {
        var quote: UInt8?
        var (escapes, isEscaped) = (false, false)
        var depth = 0
        // The two previous bytes.
        var (before, last): (UInt8, UInt8) = (0, 0)
        for index in text.utf8.indices {
            let byte = text.utf8[index]
            defer { (before, last) = (last, byte) }
            if let open = quote {
                if isEscaped {
                    isEscaped = false
                } else if escapes, byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == open {
                    quote = nil
                }
                continue
            }
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "'"):
                // A doubled quote closes the literal and opens it again. The literal keeps its escape mode.
                if last != byte || !escapes {
                    escapes = byte == UInt8(ascii: "'") && last | 0x20 == UInt8(ascii: "e") && !isOfWord(before)
                }
                quote = byte
                continue
            case UInt8(ascii: "("): depth += 1
            case UInt8(ascii: ")"): depth = max(0, depth - 1)
            default: break
            }
            if !goesOn(index, byte, depth) { return }
        }
    }

    private static func isOfWord(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x80...0xFF, UInt8(ascii: "_"), UInt8(ascii: "$"): true
        default: false
        }
    }
}

import Postgres

/// Converts text from outside (program output, errors, names of people) into text that the ledger can store.
///
/// Such text is converted here before it is written to the ledger, so that no byte of the text can make the write fail.
public enum LedgerText {
    /// The maximum length of a message, in bytes.
    static let limit = 4000

    /// Returns a message cut to the maximum length, without the DETAIL, CONTEXT and STATEMENT texts of PostgreSQL and
    /// its programs, because these contain values of rows.
    public static func message(_ text: String) -> String {
        clean(withoutRowData(text), limit: limit)
    }

    /// Returns the text with U+FFFD in place of NUL, which PostgreSQL cannot store, and cut to the limit.
    static func clean(_ text: String, limit: Int = .max) -> String {
        var result = text
        if text.utf8.contains(0) {
            var scalars = String.UnicodeScalarView()
            for scalar in text.unicodeScalars { scalars.append(scalar == "\0" ? "\u{FFFD}" : scalar) }
            result = String(scalars)
        }
        let utf8 = result.utf8
        guard utf8.count > limit else { return result }
        var end = utf8.index(utf8.startIndex, offsetBy: max(limit, 0))
        // Do not cut within a scalar, whose continuation bytes begin with the bits 10.
        while end > utf8.startIndex, utf8[end] & 0xC0 == 0x80 { end = utf8.index(before: end) }
        return String(Substring(utf8[..<end])) + "…"
    }

    /// Returns the JSON with U+FFFD in place of NUL and of escaped NUL, which `jsonb` cannot store.
    static func clean(_ json: JSONText) -> JSONText {
        let escape = Array("\\u0000".utf8)
        let bytes = Array(json.text.utf8)
        guard bytes.contains(0) || bytes.firstRange(of: escape) != nil else { return json }
        var result: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index...].starts(with: escape) {
                result += Array("\\ufffd".utf8)
                index += escape.count
            } else if bytes[index] == UInt8(ascii: "\\"), index + 1 < bytes.count {
                // A backslash escapes the next character, which may be a backslash.
                result += bytes[index...(index + 1)]
                index += 2
            } else {
                result += bytes[index] == 0 ? Array("\u{FFFD}".utf8) : [bytes[index]]
                index += 1
            }
        }
        return JSONText(String(decoding: result, as: UTF8.self))
    }

    /// Returns the text before the first line that begins with DETAIL, CONTEXT or STATEMENT. All text after it is
    /// removed, because row data can look like a further line of the message.
    private static func withoutRowData(_ text: String) -> String {
        let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        guard let first = lines.firstIndex(where: tellsRowData) else { return text }
        return lines[..<first].map { String(Substring($0)) }.joined(separator: "\n")
    }

    private static func tellsRowData(_ line: Substring.UTF8View) -> Bool {
        let word = line.drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
        return ["detail:", "context:", "statement:"].contains { label in
            word.count >= label.utf8.count && zip(word, label.utf8).allSatisfy { $0 | 0x20 == $1 | 0x20 }
        }
    }
}

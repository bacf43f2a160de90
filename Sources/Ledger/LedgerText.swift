import Postgres

/// Text from outside (the output of programs, errors, names of people) as the ledger can keep it.
///
/// Everything that the ledger takes passes here, so that no byte of it makes a write fail.
public enum LedgerText {
    /// A message is cut at so many bytes.
    static let limit = 4000

    /// A message: without what PostgreSQL and its programs tell in DETAIL and CONTEXT, where the values of rows stand,
    /// and not longer than the ledger keeps it.
    public static func message(_ text: String) -> String {
        clean(withoutRowData(text), limit: limit)
    }

    /// The same text, with U+FFFD for NUL, which PostgreSQL cannot hold.
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
        // Not within a scalar, whose further bytes begin with the bits 10.
        while end > utf8.startIndex, utf8[end] & 0xC0 == 0x80 { end = utf8.index(before: end) }
        return String(Substring(utf8[..<end])) + "…"
    }

    /// The same JSON, with U+FFFD where a string escapes NUL, which `jsonb` cannot hold.
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
                // A backslash escapes what follows, itself too.
                result += bytes[index...(index + 1)]
                index += 2
            } else {
                result += bytes[index] == 0 ? Array("\u{FFFD}".utf8) : [bytes[index]]
                index += 1
            }
        }
        return JSONText(String(decoding: result, as: UTF8.self))
    }

    /// What comes before the first DETAIL or CONTEXT. What stands after may be anything, a further line of the message in
    /// looks, so nothing of it is kept.
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

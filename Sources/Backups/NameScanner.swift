import SQL

/// Scans names as pg_dump and quote_ident write them: with quotes, unless a name consists of lower-case letters, digits
/// and underscores. Pure: no I/O.
struct NameScanner {
    /// The text that is not scanned yet.
    private var text: ArraySlice<UInt8>

    init(_ text: ArraySlice<UInt8>) { self.text = text }

    init(_ text: String) { self.text = Array(text.utf8)[...] }

    var isAtEnd: Bool { text.isEmpty }

    /// Takes a word, if it is next.
    mutating func take(_ word: StaticString) -> Bool {
        let bytes = UnsafeBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount)
        guard text.starts(with: bytes) else { return false }
        text = text.dropFirst(bytes.count)
        return true
    }

    /// Takes a name, if one is next.
    mutating func name() -> String? {
        let quote = UInt8(ascii: "\"")
        var end = text.startIndex
        if text.first == quote {
            end += 1
            while end < text.endIndex {
                if text[end] == quote {
                    // Two quotes are one quote of the name.
                    guard end + 1 < text.endIndex, text[end + 1] == quote else { break }
                    end += 1
                }
                end += 1
            }
            guard end < text.endIndex else { return nil }
            end += 1
        } else {
            end = text.firstIndex { !Self.isPlain($0) } ?? text.endIndex
        }
        defer { text = text[end...] }
        if end == text.startIndex { return nil }
        return unquoteIdentifier(String(decoding: text[..<end], as: UTF8.self))
    }

    /// Takes names with a comma and a space between them; nil if a name is not as expected.
    mutating func names() -> [String]? {
        var names: [String] = []
        repeat {
            guard let name = name() else { return nil }
            names.append(name)
        } while take(", ")
        return names
    }

    /// Takes `schema.name`, if it is next.
    mutating func table() -> FetchedTable? {
        guard let schema = name(), take("."), let name = name() else { return nil }
        return FetchedTable(schema: schema, name: name)
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || byte == UInt8(ascii: "_")
            || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }
}

/// Names and texts made of what quoting has to get right.
public enum HostileNames {
    private static let pieces = [
        "\"", "'", "\\", "$", "$$", "$function$", ";", "--", "/*", "*/", "\n", "\r\n", "\t", "\u{1}", "\u{7f}",
        "\u{301}", "\u{5b0}", "\u{200d}", "\u{202e}", "\u{2028}", "\u{feff}", "é", "e\u{301}", "𝔘", "👩‍👧", "{", "}", ",",
        "*", "?", "|", "(", ")", "[", "]", ".", "+", "^", "%", "_", ":", "@", "=", " ", "  ", "a", "A", "select",
        "NULL",
        "x", "0", "\"\u{301}", "'\u{301}", "\\\u{301}", "$1", "%I", "%s", "E'", "U&\"",
    ]

    /// One that is never empty.
    public static func text(_ generator: inout SeededGenerator, pieces count: ClosedRange<Int> = 1...12) -> String {
        (0..<Int.random(in: count, using: &generator)).map { _ in
            Self.pieces.randomElement(using: &generator) ?? "x"
        }.joined()
    }

    /// One that PostgreSQL keeps as it is: of 1 to 63 bytes.
    public static func name(_ generator: inout SeededGenerator) -> String {
        while true {
            let name = text(&generator)
            if name.utf8.count <= 63 { return name }
        }
    }

    /// The ones that have done harm, and the edges: 63 bytes, a cut within a character.
    public static let known = [
        "x\"\u{301}, p.e() t--", "\"\u{301}", "'\u{301}", "\\\u{301}", "a\"b", "a'b", "a\\b", "a\nb", "a\r\nb", "a;b",
        String(repeating: "x", count: 63), String(repeating: "\"", count: 63), "a" + String(repeating: "é", count: 31),
        "--", "/*", "$$", "a.b", "a*", "?", "(a|b)", "{a,b}", "é", "e\u{301}", "%s", " ", "NULL", "user", "\u{202e}abc",
        // Of the words that pg_restore lists the types of entries by.
        "a EVENT TRIGGER b", "SUBSCRIPTION", "x FK CONSTRAINT y", "TABLE DATA", "DATA", "ATTACH",
    ]
}

import Foundation

/// Finds the tokens of an SQL source, one after the other, in one pass.
///
/// The rules are those of psql's scanner (`psqlscan.l` of PostgreSQL), and of a server of the same version as psql.
struct SQLScanner {
    private let bytes: UnsafeBufferPointer<UInt8>
    private(set) var position: Int
    private let end: Int
    /// If false, a backslash is an escape character in plain strings too.
    var standardConformingStrings = true

    init(_ bytes: UnsafeBufferPointer<UInt8>, from start: Int = 0, to end: Int? = nil) {
        self.bytes = bytes
        position = start
        self.end = end ?? bytes.count
    }

    /// Continues at another place.
    mutating func move(to place: Int) { position = place }

    /// Returns the next token, or nil at the end.
    ///
    /// - Throws: `SQLScanError` if a comment, string or quoted identifier is not closed.
    mutating func next() throws -> SQLToken? {
        try skipSpace()
        guard position < end else { return nil }
        let start = position
        let byte = bytes[start]
        let kind: SQLToken.Kind
        switch byte {
        case UInt8(ascii: "("): kind = single(.openParenthesis)
        case UInt8(ascii: ")"): kind = single(.closeParenthesis)
        case UInt8(ascii: ";"): kind = single(.semicolon)
        case UInt8(ascii: "'"): kind = try string(escapes: !standardConformingStrings)
        case UInt8(ascii: "\""): kind = try quotedIdentifier()
        case UInt8(ascii: "$"): kind = try dollar()
        case UInt8(ascii: "\\"): kind = metaCommand()
        case UInt8(ascii: "."):
            if peek(1).isDigit { kind = number() } else { kind = single(.symbol) }
        case UInt8(ascii: ":"):
            while peek(0) == UInt8(ascii: ":") || peek(0) == UInt8(ascii: "=") { position += 1 }
            kind = .symbol
        default:
            if byte.isIdentifierStart {
                kind = try wordOrPrefixed()
            } else if byte.isDigit {
                kind = number()
            } else if byte.isOperator {
                kind = op()
            } else {
                kind = single(.symbol)
            }
        }
        return SQLToken(kind: kind, range: start..<position)
    }

    @inline(__always)
    private func peek(_ ahead: Int) -> UInt8 {
        position + ahead < end ? bytes[position + ahead] : 0
    }

    private mutating func single(_ kind: SQLToken.Kind) -> SQLToken.Kind {
        position += 1
        return kind
    }

    // MARK: White space and comments

    private mutating func skipSpace() throws {
        while position < end {
            let byte = bytes[position]
            if byte.isSpace {
                position += 1
            } else if byte == UInt8(ascii: "-"), peek(1) == byte {
                skipLine()
            } else if byte == UInt8(ascii: "/"), peek(1) == UInt8(ascii: "*") {
                try skipComment()
            } else {
                return
            }
        }
    }

    private mutating func skipLine() {
        while position < end, bytes[position] != UInt8(ascii: "\n"), bytes[position] != UInt8(ascii: "\r") {
            position += 1
        }
    }

    private mutating func skipComment() throws {
        let start = position
        var depth = 0
        while position < end {
            let byte = bytes[position]
            if byte == UInt8(ascii: "/"), peek(1) == UInt8(ascii: "*") {
                depth += 1
                position += 2
            } else if byte == UInt8(ascii: "*"), peek(1) == UInt8(ascii: "/") {
                depth -= 1
                position += 2
                if depth == 0 { return }
            } else {
                position += 1
            }
        }
        throw SQLScanError(message: "unterminated comment", offset: start)
    }

    // MARK: Quotes

    /// Scans from the prefix or quote at `position` to the end of the literal, including its continuations on later
    /// lines.
    private mutating func string(escapes: Bool, prefix: Int = 0) throws -> SQLToken.Kind {
        let start = position
        position += prefix + 1
        while true {
            guard let quote = find(UInt8(ascii: "'"), orBackslash: escapes) else {
                throw SQLScanError(message: "unterminated quoted string", offset: start)
            }
            position = quote + 1
            if bytes[quote] == UInt8(ascii: "\\") {
                position += 1
            } else if peek(0) == UInt8(ascii: "'") {
                position += 1
            } else if let next = continuation() {
                position = next + 1
            } else {
                return .string
            }
        }
    }

    /// Returns the position of the quote at which the literal continues; nil if it does not continue. A literal
    /// continues at the next quote if only white space with a line break precedes that quote. After the line break,
    /// there may also be line comments. The continuation is scanned by the same rules as the literal (PostgreSQL
    /// manual, section 4.1.2.1).
    private func continuation() -> Int? {
        var place = position
        var sawLineBreak = false
        while place < end {
            let byte = bytes[place]
            if byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") {
                sawLineBreak = true
                place += 1
            } else if byte.isSpace {
                place += 1
            } else if byte == UInt8(ascii: "-"), place + 1 < end, bytes[place + 1] == byte, sawLineBreak {
                while place < end, bytes[place] != UInt8(ascii: "\n"), bytes[place] != UInt8(ascii: "\r") { place += 1 }
            } else {
                return byte == UInt8(ascii: "'") && sawLineBreak ? place : nil
            }
        }
        return nil
    }

    private func find(_ byte: UInt8, orBackslash: Bool) -> Int? {
        guard position < end, let base = bytes.baseAddress else { return nil }
        if orBackslash {
            var place = position
            while place < end {
                if bytes[place] == byte || bytes[place] == UInt8(ascii: "\\") { return place }
                place += 1
            }
            return nil
        }
        guard let found = memchr(base + position, Int32(byte), end - position) else { return nil }
        return UnsafeRawPointer(found) - UnsafeRawPointer(base)
    }

    private mutating func quotedIdentifier() throws -> SQLToken.Kind {
        let start = position
        position += 1
        while let quote = find(UInt8(ascii: "\""), orBackslash: false) {
            position = quote + 1
            if peek(0) != UInt8(ascii: "\"") { return .quotedIdentifier }
            position += 1
        }
        throw SQLScanError(message: "unterminated quoted identifier", offset: start)
    }

    /// Scans `$1`, `$tag$…$tag$`, or a single dollar sign.
    private mutating func dollar() throws -> SQLToken.Kind {
        let start = position
        position += 1
        if peek(0).isDigit {
            while peek(0).isDigit { position += 1 }
            return .number
        }
        if peek(0).isIdentifierStart {
            while peek(0).isIdentifierStart || peek(0).isDigit { position += 1 }
        }
        guard peek(0) == UInt8(ascii: "$") else {
            position = start + 1
            return .symbol
        }
        position += 1
        let tag = start..<position
        while let next = find(UInt8(ascii: "$"), orBackslash: false) {
            position = next
            if matches(tag) {
                position += tag.count
                return .string
            }
            position += 1
        }
        throw SQLScanError(message: "unterminated dollar-quoted string", offset: start)
    }

    private func matches(_ tag: Range<Int>) -> Bool {
        guard position + tag.count <= end, let base = bytes.baseAddress else { return false }
        return memcmp(base + position, base + tag.lowerBound, tag.count) == 0
    }

    // MARK: Words, numbers, operators

    private mutating func wordOrPrefixed() throws -> SQLToken.Kind {
        let first = bytes[position] | 0x20
        let next = peek(1)
        if next == UInt8(ascii: "'") {
            switch first {
            case UInt8(ascii: "e"):
                return try string(escapes: true, prefix: 1)
            case UInt8(ascii: "b"), UInt8(ascii: "x"):
                return try string(escapes: false, prefix: 1)
            case UInt8(ascii: "n"):
                return try string(escapes: !standardConformingStrings, prefix: 1)
            default: break
            }
        }
        if first == UInt8(ascii: "u"), next == UInt8(ascii: "&") {
            if peek(2) == UInt8(ascii: "'") {
                return try string(escapes: false, prefix: 2)
            }
            if peek(2) == UInt8(ascii: "\"") {
                position += 2
                return try quotedIdentifier()
            }
        }
        while position < end, bytes[position].isIdentifierPart { position += 1 }
        return .word
    }

    private mutating func number() -> SQLToken.Kind {
        while peek(0).isDigit { position += 1 }
        // Two dots are PL/pgSQL's range operator, not a decimal point.
        if peek(0) == UInt8(ascii: "."), peek(1) != UInt8(ascii: ".") {
            position += 1
            while peek(0).isDigit { position += 1 }
        }
        if peek(0) | 0x20 == UInt8(ascii: "e") {
            let sign = peek(1) == UInt8(ascii: "+") || peek(1) == UInt8(ascii: "-") ? 1 : 0
            if peek(1 + sign).isDigit { position += 2 + sign }
        }
        while peek(0).isDigit || peek(0).isIdentifierStart { position += 1 }
        return .number
    }

    /// Scans all consecutive operator characters, up to the start of a comment.
    private mutating func op() -> SQLToken.Kind {
        repeat { position += 1 } while peek(0).isOperator && !startsComment
        return .symbol
    }

    private var startsComment: Bool {
        let pair = (peek(0), peek(1))
        return pair == (UInt8(ascii: "-"), UInt8(ascii: "-")) || pair == (UInt8(ascii: "/"), UInt8(ascii: "*"))
    }

    private mutating func metaCommand() -> SQLToken.Kind {
        while position < end, bytes[position] != UInt8(ascii: "\n") { position += 1 }
        return .metaCommand
    }
}

extension UInt8 {
    @inline(__always)
    fileprivate var isSpace: Bool { self == 0x20 || (self >= 0x09 && self <= 0x0D) }

    @inline(__always)
    fileprivate var isDigit: Bool { self >= 0x30 && self <= 0x39 }

    @inline(__always)
    fileprivate var isIdentifierStart: Bool {
        let lower = self | 0x20
        return (lower >= 0x61 && lower <= 0x7A) || self == UInt8(ascii: "_") || self >= 0x80
    }

    @inline(__always)
    fileprivate var isIdentifierPart: Bool { isIdentifierStart || isDigit || self == UInt8(ascii: "$") }

    @inline(__always)
    fileprivate var isOperator: Bool {
        switch self {
        case UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "*"), UInt8(ascii: "/"), UInt8(ascii: "<"),
            UInt8(ascii: ">"), UInt8(ascii: "="), UInt8(ascii: "~"), UInt8(ascii: "!"), UInt8(ascii: "@"),
            UInt8(ascii: "#"), UInt8(ascii: "%"), UInt8(ascii: "^"), UInt8(ascii: "&"), UInt8(ascii: "|"),
            UInt8(ascii: "`"), UInt8(ascii: "?"):
            true
        default: false
        }
    }
}

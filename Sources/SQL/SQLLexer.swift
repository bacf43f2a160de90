import Foundation

/// Splits a script into statements exactly as psql does, in one pass over its bytes.
///
/// A semicolon ends a statement unless it is in quotes, in a comment, in parentheses, or in the body of an SQL-standard
/// function (`CREATE FUNCTION … BEGIN ATOMIC`). The data after a `COPY … FROM STDIN` belong to that statement. The
/// meta-commands `\restrict` and `\unrestrict`, which pg_dump writes, are skipped. All other meta-commands are refused.
public enum SQLLexer {
    /// - Parameters:
    ///   - source: the script, in UTF-8.
    ///   - file: the name of the script, for errors.
    /// - Throws: `SQLScriptError` with the place in the script.
    public static func split(_ source: [UInt8], file: String = "<script>") throws -> [SQLStatement] {
        do {
            return try source.withUnsafeBufferPointer { bytes in
                var splitter = SQLSplitter(bytes)
                return try splitter.run()
            }
        } catch let error as SQLScanError {
            throw SQLScriptError(error, in: source, of: file)
        }
    }

    /// Returns the tokens of a part of a source, without comments and white space.
    ///
    /// - Throws: `SQLScriptError` with the place in the source.
    public static func tokens(
        of source: [UInt8], in range: Range<Int>? = nil, standardConformingStrings: Bool = true,
        file: String = "<script>"
    ) throws -> [SQLToken] {
        do {
            return try source.withUnsafeBufferPointer { bytes in
                var scanner = SQLScanner(bytes, from: range?.lowerBound ?? 0, to: range?.upperBound)
                scanner.standardConformingStrings = standardConformingStrings
                var tokens: [SQLToken] = []
                while let token = try scanner.next() { tokens.append(token) }
                return tokens
            }
        } catch let error as SQLScanError {
            throw SQLScriptError(error, in: source, of: file)
        }
    }

    /// Returns the tokens and the COPY data of statements, as bytes to compare or to hash. Comments, white space
    /// between tokens, and the CR of line ends are left out. A zero byte follows each token, and another one follows
    /// each statement.
    ///
    /// - Throws: `SQLScriptError` with the place in the source.
    public static func canonicalTokens(
        of statements: [SQLStatement], in source: [UInt8], file: String = "<script>"
    ) throws -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(source.count)
        do {
            try source.withUnsafeBufferPointer { bytes in
                for statement in statements {
                    var scanner = SQLScanner(bytes, from: statement.range.lowerBound, to: statement.range.upperBound)
                    scanner.standardConformingStrings = statement.standardConformingStrings
                    while let token = try scanner.next() {
                        append(bytes, token.range, to: &result)
                        result.append(0)
                    }
                    if let data = statement.copyData { append(bytes, data, to: &result) }
                    result.append(0)
                }
            }
        } catch let error as SQLScanError {
            throw SQLScriptError(error, in: source, of: file)
        }
        return result
    }

    private static func append(_ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, to result: inout [UInt8]) {
        let part = UnsafeBufferPointer(rebasing: bytes[range])
        guard let base = part.baseAddress, memchr(base, Int32(UInt8(ascii: "\r")), part.count) != nil else {
            result.append(contentsOf: part)
            return
        }
        for (index, byte) in part.enumerated() {
            let beforeLineFeed = index + 1 < part.count && part[index + 1] == UInt8(ascii: "\n")
            if byte != UInt8(ascii: "\r") || !beforeLineFeed { result.append(byte) }
        }
    }
}

/// One statement of a script.
public struct SQLStatement: Sendable, Equatable {
    /// The bytes of the statement, without its semicolon and the white space and comments around it.
    public let range: Range<Int>
    /// The line on which the statement begins, from 1.
    public let line: Int
    /// The bytes of the data of a `COPY … FROM STDIN`, without the final `\.`.
    public let copyData: Range<Int>?
    /// The value of `standard_conforming_strings` that applies to the strings of the statement.
    public let standardConformingStrings: Bool
}

/// The state of splitting one script.
struct SQLSplitter {
    private let bytes: UnsafeBufferPointer<UInt8>
    private var scanner: SQLScanner
    private var statements: [SQLStatement] = []
    private var lineCounter: LineCounter

    private var start: Int?
    private var end = 0
    private var parentheses = 0
    private var block = AtomicBlock()
    private var words = LeadingWords()

    init(_ bytes: UnsafeBufferPointer<UInt8>) {
        self.bytes = bytes
        // A byte order mark at the start is skipped, as in psql.
        scanner = SQLScanner(bytes, from: bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0)
        lineCounter = LineCounter(bytes)
    }

    mutating func run() throws -> [SQLStatement] {
        while let token = try scanner.next() {
            switch token.kind {
            case .semicolon where parentheses == 0 && block.depth == 0:
                try finish(after: token.range.upperBound)
                continue
            case .metaCommand:
                try pass(over: token)
                continue
            case .openParenthesis: parentheses += 1
            case .closeParenthesis: parentheses = max(0, parentheses - 1)
            case .word:
                let word = UnsafeBufferPointer(rebasing: bytes[token.range])
                block.see(word, atTopLevel: parentheses == 0)
                if parentheses == 0 { words.see(word) }
            case .string, .number, .quotedIdentifier:
                if parentheses == 0 { words.see(UnsafeBufferPointer(rebasing: bytes[token.range])) }
            default: break
            }
            start = start ?? token.range.lowerBound
            end = token.range.upperBound
        }
        if start != nil { append(copyData: nil) }
        return statements
    }

    private mutating func finish(after semicolon: Int) throws {
        guard start != nil else {
            reset()
            return
        }
        var data: Range<Int>?
        if words.isCopyFromStdin { data = try copyData(after: semicolon) }
        append(copyData: data)
    }

    private mutating func append(copyData: Range<Int>?) {
        guard let start else { return }
        statements.append(
            SQLStatement(
                range: start..<end, line: lineCounter.line(at: start), copyData: copyData,
                standardConformingStrings: scanner.standardConformingStrings))
        if let setting = words.standardConformingStrings { scanner.standardConformingStrings = setting }
        reset()
    }

    private mutating func reset() {
        start = nil
        parentheses = 0
        block = AtomicBlock()
        words = LeadingWords()
    }

    private func pass(over token: SQLToken) throws {
        let text = String(decoding: bytes[token.range], as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        let name = text.prefix { !$0.isWhitespace }
        guard name == "\\restrict" || name == "\\unrestrict" else {
            throw SQLScanError(
                message: "psql's meta-command \(name) is not allowed in a script",
                hint: "write SQL instead; meta-commands run only in psql", offset: token.range.lowerBound)
        }
    }

    /// Returns the lines after the statement, up to a line that contains only `\.`.
    private mutating func copyData(after semicolon: Int) throws -> Range<Int> {
        let newline = UInt8(ascii: "\n")
        var place = semicolon
        while place < bytes.count, bytes[place] != newline {
            if bytes[place] == UInt8(ascii: "-"), place + 1 < bytes.count, bytes[place + 1] == UInt8(ascii: "-") {
                // A comment up to the end of the line.
                place = bytes[place...].firstIndex(of: newline) ?? bytes.count
                break
            }
            guard bytes[place] == 0x20 || bytes[place] == 0x09 || bytes[place] == 0x0D else {
                throw SQLScanError(
                    message:
                        "expected the end of the line after COPY FROM STDIN, because the data begin on the next line",
                    offset: place)
            }
            place += 1
        }
        let first = min(place + 1, bytes.count)
        place = first
        while place < bytes.count {
            let lineEnd = bytes[place...].firstIndex(of: newline) ?? bytes.count
            if isEndOfData(place..<lineEnd) {
                scanner.move(to: min(lineEnd + 1, bytes.count))
                return first..<place
            }
            place = lineEnd + 1
        }
        scanner.move(to: bytes.count)
        return first..<bytes.count
    }

    private func isEndOfData(_ line: Range<Int>) -> Bool {
        let length = line.count
        guard length == 2 || length == 3, bytes[line.lowerBound] == UInt8(ascii: "\\") else { return false }
        return bytes[line.lowerBound + 1] == UInt8(ascii: ".")
            && (length == 2 || bytes[line.lowerBound + 2] == UInt8(ascii: "\r"))
    }
}

/// The nesting depth in the body of an SQL-standard function. Semicolons in the body do not end the statement.
private struct AtomicBlock {
    private(set) var depth = 0
    private var initials: [UInt8] = []
    private var count = 0

    /// Follows psql's rule: in a statement that begins with CREATE [OR REPLACE] FUNCTION or PROCEDURE, `BEGIN` opens a
    /// block, `CASE` within a block opens a nested one, and `END` closes one.
    mutating func see(_ word: UnsafeBufferPointer<UInt8>, atTopLevel: Bool) {
        if count < 4 {
            let creates: [StaticString] = ["create", "or", "replace", "function", "procedure"]
            initials.append(creates.contains(where: word.isKeyword) ? word[0] | 0x20 : 0)
            count += 1
        }
        guard atTopLevel, createsRoutine else { return }
        if word.isKeyword("begin") {
            depth += 1
        } else if word.isKeyword("case") {
            if depth > 0 { depth += 1 }
        } else if word.isKeyword("end") {
            depth = max(0, depth - 1)
        }
    }

    private var createsRoutine: Bool {
        guard initials.count >= 2, initials[0] == UInt8(ascii: "c") else { return false }
        func isRoutine(_ initial: UInt8) -> Bool { initial == UInt8(ascii: "f") || initial == UInt8(ascii: "p") }
        if isRoutine(initials[1]) { return true }
        return initials.count >= 4 && initials[1] == UInt8(ascii: "o") && initials[2] == UInt8(ascii: "r")
            && isRoutine(initials[3])
    }
}

/// Detects whether a statement is a `COPY … FROM STDIN`, and whether it sets `standard_conforming_strings`.
private struct LeadingWords {
    private var isCopy = false
    private var sawFrom = false
    private(set) var isCopyFromStdin = false
    private var isSet = false
    private var isReset = false
    private var setsStrings = false
    private(set) var standardConformingStrings: Bool?
    private var count = 0

    mutating func see(_ word: UnsafeBufferPointer<UInt8>) {
        count += 1
        if count == 1 {
            isCopy = word.isKeyword("copy")
            isSet = word.isKeyword("set")
            isReset = word.isKeyword("reset")
        } else if isCopy {
            if sawFrom, word.isKeyword("stdin") || word.isKeyword("stdout") { isCopyFromStdin = true }
            sawFrom = word.isKeyword("from")
        } else if isReset, count == 2 {
            if word.isKeyword("all") || Self.isSetting(word) { standardConformingStrings = true }
        } else if isSet, count <= 5 {
            if setsStrings {
                // A Boolean may be abbreviated (PostgreSQL manual, section 20.1.1).
                let offs: [StaticString] = ["of", "off", "f", "fa", "fal", "fals", "false", "n", "no", "0"]
                let isQuoted = word.first == UInt8(ascii: "'") && word.count > 2
                let value = isQuoted ? UnsafeBufferPointer(rebasing: word[1..<word.count - 1]) : word
                if !word.isKeyword("to") { standardConformingStrings = !offs.contains(where: value.isKeyword) }
            } else {
                setsStrings = Self.isSetting(word)
            }
        }
    }

    private static func isSetting(_ word: UnsafeBufferPointer<UInt8>) -> Bool {
        word.isKeyword("standard_conforming_strings") || word.isKeyword("\"standard_conforming_strings\"")
    }
}

/// Counts the lines up to given places. The places must be in ascending order.
private struct LineCounter {
    private let bytes: UnsafeBufferPointer<UInt8>
    private var place = 0
    private var line = 1

    init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    mutating func line(at target: Int) -> Int {
        guard let base = bytes.baseAddress else { return line }
        while place < target, let found = memchr(base + place, Int32(UInt8(ascii: "\n")), target - place) {
            line += 1
            place = UnsafeRawPointer(found) - UnsafeRawPointer(base) + 1
        }
        place = max(place, target)
        return line
    }
}

extension UnsafeBufferPointer<UInt8> {
    /// Whether the bytes are this word, in any case. `word` must be in lower case.
    @inline(__always)
    func isKeyword(_ word: StaticString) -> Bool {
        guard count == word.utf8CodeUnitCount else { return false }
        for index in 0..<count {
            let byte = self[index]
            let lower = byte >= 0x41 && byte <= 0x5A ? byte | 0x20 : byte
            if lower != word.utf8Start[index] { return false }
        }
        return true
    }
}

import Foundation
import SQL

/// The encodings of migration files. A file is in UTF-8, unless a directive or a statement in it names another
/// encoding. A file in another encoding is converted to UTF-8 before it is split, because in some encodings the second
/// byte of a character can be a quote or a backslash.
enum ScriptEncoding {
    /// PostgreSQL's names of encodings (PostgreSQL manual, section 24.3.1), without `_`, and the names that iconv(3)
    /// uses. Those are absent whose characters iconv(3) converts otherwise than PostgreSQL: BIG5, GB18030, JOHAB,
    /// WIN1258, and the encodings of 2004.
    private static let names: [String: String] = {
        var names = [
            "UTF8": "UTF-8", "UNICODE": "UTF-8", "SQLASCII": "UTF-8",
            "EUCCN": "EUC-CN", "EUCJP": "EUC-JP-MS", "EUCKR": "EUC-KR", "EUCTW": "EUC-TW", "GBK": "GBK",
            "KOI8": "KOI8-R", "KOI8R": "KOI8-R", "KOI8U": "KOI8-U", "SJIS": "CP932", "MSKANJI": "CP932",
            "SHIFTJIS": "CP932", "WIN932": "CP932", "WINDOWS932": "CP932", "UHC": "UHC", "WIN949": "UHC",
            "WINDOWS949": "UHC", "WIN936": "GBK", "WINDOWS936": "GBK", "WIN": "CP1251", "ALT": "CP866",
            "WIN866": "CP866", "WINDOWS866": "CP866", "WIN874": "CP874",
            "WINDOWS874": "CP874",
        ]
        for number in 1250...1257 {
            names["WIN\(number)"] = "CP\(number)"
            names["WINDOWS\(number)"] = "CP\(number)"
        }
        let parts = [1: 1, 2: 2, 3: 3, 4: 4, 5: 9, 6: 10, 7: 13, 8: 14, 9: 15, 10: 16]
        for (latin, part) in parts { names["LATIN\(latin)"] = "ISO-8859-\(part)" }
        for part in 1...16 { names["ISO8859\(part)"] = "ISO-8859-\(part)" }
        return names
    }()

    private static func converter(_ name: String) -> String? {
        names[String(name.uppercased().filter { $0.isLetter || $0.isNumber })]
    }

    /// Returns whether a name is one of PostgreSQL's encodings that can be converted.
    static func isKnown(_ name: String) -> Bool { converter(name) != nil }

    /// Refuses files that are not text in an encoding that contains ASCII.
    ///
    /// - Throws: `MigrationError.badEncoding`.
    static func refuseOtherThanText(_ bytes: [UInt8], path: String) throws {
        if bytes.starts(with: [0xFF, 0xFE]) || bytes.starts(with: [0xFE, 0xFF]) {
            let isWide = bytes.starts(with: [0xFF, 0xFE, 0, 0])
            throw MigrationError.badEncoding(
                location: path, "the file is in \(isWide ? "UTF-32" : "UTF-16")", hint: "save the file in UTF-8")
        }
        guard let zero = bytes.firstIndex(of: 0) else { return }
        // In UTF-16 every second byte of ASCII text is zero.
        let pairs = bytes.prefix(256).count / 2
        let zeros = bytes.prefix(pairs * 2).count { $0 == 0 }
        if pairs > 1, zeros * 3 >= pairs * 2 {
            throw MigrationError.badEncoding(
                location: path, "the file is in UTF-16 without a byte order mark", hint: "save the file in UTF-8")
        }
        throw MigrationError.badEncoding(
            location: place(zero, bytes, path), "the file contains a NUL character, which SQL does not allow",
            hint: "remove the character")
    }

    /// Returns the text in UTF-8.
    ///
    /// - Parameter encoding: the encoding of the file; nil: UTF-8. A statement `SET client_encoding` or `SET NAMES`
    ///   changes the encoding of the text that follows the statement, as in psql.
    /// - Throws: `MigrationError.badEncoding`, with the location of the first byte that is not valid.
    static func decoded(_ bytes: [UInt8], encoding: String?, path: String) throws -> [UInt8] {
        var result: [UInt8] = []
        var (start, current) = (0, encoding ?? "UTF8")
        for change in changes(in: bytes) where !same(change.encoding, current) {
            // A line in a comment, a string or COPY data is not a statement.
            let text = result + (try converted(bytes, start..<change.end, current, path))
            guard let statements = try? SQLLexer.split(text, file: path),
                endsDeclaration(at: text.count, text, statements)
            else { continue }
            result = text
            (start, current) = (change.end, change.encoding)
        }
        let isPlain = start == 0 && same(current, "UTF8")
        let text = try isPlain ? bytes : result + converted(bytes, start..<bytes.count, current, path)
        if isPlain { try validate(bytes, 0..<bytes.count, path) }
        if !isPlain || mentionsEncoding(bytes) { try refuseUnknownChanges(text, hasOther: !isPlain, path: path) }
        return text
    }

    /// Returns whether the line that ends at an offset is a statement that names an encoding.
    private static func endsDeclaration(at offset: Int, _ text: [UInt8], _ statements: [SQLStatement]) -> Bool {
        guard let statement = statements.last(where: { $0.range.upperBound <= offset }),
            text[statement.range.upperBound..<offset].allSatisfy({ $0 == UInt8(ascii: ";") || $0 <= 0x20 }),
            let words = try? SQLLexer.tokens(of: text, in: statement.range).map({ ScriptWord($0, in: text) })
        else { return false }
        return isDeclaration(words) || [["RESET", "ALL"], ["DISCARD", "ALL"]].contains(words.map(\.keyword))
    }

    /// Returns whether a statement only names the encoding of the text that follows. Such a statement is not sent to
    /// the server, because the text is sent in UTF-8.
    static func isDeclaration(_ words: [ScriptWord]) -> Bool {
        let keywords = words.map(\.keyword)
        return keywords == ["RESET", "CLIENT_ENCODING"] || keywords.starts(with: ["SET", "NAMES"])
            || keywords.starts(with: ["SET", "CLIENT_ENCODING"])
            || keywords.starts(with: ["SET", "SESSION", "CLIENT_ENCODING"])
    }

    private static func same(_ one: String, _ other: String) -> Bool { converter(one) == converter(other) }

    /// Returns the ends of the statements that change the encoding, with the new encodings. Each must be on a line of
    /// its own, as pg_dump writes it.
    private static func changes(in bytes: [UInt8]) -> [(end: Int, encoding: String)] {
        guard mentionsEncoding(bytes) else { return [] }
        var found: [(Int, String)] = []
        // A byte order mark.
        var start = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
        while start < bytes.count {
            let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
            if let encoding = change(inLine: bytes[start..<end]) { found.append((end, encoding)) }
            start = end + 1
        }
        return found
    }

    /// Whether a file may name an encoding. Most files do not, and regular expressions are slow.
    private static func mentionsEncoding(_ bytes: [UInt8]) -> Bool {
        bytes.mentions("client_encoding") || bytes.mentions("names")
    }

    private static let mayBegin = ["SET", "RESET", "DISCARD"].map { Array($0.utf8) }

    /// Returns whether a statement begins as one that changes the encoding.
    private static func mayChange(_ statement: ArraySlice<UInt8>) -> Bool {
        mayBegin.contains { statement.prefix($0.count).map { $0 & ~0x20 }.elementsEqual($0) }
    }

    /// Returns the encoding that a line names, if the line is a statement for that and nothing else.
    private static func change(inLine line: ArraySlice<UInt8>) -> String? {
        let words = line.drop { $0 <= 0x20 }
        guard mayChange(words) else { return nil }
        let text = String(decoding: words, as: UTF8.self)
        let declaration =
            /(?i)SET\s+(?:SESSION\s+)?(?:client_encoding\s*(?:=|\sTO\s)|NAMES\s)\s*'?([A-Za-z0-9_-]+)'?\s*;\s*/
        if let match = text.wholeMatch(of: declaration), isKnown(String(match.1)) { return String(match.1) }
        let reset =
            /(?i)(?:RESET\s+client_encoding|RESET\s+ALL|DISCARD\s+ALL|SET\s+client_encoding\s*(?:=|\sTO\s)\s*DEFAULT)\s*;\s*/
        return text.wholeMatch(of: reset) == nil ? nil : "UTF8"
    }

    /// Refuses statements whose effect on the encoding of the text that follows, or of the data of COPY, is not
    /// followed here. The text is sent in UTF-8, so they would have another effect than in psql.
    ///
    /// - Parameters:
    ///   - source: the text in UTF-8.
    ///   - hasOther: whether a part of the file is in another encoding.
    /// - Throws: `MigrationError.badEncoding`; `SQLScriptError`.
    private static func refuseUnknownChanges(_ source: [UInt8], hasOther: Bool, path: String) throws {
        for statement in try SQLLexer.split(source, file: path) {
            if !hasOther, !mayChange(source[statement.range]) { continue }
            let tokens = try SQLLexer.tokens(
                of: source, in: statement.range, standardConformingStrings: statement.standardConformingStrings,
                file: path)
            let words = tokens.map { ScriptWord($0, in: source) }
            let keywords = words.map(\.keyword)
            var location: String {
                SourceExcerpt(file: path, source: source, offset: statement.range.lowerBound).location
            }
            if hasOther, statement.copyData != nil, keywords.contains("ENCODING") {
                throw MigrationError.badEncoding(
                    location: location, "the option ENCODING of COPY cannot be used in a file that is not in UTF-8",
                    hint: "leave the option out: the data have the encoding of the file")
            }
            let declares = isDeclaration(words)
            let undoes =
                hasOther
                && (keywords.first == "ROLLBACK" || [["RESET", "ALL"], ["DISCARD", "ALL"]].contains(keywords))
            let mentions = words.contains { $0.text.lowercased().contains("client_encoding") }
            guard declares || undoes || mentions && hasOther else { continue }
            let begin = source[..<statement.range.lowerBound].lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
            let end = source[statement.range.upperBound...].firstIndex(of: UInt8(ascii: "\n")) ?? source.count
            if change(inLine: source[begin..<end]) != nil { continue }
            let value = words.last.map { $0.text.filter { $0 != "'" } } ?? ""
            if declares, !hasOther, isKnown(value), same(value, "UTF8") { continue }
            throw MigrationError.badEncoding(
                location: location, "this statement may change the encoding of the text that follows it",
                hint:
                    "write SET client_encoding = 'NAME'; with a known encoding on a line of its own, or save the file "
                    + "in UTF-8")
        }
    }

    private static func converted(
        _ bytes: [UInt8], _ range: Range<Int>, _ encoding: String, _ path: String
    ) throws -> [UInt8] {
        guard let name = converter(encoding), name != "UTF-8" else {
            try validate(bytes, range, path)
            return Array(bytes[range])
        }
        guard let conversion = iconv_open("UTF-8", name), conversion != iconv_t(bitPattern: -1) else {
            throw MigrationError.badEncoding(
                location: path, "this machine cannot convert \(encoding)", hint: "save the file in UTF-8")
        }
        defer { iconv_close(conversion) }
        var input = bytes[range].map { CChar(bitPattern: $0) }
        // No character of these encodings has more than four bytes in UTF-8.
        var output = [CChar](repeating: 0, count: range.count * 4 + 16)
        var (inputLeft, outputLeft) = (input.count, output.count)
        let failed = input.withUnsafeMutableBufferPointer { from in
            output.withUnsafeMutableBufferPointer { to in
                var (source, target) = (from.baseAddress, to.baseAddress)
                return iconv(conversion, &source, &inputLeft, &target, &outputLeft) == -1
            }
        }
        if failed {
            let offset = range.upperBound - inputLeft
            throw invalid(offset, bytes, path, encoding)
        }
        return output.prefix(output.count - outputLeft).map { UInt8(bitPattern: $0) }
    }

    private static func validate(_ bytes: [UInt8], _ range: Range<Int>, _ path: String) throws {
        guard let offset = firstInvalid(bytes[range]) else { return }
        throw invalid(offset, bytes, path, "UTF8")
    }

    /// Returns the offset of the first byte that is not UTF-8.
    private static func firstInvalid(_ bytes: ArraySlice<UInt8>) -> Int? {
        if bytes.withUnsafeBufferPointer({ String(validating: $0, as: UTF8.self) }) != nil { return nil }
        var decoder = UTF8()
        var iterator = bytes.makeIterator()
        var offset = bytes.startIndex
        while case .scalarValue(let scalar) = decoder.decode(&iterator) { offset += UTF8.width(scalar) }
        return offset
    }

    private static func invalid(_ offset: Int, _ bytes: [UInt8], _ path: String, _ encoding: String) -> MigrationError {
        let byte = String(format: "0x%02x", bytes[min(offset, bytes.count - 1)])
        return .badEncoding(
            location: place(offset, bytes, path),
            "byte \(offset + 1) of the file, \(byte), is not valid in \(encoding)",
            hint:
                "save the file in UTF-8, or name its encoding on its first line, for example '-- reeve: encoding "
                + "LATIN1'"
        )
    }

    private static func place(_ offset: Int, _ bytes: [UInt8], _ path: String) -> String {
        SourceExcerpt(file: path, source: bytes, offset: offset).location
    }
}

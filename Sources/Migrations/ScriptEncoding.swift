import Foundation
import SQL

/// The encodings of migration files. A file is in UTF-8, unless a directive or a statement in it names another encoding.
/// A file in another encoding is converted to UTF-8 before it is split, because in some encodings the second byte of a
/// character can be a quote or a backslash.
enum ScriptEncoding {
    /// PostgreSQL's names of encodings (PostgreSQL manual, section 24.3.1), without `_`, and the names that iconv(3)
    /// uses.
    private static let names: [String: String] = {
        var names = [
            "UTF8": "UTF-8", "UNICODE": "UTF-8", "SQLASCII": "UTF-8",
            "BIG5": "BIG5", "EUCCN": "EUC-CN", "EUCJP": "EUC-JP", "EUCJIS2004": "EUC-JISX0213", "EUCKR": "EUC-KR",
            "EUCTW": "EUC-TW", "GB18030": "GB18030", "GBK": "GBK", "JOHAB": "JOHAB", "KOI8": "KOI8-R",
            "KOI8R": "KOI8-R", "KOI8U": "KOI8-U", "SJIS": "CP932", "MSKANJI": "CP932", "SHIFTJIS": "CP932",
            "WIN932": "CP932", "WINDOWS932": "CP932", "SHIFTJIS2004": "SHIFT_JISX0213", "UHC": "UHC", "WIN949": "UHC",
            "WINDOWS949": "UHC", "WIN936": "GBK", "WINDOWS936": "GBK", "WIN950": "BIG5", "WINDOWS950": "BIG5",
            "WIN": "CP1251", "ALT": "CP866", "WIN866": "CP866", "WINDOWS866": "CP866", "WIN874": "CP874",
            "WINDOWS874": "CP874", "TCVN": "CP1258", "TCVN5712": "CP1258", "VSCII": "CP1258", "ABC": "CP1258",
        ]
        for number in 1250...1258 {
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
        if start == 0, same(current, "UTF8") {
            try validate(bytes, 0..<bytes.count, path)
            return bytes
        }
        return result + (try converted(bytes, start..<bytes.count, current, path))
    }

    /// Returns whether the line that ends at an offset is a statement that names an encoding.
    private static func endsDeclaration(at offset: Int, _ text: [UInt8], _ statements: [SQLStatement]) -> Bool {
        guard let statement = statements.last(where: { $0.range.upperBound <= offset }),
            text[statement.range.upperBound..<offset].allSatisfy({ $0 == UInt8(ascii: ";") || $0 <= 0x20 }),
            !statements.contains(where: { $0.copyData?.contains(offset - 1) ?? false }),
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
        // Most files mention no encoding, and regular expressions are slow.
        guard mentions("client_encoding", in: bytes) || mentions("names", in: bytes) else { return [] }
        let mayBegin = ["SET", "RESET", "DISCARD"].map { Array($0.utf8) }
        let declaration =
            /(?i)SET\s+(?:SESSION\s+)?(?:client_encoding\s*(?:=|\sTO\s)|NAMES\s)\s*'?([A-Za-z0-9_-]+)'?\s*;\s*/
        let reset =
            /(?i)(?:RESET\s+client_encoding|RESET\s+ALL|DISCARD\s+ALL|SET\s+client_encoding\s*(?:=|\sTO\s)\s*DEFAULT)\s*;\s*/
        var found: [(Int, String)] = []
        var start = 0
        while start < bytes.count {
            let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
            defer { start = end + 1 }
            let words = bytes[start..<end].drop { $0 <= 0x20 }
            guard mayBegin.contains(where: { words.prefix($0.count).map { $0 & ~0x20 }.elementsEqual($0) }) else {
                continue
            }
            let line = String(decoding: words, as: UTF8.self)
            if let match = line.wholeMatch(of: declaration), isKnown(String(match.1)) {
                found.append((end, String(match.1)))
            } else if line.wholeMatch(of: reset) != nil {
                found.append((end, "UTF8"))
            }
        }
        return found
    }

    /// Returns whether bytes contain a word in lower or upper case.
    static func mentions(_ word: StaticString, in bytes: [UInt8]) -> Bool {
        let count = word.utf8CodeUnitCount
        return bytes.withUnsafeBufferPointer { bytes in
            guard bytes.count >= count else { return false }
            return (0...bytes.count - count).contains { start in
                (0..<count).allSatisfy { bytes[start + $0] | 0x20 == word.utf8Start[$0] | 0x20 }
            }
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
                "save the file in UTF-8, or name its encoding on its first line, for example '-- reeve: encoding LATIN1'"
        )
    }

    private static func place(_ offset: Int, _ bytes: [UInt8], _ path: String) -> String {
        SourceExcerpt(file: path, source: bytes, offset: offset).location
    }
}

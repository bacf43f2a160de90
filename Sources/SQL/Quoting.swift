/// Functions that quote names and values for other languages: SQL, PostgreSQL's configuration files and the patterns of
/// pg_dump.
///
/// All quoting is done in this file. The functions work on bytes: a quote followed by a combining mark is one
/// `Character` in Swift, but an ordinary quote in PostgreSQL. A value is sent to the server as a parameter if the
/// statement accepts parameters; these functions are for the other cases. docs/quoting.md describes which function is
/// for which case.
///
/// None of the functions handles NUL, which ends a text in PostgreSQL. `Connection` refuses statements that contain
/// NUL.

/// Quotes a name as an SQL identifier (PostgreSQL manual, section 4.1.1).
public func quoteIdentifier(_ name: String) -> String {
    delimited(name, by: UInt8(ascii: "\""))
}

/// Quotes a text as an SQL literal that has the same value with either setting of `standard_conforming_strings`
/// (PostgreSQL manual, section 4.1.2).
public func quoteLiteral(_ text: String) -> String {
    let quoted = delimited(text, by: UInt8(ascii: "'"))
    guard quoted.utf8.contains(UInt8(ascii: "\\")) else { return quoted }
    return "E" + String(decoding: doubling(quoted.utf8, UInt8(ascii: "\\")), as: UTF8.self)
}

/// Quotes a text between dollar signs (PostgreSQL manual, section 4.1.2.4). The tag is chosen so that it does not occur
/// in the text.
public func quoteDollar(_ text: String) -> String {
    let dollar = UInt8(ascii: "$")
    var number = 0
    while true {
        number += 1
        let tag = Array("$function\(number == 1 ? "" : String(number))$".utf8)
        // The end of the text and the beginning of the closing tag may form the tag, too.
        let body = Array(text.utf8) + tag
        let first = body.indices.first { body[$0] == dollar && body[$0...].starts(with: tag) }
        if first == body.count - tag.count { return String(decoding: tag + body, as: UTF8.self) }
    }
}

/// Quotes a value for `postgresql.conf` (PostgreSQL manual, section 20.1.2).
public func quoteSetting(_ value: String) -> String {
    var bytes = doubling(value.utf8, UInt8(ascii: "\\"))
    bytes = doubling(bytes, UInt8(ascii: "'"))
    let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    return "'" + String(decoding: Array(lines.joined(separator: Array("\\n".utf8))), as: UTF8.self) + "'"
}

/// Quotes a name as a pattern with which `pg_dump` and `pg_restore` match only that name. Within quotes no character is
/// a wildcard (PostgreSQL manual, psql, "Patterns").
public func quotePattern(_ name: String) -> String { quoteIdentifier(name) }

/// Quotes a value in a connection string of libpq (PostgreSQL manual, section 34.1.1.1).
public func quoteConnectionValue(_ value: String) -> String {
    let bytes = [UInt8(ascii: "\\"), UInt8(ascii: "'")]
    return "'" + String(decoding: escaping(value.utf8, bytes), as: UTF8.self) + "'"
}

/// Quotes a value within the connection parameter `options` (PostgreSQL manual, section 34.1.2, `options`).
public func quoteConnectionOption(_ value: String) -> String {
    String(decoding: escaping(value.utf8, Array("\\ \t\n\u{B}\u{C}\r".utf8)), as: UTF8.self)
}

/// Returns one pattern of `pg_dump` that matches the given names in a schema.
public func quotePattern(schema: String, names: [String]) -> String {
    let names = names.map { quotePattern($0) }
    return quotePattern(schema) + "." + (names.count == 1 ? names[0] : "(" + names.joined(separator: "|") + ")")
}

/// Quotes an argument for a POSIX shell, if that is necessary (POSIX, Shell Command Language, section 2.2.2).
public func quoteShell(_ argument: String) -> String {
    let isPlain = argument.utf8.allSatisfy { byte in
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
            || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || "_.-/".utf8.contains(byte)
    }
    return isPlain && !argument.isEmpty ? argument : "'" + argument.substituting("'", with: "'\\''") + "'"
}

/// Quotes an element of an array literal (PostgreSQL manual, section 8.15.6).
public func quoteArrayElement(_ text: String) -> String {
    let escaped = escaping(text.utf8, [UInt8(ascii: "\""), UInt8(ascii: "\\")])
    return "\"" + String(decoding: escaped, as: UTF8.self) + "\""
}

/// Returns the name that is written as an SQL identifier, with or without quotes; nil if the quotes do not match.
public func unquoteIdentifier(_ identifier: String) -> String? { undelimited(identifier, UInt8(ascii: "\"")) }

/// Returns whether a name, with its qualifiers, is written with Unicode escapes (`U&"d\0061t"`). PostgreSQL's functions
/// that look names up do not know them.
public func hasUnicodeEscapes(_ name: String) -> Bool { name.contains(/(?:^|\.)[Uu]&"/) }

/// Returns the value of a plain SQL string literal; nil if the literal has a prefix such as `E`, or if the quotes do
/// not match.
public func unquoteLiteral(_ literal: String) -> String? {
    literal.utf8.first == UInt8(ascii: "'") ? undelimited(literal, UInt8(ascii: "'")) : nil
}

extension String {
    /// Returns the name cut to at most `count` bytes, but never within a Unicode scalar. The server itself cuts names
    /// to 63 bytes, and two cut names may be the same.
    public func clipped(toBytes count: Int) -> String {
        var bytes = 0
        let scalars = unicodeScalars.prefix { scalar in
            bytes += UTF8.width(scalar)
            return bytes <= count
        }
        return String(scalars)
    }

    /// Returns the text with each occurrence of `marker` replaced. Compares byte by byte.
    public func substituting(_ marker: String, with value: String) -> String {
        let (text, wanted) = (Array(utf8), Array(marker.utf8))
        guard !wanted.isEmpty else { return self }
        var result: [UInt8] = []
        var place = 0
        while place < text.count {
            if text[place] == wanted[0], text[place...].starts(with: wanted) {
                result += value.utf8
                place += wanted.count
            } else {
                result.append(text[place])
                place += 1
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}

// MARK: Bytes

private func delimited(_ text: String, by quote: UInt8) -> String {
    var bytes = [quote]
    bytes.reserveCapacity(text.utf8.count + 2)
    bytes += doubling(text.utf8, quote)
    bytes.append(quote)
    return String(decoding: bytes, as: UTF8.self)
}

private func doubling(_ text: some Sequence<UInt8>, _ byte: UInt8) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.underestimatedCount)
    for one in text {
        bytes.append(one)
        if one == byte { bytes.append(one) }
    }
    return bytes
}

private func escaping(_ text: some Sequence<UInt8>, _ special: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    for one in text {
        if special.contains(one) { bytes.append(UInt8(ascii: "\\")) }
        bytes.append(one)
    }
    return bytes
}

private func undelimited(_ text: String, _ quote: UInt8) -> String? {
    let bytes = Array(text.utf8)
    guard bytes.first == quote else { return bytes.contains(quote) ? nil : text }
    guard bytes.count >= 2, bytes.last == quote else { return nil }
    var result: [UInt8] = []
    var place = 1
    while place < bytes.count - 1 {
        if bytes[place] == quote {
            guard place + 1 < bytes.count - 1, bytes[place + 1] == quote else { return nil }
            place += 1
        }
        result.append(bytes[place])
        place += 1
    }
    return String(decoding: result, as: UTF8.self)
}

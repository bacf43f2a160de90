/// Names and values as text of another language: SQL, PostgreSQL's configuration files, patterns of pg_dump.
///
/// This is the one place that quotes. Everything here works on bytes: a quote followed by a combining mark is one
/// `Character` in Swift, and a quote like any other to PostgreSQL. A value goes to the server as a parameter where the
/// statement takes one; these functions are for where it does not. docs/quoting.md tells which is for what.
///
/// None of them makes a NUL safe, which ends a text in PostgreSQL: `Connection` refuses statements that hold one.

/// A name as SQL writes it between quotes (PostgreSQL manual, section 4.1.1).
public func quoteIdentifier(_ name: String) -> String {
    delimited(name, by: UInt8(ascii: "\""))
}

/// A text as an SQL literal that reads the same with either setting of `standard_conforming_strings` (PostgreSQL
/// manual, section 4.1.2).
public func quoteLiteral(_ text: String) -> String {
    let quoted = delimited(text, by: UInt8(ascii: "'"))
    guard quoted.utf8.contains(UInt8(ascii: "\\")) else { return quoted }
    return "E" + String(decoding: doubling(quoted.utf8, UInt8(ascii: "\\")), as: UTF8.self)
}

/// A text between dollar signs (PostgreSQL manual, section 4.1.2.4), under a tag that does not end it early.
public func quoteDollar(_ text: String) -> String {
    let dollar = UInt8(ascii: "$")
    var number = 0
    while true {
        number += 1
        let tag = Array("$function\(number == 1 ? "" : String(number))$".utf8)
        // What the text ends with may begin the tag that closes it.
        let body = Array(text.utf8) + tag
        let first = body.indices.first { body[$0] == dollar && body[$0...].starts(with: tag) }
        if first == body.count - tag.count { return String(decoding: tag + body, as: UTF8.self) }
    }
}

/// A value as `postgresql.conf` writes it (PostgreSQL manual, section 20.1.2).
public func quoteSetting(_ value: String) -> String {
    var bytes = doubling(value.utf8, UInt8(ascii: "\\"))
    bytes = doubling(bytes, UInt8(ascii: "'"))
    let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    return "'" + String(decoding: Array(lines.joined(separator: Array("\\n".utf8))), as: UTF8.self) + "'"
}

/// A name as `pg_dump` and `pg_restore` match it and nothing else: within quotes no character is a wildcard (PostgreSQL
/// manual, psql, "Patterns").
public func quotePattern(_ name: String) -> String { quoteIdentifier(name) }

/// A schema and some names in it as one pattern of `pg_dump`.
public func quotePattern(schema: String, names: [String]) -> String {
    let names = names.map { quotePattern($0) }
    return quotePattern(schema) + "." + (names.count == 1 ? names[0] : "(" + names.joined(separator: "|") + ")")
}

/// An element of an array's literal (PostgreSQL manual, section 8.15.6).
func quoteArrayElement(_ text: String) -> String {
    let escaped = escaping(text.utf8, [UInt8(ascii: "\""), UInt8(ascii: "\\")])
    return "\"" + String(decoding: escaped, as: UTF8.self) + "\""
}

/// The name that SQL means by an identifier with or without quotes; nil when quotes do not match.
public func unquoteIdentifier(_ identifier: String) -> String? { undelimited(identifier, UInt8(ascii: "\"")) }

/// The text that a plain literal means, without `E` and prefixes; nil when quotes do not match.
public func unquoteLiteral(_ literal: String) -> String? {
    literal.utf8.first == UInt8(ascii: "'") ? undelimited(literal, UInt8(ascii: "'")) : nil
}

/// A text from outside as people read it, on one line where nothing hides: `⏎` for the end of a line, and `\u{1b}` for
/// what moves the cursor, turns the direction of writing, or is not seen. It is for reading; nothing takes it back.
///
/// - Parameter keepsLines: whether line feeds and tabs stay: for texts that have lines of their own, on a terminal.
public func visible(_ text: String, keepsLines: Bool = false) -> String {
    var result = String.UnicodeScalarView()
    var last: Unicode.Scalar?
    for scalar in text.unicodeScalars {
        defer { last = scalar }
        switch scalar.properties.generalCategory {
        case .control where keepsLines && (scalar == "\n" || scalar == "\t"): result.append(scalar)
        case .control where scalar == "\n":
            if last == "\r" { result.removeLast("\\u{d}".unicodeScalars.count) }
            result.append("⏎")
        case .control, .format, .lineSeparator, .paragraphSeparator:
            result.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
        default: result.append(scalar)
        }
    }
    return String(result)
}

extension String {
    /// The name cut to at most so many bytes, never within a character: the server cuts names at 63 by itself, and then
    /// two may be the same.
    public func clipped(toBytes count: Int) -> String {
        var bytes = 0
        let scalars = unicodeScalars.prefix { scalar in
            bytes += UTF8.width(scalar)
            return bytes <= count
        }
        return String(scalars)
    }

    /// The text with each occurrence of a marker, compared byte by byte, replaced.
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

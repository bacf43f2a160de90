import SQL

/// Reads and writes PostgreSQL's text form of arrays (manual, section 8.15.6), byte by byte.
enum ArrayLiteral {
    /// Returns the elements of the outermost dimension. An element that is NULL is returned as nil, and an inner array
    /// as its array literal.
    ///
    /// - Returns: nil if the text is not an array literal.
    static func parse(_ text: String) -> [String?]? {
        var rest = Array(text.utf8)[...]
        if rest.first == UInt8(ascii: "[") {  // explicit bounds, as in [0:1]={…}
            guard let equals = rest.firstIndex(of: UInt8(ascii: "=")) else { return nil }
            rest = rest[(equals + 1)...]
        }
        guard rest.count >= 2, rest.first == open, rest.last == close else { return nil }
        rest = rest.dropFirst().dropLast()
        var elements: [String?] = []
        if rest.isEmpty { return elements }
        while true {
            guard let element = nextElement(&rest) else { return nil }
            elements.append(element.isNull ? nil : String(decoding: element.text, as: UTF8.self))
            guard let separator = rest.popFirst() else { return elements }
            if separator != comma { return nil }
        }
    }

    private static let open = UInt8(ascii: "{")
    private static let close = UInt8(ascii: "}")
    private static let comma = UInt8(ascii: ",")
    private static let quote = UInt8(ascii: "\"")
    private static let backslash = UInt8(ascii: "\\")

    private static func nextElement(_ rest: inout ArraySlice<UInt8>) -> (text: [UInt8], isNull: Bool)? {
        switch rest.first {
        case quote: return quoted(&rest).map { ($0, false) }
        case open: return nested(&rest).map { ($0, false) }
        default:
            var text: [UInt8] = []
            while let byte = rest.first, byte != comma {
                rest.removeFirst()
                guard let plain = byte == backslash ? rest.popFirst() : byte else { return nil }
                text.append(plain)
            }
            let isNull = text.count == 4 && text.map { $0 & 0xDF }.elementsEqual("NULL".utf8)
            return text.isEmpty ? nil : (text, isNull)
        }
    }

    private static func quoted(_ rest: inout ArraySlice<UInt8>) -> [UInt8]? {
        rest.removeFirst()
        var text: [UInt8] = []
        while let byte = rest.popFirst() {
            if byte == quote { return text }
            guard let plain = byte == backslash ? rest.popFirst() : byte else { return nil }
            text.append(plain)
        }
        return nil
    }

    private static func nested(_ rest: inout ArraySlice<UInt8>) -> [UInt8]? {
        let whole = rest
        var depth = 0
        while let byte = rest.first {
            if byte == quote {
                guard quoted(&rest) != nil else { return nil }
                continue
            }
            rest.removeFirst()
            if byte == backslash { _ = rest.popFirst() }
            if byte == open { depth += 1 }
            if byte == close { depth -= 1 }
            if depth == 0 { return Array(whole[..<rest.startIndex]) }
        }
        return nil
    }

    static func make(_ elements: [String?], nested: Bool) -> String {
        let parts = elements.map { element in
            guard let element else { return "NULL" }
            return nested ? element : quoteArrayElement(element)
        }
        return "{\(parts.joined(separator: ","))}"
    }
}

extension Array: PostgresDecodable where Element: PostgresDecodable {
    public static func fromPostgres(_ text: String) throws -> [Element] {
        guard let elements = ArrayLiteral.parse(text) else { throw bad(text) }
        return try elements.map { try $0.map { try Element.fromPostgres($0) } ?? Element.fromPostgresNull() }
    }
}

extension Array: PostgresEncodable where Element: PostgresEncodable {
    public var postgresText: String {
        get throws {
            let texts = try map { element in
                (element as? any NullableParameter)?.isNull == true ? nil : try element.postgresText
            }
            return ArrayLiteral.make(texts, nested: Element.self is any NestedArray.Type)
        }
    }
}

/// Marks `Array`, so that an array of arrays is recognised. The inner arrays are not quoted.
private protocol NestedArray {}
extension Array: NestedArray {}

/// Marks `Optional`, so that a nil in an array of optionals is recognised.
private protocol NullableParameter { var isNull: Bool { get } }
extension Optional: NullableParameter { var isNull: Bool { self == nil } }

extension Optional: PostgresEncodable where Wrapped: PostgresEncodable {
    public var postgresText: String {
        get throws {
            guard let self else { throw PostgresError(.badValue, "an element is NULL") }
            return try self.postgresText
        }
    }
}

/// PostgreSQL's text form of arrays (manual, section 8.15.6).
enum ArrayLiteral {
    /// The elements of the outermost dimension; nil is NULL. An inner array comes as its own literal.
    ///
    /// - Returns: nil when the text is not an array literal.
    static func parse(_ text: String) -> [String?]? {
        var rest = Substring(text)
        if rest.first == "[" {  // explicit bounds, as in [0:1]={…}
            guard let equals = rest.firstIndex(of: "=") else { return nil }
            rest = rest[rest.index(after: equals)...]
        }
        guard rest.first == "{", rest.last == "}" else { return nil }
        rest = rest.dropFirst().dropLast()
        var elements: [String?] = []
        if rest.isEmpty { return elements }
        while true {
            guard let element = nextElement(&rest) else { return nil }
            elements.append(element.isNull ? nil : element.text)
            guard let separator = rest.popFirst() else { return elements }
            if separator != "," { return nil }
        }
    }

    private static func nextElement(_ rest: inout Substring) -> (text: String, isNull: Bool)? {
        switch rest.first {
        case "\"": return quoted(&rest).map { ($0, false) }
        case "{": return nested(&rest).map { ($0, false) }
        default:
            var text = ""
            while let character = rest.first, character != "," {
                rest.removeFirst()
                if character == "\\" {
                    guard let escaped = rest.popFirst() else { return nil }
                    text.append(escaped)
                } else {
                    text.append(character)
                }
            }
            return text.isEmpty ? nil : (text, text.uppercased() == "NULL")
        }
    }

    private static func quoted(_ rest: inout Substring) -> String? {
        rest.removeFirst()
        var text = ""
        while let character = rest.popFirst() {
            if character == "\"" { return text }
            if character == "\\" {
                guard let escaped = rest.popFirst() else { return nil }
                text.append(escaped)
            } else {
                text.append(character)
            }
        }
        return nil
    }

    private static func nested(_ rest: inout Substring) -> String? {
        let start = rest.startIndex
        var depth = 0
        while let character = rest.first {
            if character == "\"" {
                guard quoted(&rest) != nil else { return nil }
                continue
            }
            rest.removeFirst()
            if character == "\\" { _ = rest.popFirst() }
            if character == "{" { depth += 1 }
            if character == "}" { depth -= 1 }
            if depth == 0 { return String(rest.base[start..<rest.startIndex]) }
        }
        return nil
    }

    static func make(_ elements: [String?], nested: Bool) -> String {
        let parts = elements.map { element in
            guard let element else { return "NULL" }
            return nested ? element : "\"\(element.replacing("\\", with: "\\\\").replacing("\"", with: "\\\""))\""
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

/// Tells an array of arrays, whose elements are not quoted.
private protocol NestedArray {}
extension Array: NestedArray {}

/// Tells a nil within an array of optionals.
private protocol NullableParameter { var isNull: Bool { get } }
extension Optional: NullableParameter { var isNull: Bool { self == nil } }

extension Optional: PostgresEncodable where Wrapped: PostgresEncodable {
    public var postgresText: String {
        get throws {
            guard let self else { throw PostgresError(.badValue, "NULL has no text") }
            return try self.postgresText
        }
    }
}

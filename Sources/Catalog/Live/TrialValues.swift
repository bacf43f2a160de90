import Foundation
import Postgres
import SQL

/// Test values for columns, in PostgreSQL's text format. Pure, except for random numbers.
struct TrialValues {
    let catalog: SchemaCatalog

    /// Returns a type without its modifier; for a domain, the base type.
    func baseType(_ type: String) -> String {
        var plain = type
        if let open = plain.firstIndex(of: "("), let close = plain[open...].firstIndex(of: ")") {
            plain = String(plain[..<open] + plain[plain.index(after: close)...])
        }
        if let domain = object(.domain, plain)?["base type"] { return baseType(domain) }
        return plain
    }

    private func object(_ kind: ObjectKind, _ name: String) -> CatalogObject? {
        let parts = QualifiedName.parts(name[...])
        guard parts.count == 2 else { return nil }
        return catalog[ObjectIdentity(kind, schema: parts[0], parts[1])]
    }

    func labels(_ type: String) -> [String] {
        LabelList.labels(object(.enumType, baseType(type))?["labels"]).map(Self.unquoted)
    }

    /// Returns the maximum length of a type; nil if it has none.
    func length(_ type: String) -> Int? {
        guard let open = type.firstIndex(of: "("), let close = type[open...].firstIndex(of: ")") else {
            return object(.domain, type).flatMap { $0["base type"] }.flatMap(length)
        }
        return Int(type[type.index(after: open)..<close])
    }

    /// Returns a value that very probably does not exist in the table yet; nil if the type is unknown or has too few
    /// values.
    func fresh(_ type: String, unlike old: String?) -> String? {
        let number = Int.random(in: 1_000_000...9_000_000)
        let base = baseType(type)
        switch base {
        case "smallint": return String(Int.random(in: 10_000...32_000))
        case "integer": return String(Int.random(in: 1_000_000_000...2_000_000_000))
        case "bigint": return String(Int.random(in: 1_000_000_000_000...9_000_000_000_000))
        case "numeric": return decimal(type, number)
        case "real", "double precision": return "\(number % 100_000).5"
        case "text", "character varying", "character", "name":
            return String(UUID().uuidString.lowercased().replacing("-", with: "").prefix(length(type) ?? 32))
        case "uuid": return UUID().uuidString.lowercased()
        case "date": return "\(2100 + number % 800)-0\(1 + number % 9)-1\(number % 10)"
        case "timestamp without time zone", "timestamp with time zone":
            return "\(2100 + number % 800)-0\(1 + number % 9)-1\(number % 10) 0\(number % 10):00:00+00"
        case "time without time zone", "time with time zone": return "0\(number % 10):\(10 + number % 49):00+00"
        case "interval": return "\(number) seconds"
        case "bytea": return "\\x" + String(number, radix: 16) + (String(number, radix: 16).count % 2 == 1 ? "0" : "")
        case "inet", "cidr": return "10.\(number % 250).\(number % 249).\(number % 248)"
        case "json", "jsonb": return "{\"reeve\": \(number)}"
        case "boolean": return old == "t" || old == "true" ? "f" : "t"
        default:
            let others = labels(type).filter { $0 != old }
            if let label = others.first { return label }
            if base.hasSuffix("[]") {
                return fresh(String(base.dropLast(2)), unlike: nil).map { (try? [$0].postgresText) ?? "{}" }
            }
            if base.hasSuffix("range") || object(.rangeType, base) != nil { return range(base, number) }
            return nil
        }
    }

    /// Returns a range between a value and a later value.
    private func range(_ type: String, _ number: Int) -> String? {
        switch object(.rangeType, type)?["subtype"] ?? type {
        case "daterange", "date", "tsrange", "tstzrange", "timestamp without time zone", "timestamp with time zone":
            let year = 2100 + number % 800
            return "[\(year)-01-01,\(year)-01-02)"
        case "text", "character varying": return "[\(number),\(number)x)"
        default: return "[\(number),\(number + 1))"
        }
    }

    /// Returns a number with at most as many digits before and after the decimal point as the type allows.
    private func decimal(_ type: String, _ number: Int) -> String {
        let (precision, scale) = precision(type) ?? (10, 2)
        let whole = String(String(number).prefix(max(0, min(precision - scale, 6))))
        let fraction = String(String(number).suffix(max(0, min(scale, 6))))
        return (whole.isEmpty ? "0" : whole) + (fraction.isEmpty ? "" : "." + fraction)
    }

    private func precision(_ type: String) -> (Int, Int)? {
        guard let open = type.firstIndex(of: "("), let close = type[open...].firstIndex(of: ")") else {
            return object(.domain, type).flatMap { $0["base type"] }.flatMap(precision)
        }
        let numbers = type[type.index(after: open)..<close].split(separator: ",").compactMap { Int32($0).map(Int.init) }
        return numbers.first.map { ($0, numbers.count > 1 ? numbers[1] : 0) }
    }

    /// Returns test values for a type: NULL, values near the limits that checks usually set, and the literals in
    /// `checks` with neighbouring values.
    func candidates(_ type: String, checks: [String]) -> [String?] {
        let literals = checks.map(Self.literals)
        let numbers = literals.flatMap(\.numbers)
        let texts = literals.flatMap(\.texts)
        let base = baseType(type)
        var result: [String?] = [nil]
        switch base {
        case "smallint", "integer", "bigint":
            let near = numbers.compactMap { Int($0) }.flatMap { [$0 &- 1, $0, $0 &+ 1] }
            result += (near + [0, 1, -1, 2, 10, 1000, -1000, 32000]).map(String.init)
        case "numeric", "real", "double precision":
            let near = numbers.compactMap { Double($0) }.flatMap { [$0 - 1, $0, $0 + 1, $0 + 0.01, $0 - 0.01] }
            result += (near + [0, 1, -1, 0.5, 10, 1000, -1000]).map { String(format: "%g", $0) }
        case "boolean": result += ["t", "f"]
        case "date", "timestamp without time zone", "timestamp with time zone":
            result += texts + ["2000-01-01", "2024-06-15", "2100-01-01", "1900-01-01"]
        case "json", "jsonb": result += texts + ["{}", "[]", "null", "1", "\"a\"", "{\"a\": 1}", "[1]"]
        case "interval": result += texts + ["0", "1 second", "-1 second", "1 day", "100 years"]
        case "uuid": result.append(UUID().uuidString.lowercased())
        default:
            result += labels(type)
            if base.hasSuffix("[]") {
                let counts = numbers.compactMap { Int($0) }.filter { (0...1000).contains($0) }.flatMap { [$0, $0 + 1] }
                let element = fresh(String(base.dropLast(2)), unlike: nil) ?? "a"
                result += ["{}", "{\(element)}"]
                result += counts.map { "{" + Array(repeating: element, count: $0).joined(separator: ",") + "}" }
                result += texts.compactMap { try? [$0].postgresText }
            } else if base.hasSuffix("range") {
                result += ["empty", "[1,2)", "[0,1000)"]
            } else if labels(type).isEmpty {
                result += texts + Self.usualTexts + lengths(numbers)
            }
        }
        return result
    }

    private static let usualTexts = [
        "", "a", "A", "reeve", "reeve-1", "#a1B2c3", "reeve@example.com", "https://example.com/a", "/a/b", "en",
        "en-US",
        "EUR", "1", "-1", "00000000", "a b", "+4912345678", "1.2.3", "image/png", "16:9", "x y z?", "\u{1}",
    ]

    /// Returns three texts for each number in `numbers` that is between 1 and 100,000: a text of as many characters as
    /// the number says, a text that is one character longer, and a text that is one character shorter.
    private func lengths(_ numbers: [String]) -> [String] {
        numbers.compactMap { Int($0) }.filter { (1...100_000).contains($0) }.flatMap { length in
            [
                String(repeating: "x", count: length), String(repeating: "x", count: length + 1),
                String(repeating: "x", count: length - 1),
            ]
        }
    }

    private static func unquoted(_ literal: String) -> String {
        unquoteLiteral(literal) ?? literal
    }

    /// Returns the number and string literals of an expression.
    static func literals(_ expression: String) -> (numbers: [String], texts: [String]) {
        guard let tokens = try? SQLLexer.tokens(of: Array(expression.utf8)) else { return ([], []) }
        var numbers: [String] = []
        var texts: [String] = []
        for token in tokens {
            let text = expression.bytes(token.range)
            if token.kind == .number { numbers.append(text) }
            if token.kind == .string, text.hasPrefix("'") {
                let value = unquoted(text)
                texts.append(value)
                // The server prints negative numbers and some casts as string literals, so a number may be in quotes.
                if Double(value) != nil { numbers.append(value) }
            }
        }
        return (numbers, texts)
    }
}

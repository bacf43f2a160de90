import Foundation

/// A type whose values can be read from PostgreSQL's text output.
public protocol PostgresDecodable: Sendable {
    /// - Throws: `PostgresError` of kind `badValue`.
    static func fromPostgres(_ text: String) throws -> Self
    /// Returns the value that represents NULL. Only optional types have such a value. All other types throw a
    /// `PostgresError`.
    static func fromPostgresNull() throws -> Self
}

/// A type whose values can be sent as parameters of a statement.
public protocol PostgresEncodable: Sendable {
    /// The value as the text input of a PostgreSQL type.
    var postgresText: String { get throws }
}

public typealias PostgresCodable = PostgresDecodable & PostgresEncodable

extension PostgresDecodable {
    public static func fromPostgresNull() throws -> Self {
        throw PostgresError(.badValue, "the value is NULL, but \(Self.self) is expected")
    }

    static func bad(_ text: String) -> PostgresError {
        PostgresError(.badValue, "'\(text.prefix(80))' is not a value of \(Self.self)")
    }
}

extension Optional: PostgresDecodable where Wrapped: PostgresDecodable {
    public static func fromPostgres(_ text: String) throws -> Wrapped? { try Wrapped.fromPostgres(text) }
    public static func fromPostgresNull() throws -> Wrapped? { nil }
}

extension String: PostgresCodable {
    public static func fromPostgres(_ text: String) throws -> String { text }
    public var postgresText: String { self }
}

extension Bool: PostgresCodable {
    public static func fromPostgres(_ text: String) throws -> Bool {
        switch text {
        case "t": true
        case "f": false
        default: throw bad(text)
        }
    }
    public var postgresText: String { self ? "t" : "f" }
}

extension PostgresDecodable where Self: LosslessStringConvertible {
    public static func fromPostgres(_ text: String) throws -> Self {
        guard let value = Self(text) else { throw bad(text) }
        return value
    }
}

extension PostgresEncodable where Self: LosslessStringConvertible {
    public var postgresText: String { description }
}

extension Int: PostgresCodable {}
extension Int16: PostgresCodable {}
extension Int32: PostgresCodable {}
extension Int64: PostgresCodable {}

extension Double: PostgresCodable {
    public static func fromPostgres(_ text: String) throws -> Double { try float(text) }
    public var postgresText: String { floatText(self) }
}

extension Float: PostgresCodable {
    public static func fromPostgres(_ text: String) throws -> Float { try float(text) }
    public var postgresText: String { floatText(self) }
}

private func float<F: BinaryFloatingPoint & LosslessStringConvertible & PostgresDecodable>(_ text: String) throws -> F {
    switch text {
    case "NaN": return .nan
    case "Infinity": return .infinity
    case "-Infinity": return -.infinity
    default:
        guard let value = F(text) else { throw F.bad(text) }
        return value
    }
}

private func floatText(_ value: some BinaryFloatingPoint & LosslessStringConvertible) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Infinity" : "Infinity" }
    return value.description
}

extension UUID: PostgresCodable {
    public static func fromPostgres(_ text: String) throws -> UUID {
        guard let value = UUID(uuidString: text) else { throw bad(text) }
        return value
    }
    public var postgresText: String { uuidString.lowercased() }
}

/// The text of a `json` or `jsonb` value.
public struct JSONText: PostgresCodable, Hashable {
    public let text: String

    public init(_ text: String) { self.text = text }

    /// Encodes a value as JSON.
    public init(encoding value: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        text = String(decoding: try encoder.encode(value), as: UTF8.self)
    }

    public static func fromPostgres(_ text: String) throws -> JSONText { JSONText(text) }
    public var postgresText: String { text }

    /// - Throws: `DecodingError`.
    public func decode<T: Decodable>(_ type: T.Type = T.self) throws -> T {
        try JSONDecoder().decode(type, from: Data(text.utf8))
    }
}

/// A `bytea`.
public struct Bytes: PostgresCodable, Hashable {
    public let bytes: [UInt8]

    public init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }

    public static func fromPostgres(_ text: String) throws -> Bytes {
        guard text.hasPrefix("\\x") else { throw bad(text) }
        let digits = Array(text.utf8.dropFirst(2))
        guard digits.count.isMultiple(of: 2) else { throw bad(text) }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digits.count / 2)
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = hexValue(digits[index]), let low = hexValue(digits[index + 1]) else { throw bad(text) }
            bytes.append(high << 4 | low)
        }
        return Bytes(bytes)
    }

    public var postgresText: String { "\\x" + hex }

    /// The bytes as lower-case hexadecimal digits, two for each byte.
    public var hex: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    private static func hexValue(_ digit: UInt8) -> UInt8? {
        switch digit {
        case 0x30...0x39: digit - 0x30
        case 0x61...0x66: digit - 0x57
        case 0x41...0x46: digit - 0x37
        default: nil
        }
    }
}

/// An `interval` with a precision of one microsecond.
extension Duration: PostgresEncodable {
    public var postgresText: String {
        let (seconds, attoseconds) = components
        return "\(seconds) seconds \(attoseconds / 1_000_000_000_000) microseconds"
    }
}

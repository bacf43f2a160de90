import Foundation
import Postgres
import Reporting
import Scheduling
import Telemetry

/// The written form of a value, and its parser.
public struct ValueSyntax<Value: Sendable>: Sendable {
    /// The text that the reference appends to a setting's summary; empty if the summary is enough.
    public let note: String
    /// Whether a value may contain a password, which is never shown.
    public let isConnectionString: Bool
    public let parse: @Sendable (String) throws(InvalidValue) -> Value

    public init(
        note: String = "", isConnectionString: Bool = false,
        parse: @escaping @Sendable (String) throws(InvalidValue) -> Value
    ) {
        self.note = note
        self.isConnectionString = isConnectionString
        self.parse = parse
    }
}

extension ValueSyntax where Value == String {
    public static var text: Self {
        Self { (text) throws(InvalidValue) in
            if text.isEmpty { throw InvalidValue("the value is empty") }
            return text
        }
    }

    /// A path; `Configuration.path` resolves it.
    public static var path: Self { text }

    /// A libpq connection string.
    public static var connectionString: Self {
        Self(isConnectionString: true) { (text) throws(InvalidValue) in
            do {
                _ = try ConnectionSettings(connectionString: text)
                return text
            } catch let error as PostgresError {
                throw InvalidValue(error.message, hint: error.hint)
            } catch {
                throw InvalidValue("\(error)")
            }
        }
    }

    /// An entry of the form `pattern: reason`.
    public static var reasoned: Self {
        Self { (text) throws(InvalidValue) in
            let entry = ReasonedPattern(text)
            guard let entry, !entry.reason.allSatisfy(\.isWhitespace) else {
                throw InvalidValue(
                    "'\(entry?.pattern ?? text)' has no reason",
                    hint:
                        "put the reason after the pattern, for example: \"table shop.import_*\": made and dropped by "
                        + "the import"
                )
            }
            return text
        }
    }
}

extension ValueSyntax where Value == Int {
    public static func integer(_ range: ClosedRange<Int>) -> Self {
        Self { (text) throws(InvalidValue) in
            guard let number = Int(text), range.contains(number) else {
                throw InvalidValue(
                    "'\(text)' is not a whole number from \(range.lowerBound) to \(range.upperBound)")
            }
            return number
        }
    }
}

extension ValueSyntax where Value == Bool {
    public static var boolean: Self {
        Self { (text) throws(InvalidValue) in
            switch text.lowercased() {
            case "true", "yes", "on", "1": return true
            case "false", "no", "off", "0": return false
            default: throw InvalidValue("'\(text)' is neither true nor false")
            }
        }
    }
}

extension ValueSyntax where Value == Duration {
    public static func duration(_ range: ClosedRange<Duration> = WrittenDuration.all) -> Self {
        Self { (text) throws(InvalidValue) in
            guard let duration = WrittenDuration.parse(text, in: range) else {
                throw WrittenDuration.invalid(text, in: range)
            }
            return duration
        }
    }

    /// A time limit; it must be greater than zero.
    public static var limit: Self { duration(WrittenDuration.limits) }
    /// A duration that the server stores as milliseconds in 32 bits.
    public static var serverDuration: Self { duration(WrittenDuration.ofServer) }
}

extension ValueSyntax where Value == CronExpression {
    public static var schedule: Self {
        Self { (text) throws(InvalidValue) in
            do throws(CronError) {
                return try CronExpression(text)
            } catch {
                throw InvalidValue(error.description, hint: error.hint)
            }
        }
    }
}

extension ValueSyntax where Value == TimeZone {
    public static var zone: Self {
        Self { (text) throws(InvalidValue) in
            guard let zone = TimeZone(identifier: text) else {
                throw InvalidValue(
                    "'\(text)' is not an IANA time zone",
                    hint: didYouMean(text, among: TimeZone.knownTimeZoneIdentifiers)
                        ?? "write for example Europe/Berlin")
            }
            return zone
        }
    }
}

extension ValueSyntax where Value: RawRepresentable & CaseIterable, Value.RawValue == String {
    /// One of the words of an enumeration.
    public static var choice: Self {
        let words = Value.allCases.map(\.rawValue)
        return Self(note: "One of \(words.map { "`\($0)`" }.joined(separator: ", ")).") { (text) throws(InvalidValue) in
            if let value = Value(rawValue: text) { return value }
            throw InvalidValue(
                "'\(text)' is not one of \(words.joined(separator: ", "))",
                hint: didYouMean(text, among: words))
        }
    }
}

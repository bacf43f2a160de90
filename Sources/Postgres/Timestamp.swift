import Foundation

/// A `timestamptz`: a time with a precision of one microsecond, or one of the two infinities.
public struct Timestamp: PostgresCodable, Hashable, Comparable {
    /// Microseconds since 1970-01-01T00:00:00Z. The largest and the smallest value represent the infinities.
    public let microseconds: Int64

    public static let infinity = Timestamp(microseconds: .max)
    public static let negativeInfinity = Timestamp(microseconds: .min)

    public init(microseconds: Int64) { self.microseconds = microseconds }

    /// The time nearest to a date. Infinite if the date is out of range.
    public init(_ date: Date) {
        let exact = (date.timeIntervalSince1970 * 1_000_000).rounded()
        microseconds = Int64(exactly: exact) ?? (exact < 0 ? .min : .max)
    }

    /// The time that is `seconds` after 1970-01-01T00:00:00Z; nil if it is out of range.
    public init?(seconds: Int) {
        let (microseconds, overflow) = Int64(seconds).multipliedReportingOverflow(by: 1_000_000)
        if overflow { return nil }
        self.microseconds = microseconds
    }

    /// The current time, by the clock of this machine.
    public static var now: Timestamp { Timestamp(Date()) }

    /// Seconds since 1970-01-01T00:00:00Z, the form for metrics.
    public var secondsSince1970: Double { Double(microseconds) / 1_000_000 }

    public var isFinite: Bool { self != .infinity && self != .negativeInfinity }

    public var date: Date {
        switch self {
        case .infinity: .distantFuture
        case .negativeInfinity: .distantPast
        default: Date(timeIntervalSince1970: secondsSince1970)
        }
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    public var seconds: Int { Int(microseconds.flooredDivision(by: 1_000_000).quotient) }

    /// Whole seconds since 1970-01-01T00:00:00Z, rounded up.
    public var secondsRoundedUp: Int {
        let (seconds, fraction) = microseconds.flooredDivision(by: 1_000_000)
        return Int(seconds) + (fraction > 0 ? 1 : 0)
    }

    /// Returns the time that is `duration` earlier, with a precision of one microsecond. An infinite time is returned
    /// unchanged. A result that is out of range becomes infinite.
    public static func - (time: Timestamp, duration: Duration) -> Timestamp {
        guard time.isFinite else { return time }
        let (seconds, attoseconds) = duration.components
        let (whole, isTooLong) = seconds.multipliedReportingOverflow(by: 1_000_000)
        let (rest, isOut) = time.microseconds.subtractingReportingOverflow(whole)
        let (result, isOutToo) = rest.subtractingReportingOverflow(attoseconds / 1_000_000_000_000)
        guard isTooLong || isOut || isOutToo else { return Timestamp(microseconds: result) }
        return duration > .zero ? .negativeInfinity : .infinity
    }

    public static func < (left: Timestamp, right: Timestamp) -> Bool { left.microseconds < right.microseconds }

    /// RFC 3339 in UTC, without trailing zeros in the fraction of a second.
    public var rfc3339: String {
        if !isFinite { return self == .infinity ? "infinity" : "-infinity" }
        let (seconds, fraction) = microseconds.flooredDivision(by: 1_000_000)
        let second = seconds.flooredDivision(by: Int64(CivilDate.seconds)).remainder
        let civil = CivilDate(self)
        var text = "\(padded(civil.year, 4))-\(padded(civil.month, 2))-\(padded(civil.dayOfMonth, 2))T"
        text += "\(padded(second / 3600, 2)):\(padded(second / 60 % 60, 2)):\(padded(second % 60, 2))"
        if fraction != 0 {
            var digits = padded(fraction, 6)
            while digits.hasSuffix("0") { digits.removeLast() }
            text += ".\(digits)"
        }
        return text + "Z"
    }

    public var postgresText: String {
        guard isFinite else { return rfc3339 }
        // PostgreSQL has no year 0: 1 BC is followed by 1 AD.
        let year = CivilDate(self).year
        guard year < 1 else { return rfc3339 }
        return padded(1 - year, 4) + rfc3339.drop { $0 == "-" }.drop { $0 != "-" } + " BC"
    }

    /// Reads PostgreSQL's ISO output, for instance `2026-03-29 01:30:00.5+02` or `0044-03-15 12:00:00+00 BC`. Also
    /// reads RFC 3339, and a date without a time.
    ///
    /// - Throws: `PostgresError` of kind `badValue`, also for a time after the year 294246, which does not fit into a
    ///   `Timestamp`.
    public static func fromPostgres(_ text: String) throws -> Timestamp {
        if text == "infinity" { return .infinity }
        if text == "-infinity" { return .negativeInfinity }
        var reader = TimestampReader(text)
        guard let timestamp = reader.read() else { throw bad(text) }
        return timestamp
    }
}

/// Parses the text of a timestamp from left to right.
private struct TimestampReader {
    private var rest: Substring.UTF8View

    init(_ text: String) { rest = text[...].utf8 }

    mutating func read() -> Timestamp? {
        guard var year = number(4...6), skip("-"), let month = number(2...2), skip("-"), let day = number(2...2),
            (1...12).contains(month), (1...31).contains(day)
        else { return nil }
        var seconds: Int64 = 0
        var fraction: Int64 = 0
        if skip(" ") || skip("T") {
            guard let hour = number(2...2), skip(":"), let minute = number(2...2), skip(":"),
                let second = number(2...2), hour < 24, minute < 60, second <= 60
            else { return nil }
            seconds = hour * 3600 + minute * 60 + second
            if skip(".") {
                let before = rest.count
                guard let digits = number(1...6) else { return nil }
                fraction = (before - rest.count..<6).reduce(digits) { value, _ in value * 10 }
            }
            guard let offset = offset() else { return nil }
            seconds -= offset
        }
        if skip(" ") {
            guard skip("B"), skip("C") else { return nil }
            year = 1 - year
        }
        guard rest.isEmpty else { return nil }
        guard let date = CivilDate(year: year, month: month, dayOfMonth: day) else { return nil }
        // A year of six digits may be out of range.
        let (microseconds, overflow) = (date.number * Int64(CivilDate.seconds) + seconds).multipliedReportingOverflow(
            by: 1_000_000)
        let (sum, sumOverflow) = microseconds.addingReportingOverflow(fraction)
        return overflow || sumOverflow ? nil : Timestamp(microseconds: sum)
    }

    /// Reads the offset from UTC, in seconds. If it is missing, the time is UTC.
    private mutating func offset() -> Int64? {
        if skip("Z") { return 0 }
        let isWest = rest.first == UInt8(ascii: "-")
        guard skip("+") || skip("-") else { return 0 }
        guard let hours = number(2...2), hours < 24 else { return nil }
        var offset = hours * 3600
        for unit in [Int64(60), 1] {
            guard skip(":") || rest.first.map({ (0x30...0x39).contains($0) }) == true else { break }
            guard let value = number(2...2), value < 60 else { return nil }
            offset += value * unit
        }
        return isWest ? -offset : offset
    }

    private mutating func skip(_ character: Unicode.Scalar) -> Bool {
        guard rest.first == UInt8(ascii: character) else { return false }
        rest = rest.dropFirst()
        return true
    }

    private mutating func number(_ length: ClosedRange<Int>) -> Int64? {
        let digits = rest.prefix { (0x30...0x39).contains($0) }.prefix(length.upperBound)
        guard length.contains(digits.count) else { return nil }
        rest = rest.dropFirst(digits.count)
        return digits.reduce(0) { $0 * 10 + Int64($1 - 0x30) }
    }
}

private func padded(_ value: Int64, _ width: Int) -> String {
    let digits = String(abs(value))
    let zeros = String(repeating: "0", count: max(0, width - digits.count))
    return (value < 0 ? "-" : "") + zeros + digits
}

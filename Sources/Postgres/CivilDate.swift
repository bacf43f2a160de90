/// A day of the proleptic Gregorian calendar, with a year 0 and without a time zone.
public struct CivilDate: Sendable, Equatable {
    /// The number of seconds in a UTC day.
    public static let seconds = 86400

    /// Days since 1970-01-01.
    public let number: Int64
    public let year: Int64
    public let month: Int64
    public let dayOfMonth: Int64

    /// Converts a day number to a date. Internally, a year begins in March, so that the leap day is the last day of a
    /// year.
    ///
    /// - Parameter number: days since 1970-01-01, with an absolute value of less than 2^60.
    public init(number: Int64) {
        self.number = number
        let (era, dayOfEra) = (number + 719_468).flooredDivision(by: 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        dayOfMonth = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    }

    /// The UTC day that contains `time`.
    public init(_ time: Timestamp) {
        self.init(number: time.microseconds.flooredDivision(by: Int64(Self.seconds) * 1_000_000).quotient)
    }

    /// - Returns: nil if the calendar has no such day, or if the year is not from -1000000 to 1000000.
    public init?(year: Int64, month: Int64, dayOfMonth: Int64) {
        guard (-1_000_000...1_000_000).contains(year), (1...12).contains(month), (1...31).contains(dayOfMonth) else {
            return nil
        }
        let shifted = month <= 2 ? year - 1 : year
        let (era, yearOfEra) = shifted.flooredDivision(by: 400)
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + dayOfMonth - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        self.init(number: era * 146_097 + dayOfEra - 719_468)
        // Rejects days that do not exist. For April 31, for instance, the other initializer has computed May 1.
        guard self.month == month, self.dayOfMonth == dayOfMonth else { return nil }
    }

    /// The day of the week, from 0 for Sunday. 1970-01-01 was a Thursday.
    public var dayOfWeek: Int64 { (number + 4).flooredDivision(by: 7).remainder }
}

extension BinaryInteger {
    /// Divides, and rounds the quotient towards negative infinity. The remainder is never negative.
    ///
    /// - Parameter divisor: greater than 0.
    public func flooredDivision(by divisor: Self) -> (quotient: Self, remainder: Self) {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }
}

/// A day of the proleptic Gregorian calendar, counted with a year 0, without a time zone.
public struct CivilDate: Sendable, Equatable {
    /// The seconds of a day in UTC.
    public static let seconds = 86400

    /// Days since 1970-01-01.
    public let number: Int64
    public let year: Int64
    public let month: Int64
    public let dayOfMonth: Int64

    /// Years run from March here, so that the leap day is a year's last.
    ///
    /// - Parameter number: days since 1970-01-01, less than 2^60 of them either way.
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

    /// The day of an instant in UTC.
    public init(_ time: Timestamp) {
        self.init(number: time.microseconds.flooredDivision(by: Int64(Self.seconds) * 1_000_000).quotient)
    }

    /// - Returns: nil when the calendar has no such day.
    public init?(year: Int64, month: Int64, dayOfMonth: Int64) {
        guard (-1_000_000...1_000_000).contains(year), (1...12).contains(month), (1...31).contains(dayOfMonth) else {
            return nil
        }
        let shifted = month <= 2 ? year - 1 : year
        let (era, yearOfEra) = shifted.flooredDivision(by: 400)
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + dayOfMonth - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        self.init(number: era * 146_097 + dayOfEra - 719_468)
        // The 31st of April is the 1st of May.
        guard self.month == month, self.dayOfMonth == dayOfMonth else { return nil }
    }

    /// 0 is Sunday; 1970-01-01 was a Thursday.
    public var dayOfWeek: Int64 { (number + 4).flooredDivision(by: 7).remainder }
}

extension BinaryInteger {
    /// The quotient rounded towards negative infinity, and a remainder that is not negative.
    ///
    /// - Parameter divisor: above 0.
    public func flooredDivision(by divisor: Self) -> (quotient: Self, remainder: Self) {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }
}

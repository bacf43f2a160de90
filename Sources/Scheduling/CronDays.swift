import Postgres

/// The field of a cron expression for the day of the month.
///
/// Besides numbers: `L` or `$` is the last day of the month, `L-3` the third day before the last, `15W` the day from
/// Monday to Friday that is nearest to the 15th in the same month, and `LW` the last day from Monday to Friday. A day
/// that a month does not have is not due in that month.
struct CronMonthDays: Sendable, Equatable {
    private struct Special: Sendable, Equatable {
        /// The day of the month; or, if `isFromEnd`, how many days before the last.
        let number: Int
        let isFromEnd: Bool
        /// Whether the nearest day from Monday to Friday is meant.
        let isWeekday: Bool

        func matches(_ day: CivilDate) -> Bool {
            let count = day.daysOfMonth
            let target = isFromEnd ? count - number : number
            guard (1...count).contains(target) else { return false }
            let today = Int(day.dayOfMonth)
            guard isWeekday else { return today == target }
            switch (Int(day.dayOfWeek) + target - today).flooredDivision(by: 7).remainder {
            case 6: return today == (target > 1 ? target - 1 : target + 2)
            case 0: return today == (target < count ? target + 1 : target - 2)
            default: return today == target
            }
        }
    }

    private let numbers: Set<Int>
    private let specials: [Special]

    init(_ text: String, key: String) throws(CronError) {
        let field = CronField.dayOfMonth
        var (numbers, specials): (Set<Int>, [Special]) = ([], [])
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            var rest = part.uppercased()[...]
            let isWeekday = rest.hasSuffix("W")
            if isWeekday { rest = rest.dropLast() }
            if let first = rest.first, "L$".contains(first) {
                rest = rest.dropFirst()
                guard rest.isEmpty || rest.hasPrefix("-") else {
                    throw field.error(part, "'\(first)' is followed by '-' or 'W'")
                }
                let before = rest.isEmpty ? 0 : try field.value(rest.dropFirst(), part)
                guard before < 31 else { throw field.error(part, "no month has so many days") }
                specials.append(Special(number: before, isFromEnd: true, isWeekday: isWeekday))
            } else if isWeekday {
                specials.append(Special(number: try field.value(rest, part), isFromEnd: false, isWeekday: true))
            } else {
                numbers.formUnion(try field.parse(part: part, key: key))
            }
        }
        self.numbers = numbers
        self.specials = specials
    }

    func matches(_ day: CivilDate) -> Bool {
        numbers.contains(Int(day.dayOfMonth)) || specials.contains { $0.matches(day) }
    }
}

/// The field of a cron expression for the day of the week. Besides numbers and names: `fri#2` is the second Friday of
/// the month, and `friL` the last one.
struct CronWeekDays: Sendable, Equatable {
    private struct Special: Sendable, Equatable {
        let weekday: Int
        /// The how manieth of the month; nil: the last.
        let ordinal: Int?

        func matches(_ day: CivilDate) -> Bool {
            guard Int(day.dayOfWeek) == weekday else { return false }
            let today = Int(day.dayOfMonth)
            guard let ordinal else { return today + 7 > day.daysOfMonth }
            return (today - 1) / 7 + 1 == ordinal
        }
    }

    /// 0 is Sunday.
    private let numbers: Set<Int>
    private let specials: [Special]

    init(_ text: String, key: String) throws(CronError) {
        let field = CronField.dayOfWeek
        var (numbers, specials): (Set<Int>, [Special]) = ([], [])
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let pieces = part.split(separator: "#", omittingEmptySubsequences: false)
            if pieces.count == 2 {
                guard let ordinal = Int(pieces[1]), (1...5).contains(ordinal) else {
                    throw field.error(part, "'#' is followed by a number from 1 to 5")
                }
                specials.append(Special(weekday: try field.value(pieces[0], part) % 7, ordinal: ordinal))
            } else if part.uppercased() == "L" {
                throw field.error(part, "the day is missing", hint: "write satL for the last Saturday of the month")
            } else if part.uppercased().hasSuffix("L") {
                specials.append(Special(weekday: try field.value(part.dropLast(), part) % 7, ordinal: nil))
            } else {
                numbers.formUnion(try field.parse(part: part, key: key).map { $0 % 7 })
            }
        }
        self.numbers = numbers
        self.specials = specials
    }

    func matches(_ day: CivilDate) -> Bool {
        numbers.contains(Int(day.dayOfWeek)) || specials.contains { $0.matches(day) }
    }
}

extension CivilDate {
    /// The number of days of the month.
    fileprivate var daysOfMonth: Int {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }
}

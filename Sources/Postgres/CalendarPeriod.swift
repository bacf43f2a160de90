/// A period of the calendar, in UTC.
public enum CalendarPeriod: Sendable, Hashable {
    case day
    /// From Monday to Sunday, as in ISO 8601.
    case week
    case month
    case year

    /// Returns the number of the period that contains `time`. Consecutive periods have consecutive numbers.
    public func number(of time: Timestamp) -> Int64 {
        let date = CivilDate(time)
        switch self {
        case .day: return date.number
        // 1970-01-01 was a Thursday.
        case .week: return (date.number + 3).flooredDivision(by: 7).quotient
        case .month: return date.year * 12 + date.month - 1
        case .year: return date.year
        }
    }
}

/// Finds the newest time of each period. It is used when old backups or audit anchors are deleted, to keep the newest
/// of each period.
///
///     var newest = NewestOfPeriods()
///     let kept = times.sorted(by: >).filter { newest.isFirst($0, of: .day) }
public struct NewestOfPeriods: Sendable {
    private struct Key: Hashable {
        let period: CalendarPeriod
        let number: Int64
    }

    private var seen: Set<Key> = []

    public init() {}

    /// Returns whether `time` is the first time of its period that is passed to this method. If the times are passed in
    /// descending order, it is the newest time of its period.
    public mutating func isFirst(_ time: Timestamp, of period: CalendarPeriod) -> Bool {
        seen.insert(Key(period: period, number: period.number(of: time))).inserted
    }
}

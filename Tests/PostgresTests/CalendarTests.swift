import Foundation
import Postgres
import Testing

@Suite struct CalendarTests {
    private func day(_ number: Int, second: Int = 0) -> Timestamp {
        Timestamp(microseconds: Int64(number * CivilDate.seconds + second) * 1_000_000)
    }

    @Test(
        arguments: [
            (.day, [.year, .month, .day]),
            (.week, [.yearForWeekOfYear, .weekOfYear]), (.month, [.year, .month]), (.year, [.year]),
        ] as [(CalendarPeriod, Set<Calendar.Component>)])
    func `periods are those of Foundation's calendar`(period: CalendarPeriod, components: Set<Calendar.Component>) {
        var calendar = Calendar(identifier: .iso8601)
        calendar.timeZone = .gmt
        // From 1935 to 2079, and the last second of each day is within it.
        var last = calendar.dateComponents(components, from: day(-12_801).date)
        var wrong: [Int] = []
        for number in -12_800..<40_000 {
            let now = calendar.dateComponents(components, from: day(number).date)
            let step = period.number(of: day(number)) - period.number(of: day(number - 1))
            let isWhole = period.number(of: day(number, second: 86399)) == period.number(of: day(number))
            if step != (now == last ? 0 : 1) || !isWhole { wrong.append(number) }
            last = now
        }
        #expect(wrong.isEmpty, "\(wrong.prefix(5))")
        _ = (period.number(of: .infinity), period.number(of: .negativeInfinity))
    }

    @Test func `of each period the first that is asked for is found`() {
        var newest = NewestOfPeriods()
        // 2026-06-15, a Monday, and the days before it.
        let days = (0..<10).map { day(20_619 - $0, second: 3600) }
        #expect(days.map { newest.isFirst($0, of: .week) } == (0..<10).map { [0, 1, 8].contains($0) })
        #expect(days.map { newest.isFirst($0, of: .month) } == (0..<10).map { $0 == 0 })
        #expect(!newest.isFirst(day(20_619), of: .week) && newest.isFirst(day(20_619), of: .day))
    }

    @Test func `a duration before an instant is an instant, or beyond them all`() {
        let time = Timestamp(microseconds: 5_000_000)
        #expect(time - .milliseconds(1500) == Timestamp(microseconds: 3_500_000))
        #expect(time - .seconds(-7) == Timestamp(microseconds: 12_000_000))
        #expect(.infinity - .seconds(1) == Timestamp.infinity && time - .seconds(Int64.max) == .negativeInfinity)
        #expect(time - .seconds(Int64.min + 1) == .infinity)
        #expect(Timestamp(microseconds: .min + 5) - .seconds(1) == .negativeInfinity)
    }

    @Test func `whole seconds are rounded down, or up`() {
        for (microseconds, down, up) in [(0, 0, 0), (1, 0, 1), (-1, -1, 0), (2_000_000, 2, 2), (-1_500_000, -2, -1)] {
            let time = Timestamp(microseconds: Int64(microseconds))
            #expect(time.seconds == down && time.secondsRoundedUp == up)
        }
        _ = (Timestamp.infinity.secondsRoundedUp, Timestamp.negativeInfinity.seconds)
    }
}

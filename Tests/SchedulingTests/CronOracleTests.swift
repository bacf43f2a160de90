import Foundation
import Postgres
import TestSupport
import Testing

@testable import Scheduling

/// Compares cron expressions with a slow description of the same rules, which goes through the time minute by minute.
@Suite struct CronOracleTests {
    /// A day, as the oracle sees it.
    private struct Day {
        let number: Int
        let month: Int
        let dayOfMonth: Int
        /// 0 is Sunday.
        let weekday: Int
        let daysOfMonth: Int

        init(_ number: Int, _ calendar: Calendar) {
            let date = Date(timeIntervalSince1970: Double(number) * 86400)
            let parts = calendar.dateComponents([.month, .day, .weekday], from: date)
            self.number = number
            month = parts.month ?? 0
            dayOfMonth = parts.day ?? 0
            weekday = (parts.weekday ?? 0) - 1
            daysOfMonth = calendar.range(of: .day, in: .month, for: date)?.count ?? 0
        }

        /// The day from Monday to Friday of the same month that is nearest to a day of the month.
        func nearestWeekday(to target: Int) -> Int? {
            guard (1...daysOfMonth).contains(target) else { return nil }
            return (1...daysOfMonth).filter { (1...5).contains((weekday + $0 - dayOfMonth + 70) % 7) }
                .min { abs($0 - target) < abs($1 - target) }
        }
    }

    private struct Field<Value: Sendable>: Sendable {
        let text: String
        let matches: @Sendable (Value) -> Bool

        init(_ text: String, _ matches: @escaping @Sendable (Value) -> Bool) {
            self.text = text
            self.matches = matches
        }
    }

    private static let minutes: [Field<Int>] = [
        Field("0") { $0 == 0 }, Field("30") { $0 == 30 }, Field("59") { $0 == 59 },
        Field("7,37") { [7, 37].contains($0) },
        Field("*/20") { $0 % 20 == 0 }, Field("*/45") { $0 % 45 == 0 }, Field("10-20/5") { [10, 15, 20].contains($0) },
    ]
    private static let hours: [Field<Int>] = [
        Field("*") { _ in true }, Field("0") { $0 == 0 }, Field("1") { $0 == 1 }, Field("2") { $0 == 2 },
        Field("23") { $0 == 23 }, Field("0-3") { $0 < 4 }, Field("*/5") { $0 % 5 == 0 }, Field("1,13") { $0 % 12 == 1 },
    ]
    private static let monthDays: [Field<Day>] = [
        Field("*") { _ in true }, Field("*") { _ in true }, Field("L") { $0.dayOfMonth == $0.daysOfMonth },
        Field("$") { $0.dayOfMonth == $0.daysOfMonth }, Field("L-3") { $0.dayOfMonth == $0.daysOfMonth - 3 },
        Field("LW") { $0.dayOfMonth == $0.nearestWeekday(to: $0.daysOfMonth) },
        Field("L-1W,1") { $0.dayOfMonth == 1 || $0.dayOfMonth == $0.nearestWeekday(to: $0.daysOfMonth - 1) },
        Field("15W") { $0.dayOfMonth == $0.nearestWeekday(to: 15) },
        Field("1W") { $0.dayOfMonth == $0.nearestWeekday(to: 1) },
        Field("31W") { $0.dayOfMonth == $0.nearestWeekday(to: 31) },
        Field("25-31") { $0.dayOfMonth >= 25 }, Field("*/2") { $0.dayOfMonth % 2 == 1 },
    ]
    private static let months: [Field<Int>] = [
        Field("*") { _ in true }, Field("*") { _ in true }, Field("*/3") { $0 % 3 == 1 },
        Field("mar-oct") { (3...10).contains($0) },
    ]
    private static let weekDays: [Field<Day>] = [
        Field("*") { _ in true }, Field("*") { _ in true }, Field("0") { $0.weekday == 0 },
        Field("7") { $0.weekday == 0 },
        Field("mon-fri") { (1...5).contains($0.weekday) },
        Field("sunL") { $0.weekday == 0 && $0.dayOfMonth > $0.daysOfMonth - 7 },
        Field("7#2") { $0.weekday == 0 && (8...14).contains($0.dayOfMonth) },
        Field("sat#5,3L") {
            $0.weekday == 6 && $0.dayOfMonth > 28 || $0.weekday == 3 && $0.dayOfMonth > $0.daysOfMonth - 7
        },
        Field("*/2") { $0.weekday % 2 == 0 },
    ]

    private struct Expression {
        let minute: Field<Int>
        let hour: Field<Int>
        let monthDay: Field<Day>
        let month: Field<Int>
        let weekDay: Field<Day>

        init(using random: inout SeededGenerator) {
            minute = minutes[Int.random(in: 0..<minutes.count, using: &random)]
            hour = hours[Int.random(in: 0..<hours.count, using: &random)]
            monthDay = monthDays[Int.random(in: 0..<monthDays.count, using: &random)]
            month = months[Int.random(in: 0..<months.count, using: &random)]
            weekDay = weekDays[Int.random(in: 0..<weekDays.count, using: &random)]
        }

        var text: String { [minute.text, hour.text, monthDay.text, month.text, weekDay.text].joined(separator: " ") }
        var isFixed: Bool { !minute.text.hasPrefix("*") && !hour.text.hasPrefix("*") }

        func matches(_ day: Day) -> Bool {
            guard month.matches(day.month) else { return false }
            let (ofMonth, ofWeek) = (monthDay.matches(day), weekDay.matches(day))
            let isOneFree = monthDay.text.hasPrefix("*") || weekDay.text.hasPrefix("*")
            return isOneFree ? ofMonth && ofWeek : ofMonth || ofWeek
        }
    }

    /// A time in which the clocks do not change.
    private struct Segment {
        let begin: Int
        let end: Int
        let offset: Int
        var shown: Range<Int> { begin + offset..<end + offset }
    }

    private static let hour = 3600

    /// Returns the instants in the segments at which the expression is due.
    private func due(_ expression: Expression, _ segments: [Segment], _ days: [Int: Day]) -> Set<Int> {
        let matching = Set(days.values.filter(expression.matches).map(\.number))
        func isDue(_ local: Int) -> Bool {
            let second = local - (local / 86400) * 86400
            return matching.contains(local / 86400) && expression.minute.matches(second % 3600 / 60)
                && expression.hour.matches(second / 3600)
        }
        var result: Set<Int> = []
        for (index, segment) in segments.enumerated() {
            let first = (segment.shown.lowerBound + 59) / 60 * 60
            let earlier = segments[..<index]
            for local in stride(from: first, to: segment.shown.upperBound, by: 60) where isDue(local) {
                if expression.isFixed, earlier.contains(where: { $0.shown.contains(local) }) { continue }
                result.insert(local - segment.offset)
            }
            guard expression.isFixed, let before = earlier.last else { continue }
            let skipped = (before.shown.upperBound + 59) / 60 * 60
            for local in stride(from: skipped, to: segment.shown.lowerBound, by: 60) where isDue(local) {
                if !segments.contains(where: { $0.shown.contains(local) }) { result.insert(segment.begin) }
            }
        }
        return result
    }

    /// The changes of the clocks from 1970 to 2037.
    private func transitions(of zone: TimeZone) -> [Int] {
        var (all, last): ([Int], _) = ([], Date(timeIntervalSince1970: 0))
        while let next = zone.nextDaylightSavingTimeTransition(after: last), next.timeIntervalSince1970 < 2_145_916_800
        {
            all.append(Int(next.timeIntervalSince1970))
            last = next
        }
        return all
    }

    @Test func `around each change of the clocks in each zone, expressions are due when the oracle says`() async throws
    {
        // Many identifiers are names of the same zone.
        let zones = Dictionary(
            TimeZone.knownTimeZoneIdentifiers.compactMap(TimeZone.init(identifier:)).map {
                (["\(transitions(of: $0))", "\($0.secondsFromGMT(for: Date(timeIntervalSince1970: 0)))"], $0)
            }
        ) { first, _ in first }.values.sorted { $0.identifier < $1.identifier }
        #expect(zones.count > 200)
        let compared = try await withThrowingTaskGroup(of: Int.self) { group in
            for (index, zone) in zones.enumerated() {
                group.addTask { try Self().compare(zone, seed: UInt64(index)) }
            }
            return try await group.reduce(0, +)
        }
        #expect(compared > 15_000)
    }

    /// - Returns: the number of comparisons.
    private func compare(_ zone: TimeZone, seed: UInt64) throws -> Int {
        var random = SeededGenerator(seed)
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .gmt
        let changes = transitions(of: zone)
        var days: [Int: Day] = [:]
        for change in changes + [1_000_000_000] {
            let (begin, end) = (change - 50 * Self.hour, change + 50 * Self.hour)
            let inside = changes.filter { $0 > begin && $0 < end }
            let segments = zip([begin] + inside, inside + [end]).map {
                Segment(begin: $0, end: $1, offset: zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double($0))))
            }
            days = days.filter { $0.key >= begin / 86400 - 2 }
            for number in (begin / 86400 - 1)...(end / 86400 + 1) where days[number] == nil {
                days[number] = Day(number, calendar)
            }
            let expression = Expression(using: &random)
            let cron = try CronExpression(expression.text)
            let from = change - 2 * Self.hour
            let expected = due(expression, segments, days).filter { $0 >= from && $0 < change + 24 * Self.hour }
                .sorted().prefix(20)
            let found = Schedule.cron(cron, zone).times(from: from, count: max(1, expected.count))
            if expected.isEmpty {
                #expect(
                    found.allSatisfy { $0 >= change + 24 * Self.hour },
                    "\(expression.text) \(zone.identifier) \(change)")
            } else {
                #expect(found == Array(expected), "\(expression.text) \(zone.identifier) \(change)")
            }
        }
        return changes.count + 1
    }

    @Test func `each day of 28 years is due when the oracle says`() throws {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .gmt
        let days = (10957..<10957 + 28 * 366).map { Day($0, calendar) }
        var random = SeededGenerator(1)
        for _ in 0..<60 {
            let expression = Expression(using: &random)
            let cron = try CronExpression(expression.text)
            let wrong = days.filter { cron.matches(CivilDate(number: Int64($0.number))) != expression.matches($0) }
            #expect(wrong.isEmpty, "\(expression.text): \(wrong.prefix(3))")
        }
    }
}

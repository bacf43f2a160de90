import Foundation
import Testing

@testable import Scheduling

@Suite struct CronTests {
    private func times(_ expression: String, _ zone: String, from: String, _ count: Int) throws -> [String] {
        let schedule = Schedule.cron(try CronExpression(expression), try #require(TimeZone(identifier: zone)))
        let start = try Date(from, strategy: .iso8601)
        return schedule.times(from: Int(start.timeIntervalSince1970), count: count).map {
            Date(timeIntervalSince1970: Double($0)).formatted(.iso8601)
        }
    }

    @Test(
        arguments: [
            // A fixed time within the hour that is shown twice comes once, at its first showing.
            (
                "30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z",
                ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]
            ),
            ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
            // A fixed time within the hour that is left out comes at the jump.
            (
                "30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z",
                ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]
            ),
            (
                "0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z",
                ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]
            ),
            // One with a wildcard follows the clocks: twice where they show it twice, never where they leave it out.
            (
                "30 * * * *", "America/New_York", "2026-11-01T04:45:00Z",
                ["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-01T07:30:00Z"]
            ),
            (
                "*/30 2 * * *", "America/New_York", "2026-03-08T00:00:00Z",
                ["2026-03-09T06:00:00Z", "2026-03-09T06:30:00Z"]
            ),
            (
                "*/15 1 * * *", "America/New_York", "2026-11-01T05:40:00Z",
                [
                    "2026-11-01T05:45:00Z", "2026-11-01T06:00:00Z", "2026-11-01T06:15:00Z", "2026-11-01T06:30:00Z",
                    "2026-11-01T06:45:00Z", "2026-11-02T06:00:00Z",
                ]
            ),
            // Half an hour's change, and one at midnight.
            (
                "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z",
                ["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"]
            ),
            (
                "0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z",
                ["2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"]
            ),
            // Days
            ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
            (
                "0 12 13 * fri", "UTC", "2026-11-01T00:00:00Z",
                [
                    "2026-11-06T12:00:00Z", "2026-11-13T12:00:00Z", "2026-11-20T12:00:00Z", "2026-11-27T12:00:00Z",
                    "2026-12-04T12:00:00Z", "2026-12-11T12:00:00Z", "2026-12-13T12:00:00Z",
                ]
            ),
            ("0 12 */2 * mon", "UTC", "2026-11-01T00:00:00Z", ["2026-11-09T12:00:00Z", "2026-11-23T12:00:00Z"]),
            ("0 0 * jan,Jul sun-tue", "UTC", "2026-07-30T00:00:00Z", ["2027-01-03T00:00:00Z"]),
            ("0 0 * * 7", "UTC", "2026-11-20T00:00:00Z", ["2026-11-22T00:00:00Z"]),
            ("@weekly", "UTC", "2026-11-20T00:00:00Z", ["2026-11-22T00:00:00Z"]),
            ("@hourly", "Asia/Kolkata", "2026-11-20T00:00:00Z", ["2026-11-20T00:30:00Z"]),
            (
                "5-59/20 22 * * *", "UTC", "2026-11-20T00:00:00Z",
                ["2026-11-20T22:05:00Z", "2026-11-20T22:25:00Z", "2026-11-20T22:45:00Z"]
            ),
            ("30 1 * * *", "UTC", "2026-03-29T01:30:00Z", ["2026-03-29T01:30:00Z"]),
        ] as [(String, String, String, [String])])
    func `an expression comes when the clocks say`(expression: String, zone: String, from: String, expected: [String])
        throws
    {
        #expect(try times(expression, zone, from: from, expected.count) == expected)
    }

    @Test(arguments: [
        ("* * * *", "4 fields"), ("60 * * * *", "60 is not between 0 and 59"), ("* 24 * * *", "hour"),
        ("* * 0 * *", "day of month"),
        ("* * * 13 *", "month"), ("* * * * 8", "day of week"), ("*/0 * * * *", "step"), ("5/2 * * * *", "range"),
        ("9-5 * * * *", "ends before it begins"),
        ("a * * * *", "'a' is not a number"), ("* * * foo *", "or a name"), ("1,,2 * * * *", "''"),
        ("@often", "short form"),
        ("0 0 31 2 *", "never runs"), ("0 0 31 4,6,9,11 *", "never runs"), ("٣ * * * *", "not a number"),
        ("-5 * * * *", "minute"), ("* * L-31 * *", "no month has so many days"), ("* * LX * *", "'L' is followed by"),
        ("* * 32W * *", "32 is not between 1 and 31"), ("* * W * *", "'' is not a number"),
        ("* * * * L", "the day is missing"), ("* * * * 1#6", "a number from 1 to 5"),
        ("* * * * #1", "'' is not a number"),
        ("H(5 * * * *", "parentheses"), ("H(60-70) * * * *", "60 is not between"), ("Hx * * * *", "parentheses"),
        ("0 0 L-30 2 *", "never runs"), ("0 0 31W 4 *", "never runs"), ("* * * * 1-5L", "'1-5' is not a number"),
    ])
    func `what is wrong is named with its field`(expression: String, message: String) {
        let error = #expect(throws: CronError.self) { try CronExpression(expression) }
        #expect(error?.description.contains(message) == true, "\(String(describing: error))")
    }

    @Test func `the times ascend, never repeat, and each is one that its neighbours lead to`() throws {
        let zones = [
            "UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca",
        ]
        for _ in 0..<60 {
            let fields = [
                ["*", "*/7", "0", "30", "15,45"].randomElement() ?? "*",
                ["*", "*/5", "2", "1-3", "0"].randomElement() ?? "*",
                ["*", "1", "28-31"].randomElement() ?? "*", ["*", "3", "10,11"].randomElement() ?? "*",
                ["*", "0", "1-5"].randomElement() ?? "*",
            ]
            let zone = try #require(TimeZone(identifier: zones.randomElement() ?? "UTC"))
            let schedule = Schedule.cron(try CronExpression(fields.joined(separator: " ")), zone)
            let start = Int.random(in: 1_600_000_000...1_900_000_000)
            let times = schedule.times(from: start, count: 20)
            #expect(zip(times, times.dropFirst()).allSatisfy { $0 < $1 })
            for (before, time) in zip(times, times.dropFirst()) {
                #expect(schedule.next(after: before) == time)
                #expect(schedule.next(after: time - 1) == time)
            }
        }
    }

    @Test func `H is a value of its range that depends on the task only`() throws {
        let keys = (0..<500).map { "main task-\($0)" }
        func minutes(_ field: String) throws -> [Set<Int>] {
            try keys.map { try CronExpression("\(field) * * * *", key: $0).minutes }
        }
        let all = try minutes("H")
        #expect(all.allSatisfy { $0.count == 1 } && Set(all).count == 60)
        // No minute has many more tasks than its share.
        #expect(Dictionary(grouping: all) { $0 }.values.allSatisfy { $0.count < 25 })
        #expect(try Set(minutes("H(10-12)")) == [[10], [11], [12]])
        let steps = try minutes("H/15")
        #expect(steps.allSatisfy { Set($0.map { $0 % 15 }).count == 1 && $0.count == 4 } && Set(steps).count == 15)
        #expect(try Set(minutes("H(0-29)/10")).count == 10)
        // The values never change, or tasks would run twice after an update.
        #expect(
            try CronExpression("H H H * *", key: "main backup").spread(over: "main backup")
                == CronExpression("H H H * *", key: "main backup"))
        #expect(try CronExpression("H H * * *", key: "main backup").minutesOfDay == [1137])
        // Whatever the month is, it has the day.
        for key in keys {
            #expect(try CronExpression("0 0 31 H *", key: key).months.isDisjoint(with: [2, 4, 6, 9, 11]))
        }
        let isFixed = try ["H H * * *", "H/5 2 * * *", "5 H/6 * * *", "H * * * *"].map {
            try CronExpression($0).isFixedTime
        }
        #expect(isFixed == [true, false, false, false])
    }

    @Test func `an interval counts from the epoch`() {
        #expect(Schedule.every(seconds: 90).times(from: 100, count: 3) == [180, 270, 360])
        #expect(Schedule.every(seconds: 90).times(from: 180, count: 1) == [180])
        #expect(Schedule.every(seconds: 90).times(from: -1000, count: 2) == [-990, -900])
    }

    @Test func `no instant, interval or step is too large to be counted with`() throws {
        let cron = Schedule.cron(try CronExpression("*/9223372036854775807 0 * * *"), .gmt)
        #expect(cron.next(after: 0) == 86400)
        for seconds in [Int.min, -1, 0, 1, 90, 17_280_000_000_000, Int.max] {
            for instant in [Int.min, -62_135_596_801, -62_135_596_800, 0, 253_402_300_799, 253_402_300_800, Int.max] {
                let next = Schedule.every(seconds: seconds).next(after: instant)
                #expect(next.map { $0 > instant } ?? true)
                let times = cron.times(from: instant, count: 2)
                #expect(Schedule.instants.contains(instant) || times.isEmpty)
            }
        }
        let task = TaskDefinition(
            name: "t", summary: "t", schedule: .every(seconds: 1), backoff: .seconds(Int64.max / 2)
        ) { _ in "" }
        for attempt in [Int.min, 0, 1, 100, Int.max] { #expect(task.pause(after: attempt) <= .seconds(1.25 * 86400)) }
    }

    @Test(arguments: [
        ("0 0 * * MONN", "did you mean 'mon'"), ("0 0 * jna *", "did you mean 'jan'"),
        ("@dayly", "did you mean '@daily'"),
    ])
    func `a misspelt name is told with the name that was likely meant`(expression: String, hint: String) {
        let error = #expect(throws: CronError.self) { try CronExpression(expression) }
        #expect(error?.hint == hint)
    }
}

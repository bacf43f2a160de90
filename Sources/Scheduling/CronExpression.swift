import Postgres
import Reporting

/// A cron expression of five fields: minute, hour, day of month, month, day of week.
///
/// The syntax is that of Debian's cron (crontab(5)): numbers, names of months and days, ranges, steps, lists, and the
/// short forms `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight` and `@hourly`. If both day fields
/// are restricted, a day needs to match only one of them. In addition, the day fields can count from the end of the
/// month and from the beginning of the week (`CronMonthDays`, `CronWeekDays`), and `H` is a value that depends on the
/// task (`CronSpread`).
public struct CronExpression: Sendable, Equatable, CustomStringConvertible {
    public let description: String
    let minutes: Set<Int>
    let hours: Set<Int>
    private let daysOfMonth: CronMonthDays
    let months: Set<Int>
    private let daysOfWeek: CronWeekDays
    private let anyDayOfMonth: Bool
    private let anyDayOfWeek: Bool
    /// Whether neither minute nor hour begins with a `*` or is an `H` with a step. The expression then denotes fixed times of the day and not an
    /// interval. Fixed times and intervals are treated differently when the clocks change (see `Schedule`).
    public let isFixedTime: Bool

    /// - Parameters:
    ///   - text: the five fields, or a short form.
    ///   - key: what `H` depends on, such as the name of the task.
    /// - Throws: `CronError` that names the field.
    public init(_ text: String, key: String = "") throws(CronError) {
        var fields = text.split(whereSeparator: \.isWhitespace).map(String.init)
        if fields.count == 1, fields[0].hasPrefix("@") {
            guard let expansion = Self.shortForms[fields[0].lowercased()] else {
                throw CronError(
                    "'\(text)' is not a short form",
                    hint: didYouMean(text, among: Self.shortForms.keys.sorted())
                        ?? "use one of \(Self.shortForms.keys.sorted().joined(separator: ", "))")
            }
            fields = expansion.split(separator: " ").map(String.init)
        }
        guard fields.count == 5 else {
            throw CronError(
                "'\(text)' has \(counted(fields.count, "field")), not five",
                hint: "write minute hour day-of-month month day-of-week, as in '30 3 * * *'")
        }
        var candidate = try Self(text, fields, key: key)
        var tries = 0
        while !candidate.canEverFire {
            // `H` may stand for a month that does not have the day.
            tries += 1
            guard fields[3].contains("H"), tries < 100 else {
                throw CronError("'\(text)' never runs: none of its months has such a day")
            }
            candidate = try Self(text, fields, key: "\(key) \(tries)")
        }
        self = candidate
    }

    private init(_ text: String, _ fields: [String], key: String) throws(CronError) {
        description = text
        minutes = try CronField.minute.parse(fields[0], key: key)
        hours = try CronField.hour.parse(fields[1], key: key)
        daysOfMonth = try CronMonthDays(fields[2], key: key)
        months = try CronField.month.parse(fields[3], key: key)
        daysOfWeek = try CronWeekDays(fields[4], key: key)
        anyDayOfMonth = fields[2].hasPrefix("*")
        anyDayOfWeek = fields[4].hasPrefix("*")
        isFixedTime = !fields[0...1].contains { $0.hasPrefix("*") || $0.hasPrefix("H") && $0.contains("/") }
    }

    private static let shortForms = [
        "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
        "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
    ]

    /// Returns the expression with the values that `H` has for a task.
    public func spread(over key: String) -> CronExpression {
        // The text is valid whatever the key is.
        (try? CronExpression(description, key: key)) ?? self
    }

    /// Whether the expression is due on a day.
    func matches(_ day: CivilDate) -> Bool {
        guard months.contains(Int(day.month)) else { return false }
        let (ofMonth, ofWeek) = (daysOfMonth.matches(day), daysOfWeek.matches(day))
        return anyDayOfMonth || anyDayOfWeek ? ofMonth && ofWeek : ofMonth || ofWeek
    }

    /// The minutes of a due day at which the expression is due, in ascending order.
    var minutesOfDay: [Int] {
        hours.sorted().flatMap { hour in minutes.sorted().map { hour * 60 + $0 } }
    }

    /// Whether some day matches from 2001 to 2028. These years contain each combination of leap year and weekday.
    private var canEverFire: Bool {
        (Self.firstDay..<Self.firstDay + 28 * 366).contains { matches(CivilDate(number: $0)) }
    }

    /// 2001-01-01.
    private static let firstDay: Int64 = 11_323
}

/// An error in a cron expression.
public struct CronError: Error, CustomStringConvertible {
    public let description: String
    public let hint: String?

    init(_ description: String, hint: String? = nil) {
        self.description = description
        self.hint = hint
    }
}

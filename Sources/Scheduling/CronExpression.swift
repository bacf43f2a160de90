import Postgres
import Reporting

/// A cron expression of five fields: minute, hour, day of month, month, day of week.
///
/// The syntax is that of Debian's cron (crontab(5)): numbers, names of months and days, ranges, steps, lists, and the
/// short forms `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight` and `@hourly`. If both day fields
/// are restricted, a day needs to match only one of them.
public struct CronExpression: Sendable, Equatable, CustomStringConvertible {
    public let description: String
    let minutes: Set<Int>
    let hours: Set<Int>
    let daysOfMonth: Set<Int>
    let months: Set<Int>
    /// 0 is Sunday.
    let daysOfWeek: Set<Int>
    private let anyDayOfMonth: Bool
    private let anyDayOfWeek: Bool
    /// Whether neither minute nor hour begins with a `*`. The expression then denotes fixed times of the day and not an
    /// interval. Fixed times and intervals are treated differently when the clocks change (see `Schedule`).
    public let isFixedTime: Bool

    /// - Throws: `CronError` that names the field.
    public init(_ text: String) throws(CronError) {
        description = text
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
        minutes = try CronField.minute.parse(fields[0])
        hours = try CronField.hour.parse(fields[1])
        daysOfMonth = try CronField.dayOfMonth.parse(fields[2])
        months = try CronField.month.parse(fields[3])
        daysOfWeek = Set(try CronField.dayOfWeek.parse(fields[4]).map { $0 % 7 })
        anyDayOfMonth = fields[2].hasPrefix("*")
        anyDayOfWeek = fields[4].hasPrefix("*")
        isFixedTime = !fields[0].hasPrefix("*") && !fields[1].hasPrefix("*")
        guard canEverFire else { throw CronError("'\(text)' never runs: none of its months has such a day") }
    }

    private static let shortForms = [
        "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
        "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
    ]

    /// Whether the expression is due on a day.
    func matches(_ day: CivilDate) -> Bool {
        guard months.contains(Int(day.month)) else { return false }
        let ofMonth = daysOfMonth.contains(Int(day.dayOfMonth))
        let ofWeek = daysOfWeek.contains(Int(day.dayOfWeek))
        return anyDayOfMonth || anyDayOfWeek ? ofMonth && ofWeek : ofMonth || ofWeek
    }

    /// The minutes of a due day at which the expression is due, in ascending order.
    var minutesOfDay: [Int] {
        hours.sorted().flatMap { hour in minutes.sorted().map { hour * 60 + $0 } }
    }

    private var canEverFire: Bool {
        let longest = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        let hasDay = months.contains { month in daysOfMonth.contains { $0 <= longest[month - 1] } }
        return hasDay || (!anyDayOfMonth && !anyDayOfWeek)
    }
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

/// One of the five fields of a cron expression: the range of its values, and the names that may be written instead of
/// numbers.
private struct CronField {
    let title: String
    let range: ClosedRange<Int>
    var names: [String] = []

    static let minute = CronField(title: "minute", range: 0...59)
    static let hour = CronField(title: "hour", range: 0...23)
    static let dayOfMonth = CronField(title: "day of month", range: 1...31)
    static let month = CronField(
        title: "month", range: 1...12,
        names: ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
    /// Sunday is both 0 and 7.
    static let dayOfWeek = CronField(
        title: "day of week", range: 0...7, names: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"])

    func parse(_ text: String) throws(CronError) -> Set<Int> {
        var values: Set<Int> = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            values.formUnion(try parse(part: part))
        }
        return values
    }

    private func parse(part: Substring) throws(CronError) -> [Int] {
        let pieces = part.split(separator: "/", omittingEmptySubsequences: false)
        guard (1...2).contains(pieces.count) else { throw error(part, "it has more than one '/'") }
        var step = 1
        if pieces.count == 2 {
            guard let number = Int(pieces[1]), number > 0 else { throw error(part, "the step is not a number above 0") }
            // 100 exceeds the longest range, so a larger step has the same result. The limit prevents an overflow.
            step = min(number, 100)
        }
        let bounds = pieces[0].split(separator: "-", omittingEmptySubsequences: false)
        if pieces[0] == "*" { return Array(stride(from: range.lowerBound, through: range.upperBound, by: step)) }
        guard (1...2).contains(bounds.count) else { throw error(part, "it is not a range") }
        let first = try value(bounds[0], part)
        if bounds.count == 1 {
            guard pieces.count == 1 else { throw error(part, "a step requires a range or '*'") }
            return [first]
        }
        let last = try value(bounds[1], part)
        guard first <= last else { throw error(part, "the range ends before it begins") }
        return Array(stride(from: first, through: last, by: step))
    }

    private func value(_ text: Substring, _ part: Substring) throws(CronError) -> Int {
        if let index = names.firstIndex(of: text.lowercased()), !text.isEmpty { return index }
        guard !text.isEmpty, text.allSatisfy({ $0.isASCII && $0.isNumber }), let number = Int(text) else {
            throw error(
                part, "'\(text)' is not a number\(names.isEmpty ? "" : " or a name")",
                hint: didYouMean(String(text), among: names.filter { !$0.isEmpty }))
        }
        guard range.contains(number) else {
            throw error(part, "\(number) is not between \(range.lowerBound) and \(range.upperBound)")
        }
        return number
    }

    private func error(_ part: Substring, _ problem: String, hint: String? = nil) -> CronError {
        CronError("\(title) '\(part)': \(problem)", hint: hint)
    }
}

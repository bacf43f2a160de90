import Reporting

/// One of the five fields of a cron expression: the range of its values, and the names that may be written instead of
/// numbers.
struct CronField {
    let title: String
    let range: ClosedRange<Int>
    /// The values among which `H` chooses.
    let spreadRange: ClosedRange<Int>
    var names: [String] = []

    init(_ title: String, _ range: ClosedRange<Int>, spreadRange: ClosedRange<Int>? = nil, names: [String] = []) {
        self.title = title
        self.range = range
        self.spreadRange = spreadRange ?? range
        self.names = names
    }

    static let minute = CronField("minute", 0...59)
    static let hour = CronField("hour", 0...23)
    /// `H` chooses a day that every month has.
    static let dayOfMonth = CronField("day of month", 1...31, spreadRange: 1...28)
    static let month = CronField(
        "month", 1...12,
        names: ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
    /// Sunday is both 0 and 7.
    static let dayOfWeek = CronField(
        "day of week", 0...7, spreadRange: 0...6, names: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"])

    /// - Parameter key: decides what `H` is.
    func parse(_ text: String, key: String) throws(CronError) -> Set<Int> {
        var values: Set<Int> = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            values.formUnion(try parse(part: part, key: key))
        }
        return values
    }

    func parse(part: Substring, key: String) throws(CronError) -> [Int] {
        let pieces = part.split(separator: "/", omittingEmptySubsequences: false)
        guard (1...2).contains(pieces.count) else { throw error(part, "it has more than one '/'") }
        var step: Int?
        if pieces.count == 2 {
            guard let number = Int(pieces[1]), number > 0 else { throw error(part, "the step is not a number above 0") }
            // 100 exceeds the longest range, so a larger step has the same result. The limit prevents an overflow.
            step = min(number, 100)
        }
        if pieces[0] == "*" {
            return Array(stride(from: range.lowerBound, through: range.upperBound, by: step ?? 1))
        }
        if pieces[0].hasPrefix("H") { return try spread(pieces[0], step, part, key) }
        guard let (first, last) = try bounds(pieces[0], part) else { throw error(part, "it is not a range") }
        guard let last else {
            guard step == nil else { throw error(part, "a step requires a range or '*'") }
            return [first]
        }
        return Array(stride(from: first, through: last, by: step ?? 1))
    }

    /// Returns the values of `H`, `H(2-5)`, `H/15` or `H(0-29)/10`: one value of the range, or one in each step.
    private func spread(_ text: Substring, _ step: Int?, _ part: Substring, _ key: String) throws(CronError) -> [Int] {
        var chosen = spreadRange
        if text != "H" {
            guard text.hasPrefix("H("), text.hasSuffix(")"),
                case (let first, let last?)? = try bounds(text.dropFirst(2).dropLast(), part)
            else { throw error(part, "'H' is followed by a range in parentheses, or by a step") }
            chosen = first...last
        }
        let first =
            chosen.lowerBound + CronSpread.offset(of: key, in: title, below: min(step ?? chosen.count, chosen.count))
        guard let step else { return [first] }
        return Array(stride(from: first, through: chosen.upperBound, by: step))
    }

    /// Returns the ends of a range; `last` is nil for a single value. Returns nil if there are more than two.
    private func bounds(_ text: Substring, _ part: Substring) throws(CronError) -> (first: Int, last: Int?)? {
        let bounds = text.split(separator: "-", omittingEmptySubsequences: false)
        guard (1...2).contains(bounds.count) else { return nil }
        let first = try value(bounds[0], part)
        guard bounds.count == 2 else { return (first, nil) }
        let last = try value(bounds[1], part)
        guard first <= last else { throw error(part, "the range ends before it begins") }
        return (first, last)
    }

    func value(_ text: Substring, _ part: Substring) throws(CronError) -> Int {
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

    func error(_ part: Substring, _ problem: String, hint: String? = nil) -> CronError {
        CronError("\(title) '\(part)': \(problem)", hint: hint)
    }
}

/// What `H` stands for in a cron expression: a value that differs between tasks, but never changes for one task. So
/// tasks with the same schedule do not all begin in the same minute. The syntax is that of Jenkins.
enum CronSpread {
    /// Returns a number from 0 to `count - 1` by the FNV-1a hash of the key and the field.
    static func offset(of key: String, in field: String, below count: Int) -> Int {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in "\(field)\u{0}\(key)".utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        // The low bits of FNV-1a depend on few bits of the text.
        return Int((hash ^ (hash >> 32)) % UInt64(max(1, count)))
    }
}

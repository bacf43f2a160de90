import AdminHTTP
import Foundation
import Postgres
import Scheduling

extension ConfigurationKey.Kind {
    /// What is wrong with a value, if anything is.
    func problem(with value: String) -> (message: String, hint: String?)? {
        switch self {
        case .reasons: return ReasonedList.problem(with: value)
        case .text, .path, .list: return value.isEmpty ? ("it is empty", nil) : nil
        case .url:
            do {
                _ = try ConnectionSettings(connectionString: value)
                return nil
            } catch let error as PostgresError {
                return (error.message, error.hint)
            } catch {
                return ("\(error)", nil)
            }
        case .integer(let range):
            guard let number = Int(value), range.contains(number) else {
                return ("'\(value)' is not a whole number from \(range.lowerBound) to \(range.upperBound)", nil)
            }
            return nil
        case .boolean: return Self.boolean(from: value) == nil ? ("'\(value)' is neither true nor false", nil) : nil
        case .duration(let range): return WrittenDuration.problem(with: value, in: range)
        case .choice(let words):
            guard !words.contains(value) else { return nil }
            let hint = closest(to: value, among: words).map { "did you mean '\($0)'" }
            return ("'\(value)' is not one of \(words.joined(separator: ", "))", hint)
        case .schedule:
            do {
                _ = try CronExpression(value)
                return nil
            } catch {
                return (error.description, error.hint)
            }
        case .listen:
            if value == "off" || ListenAddress(value) != nil { return nil }
            return ("'\(value)' is no address", "write 127.0.0.1:7433, [::1]:7433, unix:/path or off")
        case .zone:
            return TimeZone(identifier: value) == nil
                ? ("'\(value)' is not an IANA time zone", "write for instance Europe/Berlin") : nil
        }
    }

    static func boolean(from text: String) -> Bool? {
        switch text.lowercased() {
        case "true", "yes", "on", "1": true
        case "false", "no", "off", "0": false
        default: nil
        }
    }
}

/// Patterns with reasons, each as one text: `pattern: reason`.
enum ReasonedList {
    static let separator = ": "

    static func problem(with value: String) -> (message: String, hint: String?)? {
        let halves = value.split(separator: separator, maxSplits: 1)
        guard halves.count == 2, !halves[1].allSatisfy(\.isWhitespace) else {
            return ("'\(value)' has no reason", "write \"table shop.import_*\": made and dropped by the import")
        }
        return nil
    }
}

/// The durations that people may write.
enum WrittenDuration {
    /// Ten years: what every timer, clock and server takes.
    static let longest: Duration = .seconds(3650 * 86400)
    static let all: ClosedRange<Duration> = .zero...longest
    static let limits: ClosedRange<Duration> = .milliseconds(1)...longest
    /// Where a server counts milliseconds in 32 bits.
    static let ofServer: ClosedRange<Duration> = .zero...(.seconds(24 * 86400))

    /// Reads `500ms`, `30s`, `5min`, `2h`, `1d`; a bare number is seconds.
    ///
    /// - Returns: nil for what is no duration, or longer than ten years.
    static func parse(_ text: String) -> Duration? {
        guard let match = text.wholeMatch(of: /([0-9]{1,12})\s*(ms|s|sec|m|min|h|d)?/), let number = Int64(match.1)
        else { return nil }
        let duration: Duration
        switch match.2 {
        case "ms": duration = .milliseconds(number)
        case "m", "min": duration = .seconds(number * 60)
        case "h": duration = .seconds(number * 3600)
        case "d": duration = .seconds(number * 86400)
        default: duration = .seconds(number)
        }
        return duration <= longest ? duration : nil
    }

    /// What is wrong with a text, if anything is.
    static func problem(with text: String, in range: ClosedRange<Duration> = all) -> (message: String, hint: String?)? {
        if let duration = parse(text), range.contains(duration) { return nil }
        return (
            "'\(text)' is not a duration from \(written(range.lowerBound)) to \(written(range.upperBound))",
            "write 500ms, 30s, 5min, 2h or 1d"
        )
    }

    private static func written(_ duration: Duration) -> String {
        let seconds = duration.components.seconds
        if seconds == 0, duration > .zero { return "\(duration.milliseconds)ms" }
        return seconds > 0 && seconds.isMultiple(of: 86400) ? "\(seconds / 86400)d" : "\(seconds)s"
    }
}

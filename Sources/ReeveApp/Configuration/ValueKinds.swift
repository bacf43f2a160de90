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
        case .duration:
            return parseDuration(value) == nil
                ? ("'\(value)' is not a duration", "write 500ms, 30s, 5min, 2h or 1d") : nil
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

/// Reads `500ms`, `30s`, `5min`, `2h`, `1d`; a bare number is seconds.
func parseDuration(_ text: String) -> Duration? {
    guard let match = text.wholeMatch(of: /(\d{1,9})\s*(ms|s|sec|m|min|h|d)?/), let number = Int64(match.1) else {
        return nil
    }
    switch match.2 {
    case "ms": return .milliseconds(number)
    case "m", "min": return .seconds(number * 60)
    case "h": return .seconds(number * 3600)
    case "d": return .seconds(number * 86400)
    default: return .seconds(number)
    }
}

/// Durations as people write them: in the configuration, on the command line and in the directives of migrations.
///
/// A whole number and a unit: `500ms`, `30s` (`30sec`), `5min` (`5m`), `2h` or `1d`; a bare number is seconds.
public enum WrittenDuration {
    /// Ten years: what every timer, clock and server takes.
    public static let longest: Duration = .seconds(3650 * 86400)
    /// Every duration that can be written.
    public static let all: ClosedRange<Duration> = .zero...longest
    /// Time limits, which are more than nothing.
    public static let limits: ClosedRange<Duration> = .milliseconds(1)...longest
    /// Settings of the server, which counts milliseconds in 32 bits.
    public static let ofServer: ClosedRange<Duration> = .zero...(.seconds(24 * 86400))

    /// How to write a duration.
    public static let hint = "write 500ms, 30s, 5min, 2h or 1d"

    /// Reads a duration.
    ///
    /// - Returns: nil for a text that is not a duration, and for a duration out of range.
    public static func parse(_ text: String, in range: ClosedRange<Duration> = all) -> Duration? {
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
        return range.contains(duration) ? duration : nil
    }

    /// What is wrong with a text that `parse` refuses.
    public static func problem(with text: String, in range: ClosedRange<Duration> = all) -> String {
        "'\(text)' is not a duration from \(written(range.lowerBound)) to \(written(range.upperBound))"
    }

    private static func written(_ duration: Duration) -> String {
        let seconds = duration.components.seconds
        if seconds == 0, duration > .zero { return "\(duration.milliseconds)ms" }
        return seconds > 0 && seconds.isMultiple(of: 86400) ? "\(seconds / 86400)d" : "\(seconds)s"
    }
}

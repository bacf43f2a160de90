/// Durations as people write them in the configuration, on the command line and in the directives of migrations.
///
/// A whole number and a unit: `500ms`, `30s` (`30sec`), `5min` (`5m`), `2h` or `1d`. A number without a unit is in
/// seconds.
public enum WrittenDuration {
    /// Ten years, which every timer, clock and server accepts.
    public static let longest: Duration = .seconds(3650 * 86400)
    /// The range of all durations that can be written.
    public static let all: ClosedRange<Duration> = .zero...longest
    /// The range of time limits, which must be greater than zero.
    public static let limits: ClosedRange<Duration> = .milliseconds(1)...longest
    /// The range of durations in settings of the PostgreSQL server, which stores milliseconds in 32 bits.
    public static let ofServer: ClosedRange<Duration> = .zero...(.seconds(24 * 86400))

    /// The hint for a text that is not a duration.
    public static let hint = "write 500ms, 30s, 5min, 2h or 1d"

    /// Reads a duration.
    ///
    /// - Returns: nil if the text is not a duration, or if the duration is out of range.
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

    /// Returns the message about a text that `parse` refuses.
    public static func problem(with text: String, in range: ClosedRange<Duration> = all) -> String {
        "'\(text)' is not a duration from \(written(range.lowerBound)) to \(written(range.upperBound))"
    }

    private static func written(_ duration: Duration) -> String {
        let seconds = duration.components.seconds
        if seconds == 0, duration > .zero { return "\(duration.milliseconds)ms" }
        return seconds > 0 && seconds.isMultiple(of: 86400) ? "\(seconds / 86400)d" : "\(seconds)s"
    }
}

/// The durations that people may write.
public enum WrittenDuration {
    /// Ten years: what every timer, clock and server takes.
    public static let longest: Duration = .seconds(3650 * 86400)
    public static let all: ClosedRange<Duration> = .zero...longest
    public static let limits: ClosedRange<Duration> = .milliseconds(1)...longest
    /// Where a server counts milliseconds in 32 bits.
    public static let ofServer: ClosedRange<Duration> = .zero...(.seconds(24 * 86400))

    /// Reads `500ms`, `30s`, `5min`, `2h`, `1d`; a bare number is seconds.
    ///
    /// - Returns: nil for what is not a duration, or is longer than ten years.
    public static func parse(_ text: String) -> Duration? {
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

    static func invalid(_ text: String, in range: ClosedRange<Duration>) -> InvalidValue {
        InvalidValue(
            "'\(text)' is not a duration from \(written(range.lowerBound)) to \(written(range.upperBound))",
            hint: "write 500ms, 30s, 5min, 2h or 1d")
    }

    private static func written(_ duration: Duration) -> String {
        let seconds = duration.components.seconds
        if seconds == 0, duration > .zero { return "\(duration.milliseconds)ms" }
        return seconds > 0 && seconds.isMultiple(of: 86400) ? "\(seconds / 86400)d" : "\(seconds)s"
    }
}

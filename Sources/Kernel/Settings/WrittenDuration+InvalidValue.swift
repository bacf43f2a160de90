import Telemetry

extension WrittenDuration {
    /// The error about a text that `parse` refuses.
    static func invalid(_ text: String, in range: ClosedRange<Duration>) -> InvalidValue {
        InvalidValue(problem(with: text, in: range), hint: hint)
    }
}

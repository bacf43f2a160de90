import Telemetry

extension WrittenDuration {
    /// Returns the error for a text that `parse` rejects.
    static func invalid(_ text: String, in range: ClosedRange<Duration>) -> InvalidValue {
        InvalidValue(problem(with: text, in: range), hint: hint)
    }
}

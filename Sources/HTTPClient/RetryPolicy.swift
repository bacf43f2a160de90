/// How often something is tried, and how long it waits in between: exponential, with full jitter (Brooker, "Exponential
/// Backoff and Jitter", 2015). Pure.
public struct RetryPolicy: Sendable, Equatable {
    public var attempts: Int
    public var first: Duration
    public var longest: Duration

    public init(attempts: Int = 6, first: Duration = .milliseconds(250), longest: Duration = .seconds(20)) {
        self.attempts = attempts
        self.first = first
        self.longest = longest
    }

    /// - Parameters:
    ///   - attempt: the one that failed, from 1.
    ///   - random: between 0 and 1.
    ///   - asked: what the server asked for, by `Retry-After`.
    /// - Returns: how long to wait before the next one; nil when there is none.
    public func delay(after attempt: Int, random: Double, asked: Duration? = nil) -> Duration? {
        guard attempt < attempts else { return nil }
        let ceiling = min(longest, first * (1 << min(attempt - 1, 20)))
        return max(ceiling * random, min(asked ?? .zero, longest))
    }
}

/// How many times something is tried, and how long to wait between attempts: exponential backoff with full jitter
/// (Brooker, "Exponential Backoff and Jitter", 2015). Pure: no I/O.
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
    ///   - attempt: the number of the attempt that failed, from 1.
    ///   - random: a random number between 0 and 1.
    ///   - asked: the delay that the server requested with `Retry-After`.
    /// - Returns: how long to wait before the next attempt; nil if there are no more attempts.
    public func delay(after attempt: Int, random: Double, asked: Duration? = nil) -> Duration? {
        guard attempt < attempts else { return nil }
        let ceiling = min(longest, first * (1 << min(attempt - 1, 20)))
        return max(ceiling * random, min(asked ?? .zero, longest))
    }
}

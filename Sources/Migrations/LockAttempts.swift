import Foundation

/// Decides how often and after which pauses a migration that does not get its locks is tried again. Pure, except for
/// the jitter.
///
/// While a statement waits for a lock, later requests that conflict with this lock wait behind it. So each attempt may
/// stall other sessions, for as long as it takes. The pauses grow, and the sum of the stalls is bounded.
struct LockAttempts {
    /// The maximum number of attempts.
    let most: Int
    /// The pause after the first attempt. It doubles with each attempt, up to 30 s.
    let first: Duration
    /// The maximum of `stall`.
    let stallLimit: Duration
    /// How long the next attempt may wait for one lock.
    let lockTimeout: Duration
    /// The number of attempts that did not get their locks.
    private(set) var count = 0
    /// How long other sessions may have waited because of the attempts: their duration.
    private(set) var stall: Duration = .zero

    init(most: Int, first: Duration, stallLimit: Duration, lockTimeout: Duration) {
        self.most = most
        self.first = first
        self.stallLimit = stallLimit
        self.lockTimeout = lockTimeout
    }

    /// Records an attempt that did not get its locks.
    ///
    /// - Returns: the pause before the next attempt; nil if there must be no further attempt.
    mutating func pause(afterAttemptOf duration: Duration) -> Duration? {
        stall += duration
        guard count + 1 < most, stall + lockTimeout <= stallLimit else { return nil }
        count += 1
        let longest = min(first * (1 << min(count - 1, 5)), .seconds(30))
        return longest * Double.random(in: 0.5...1)
    }
}

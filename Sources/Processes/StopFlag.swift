import Foundation

/// A flag that stops work on another thread. It is raised once, and never lowered.
public final class StopFlag: @unchecked Sendable {
    // `raised` is accessed only while `condition` is locked.
    private var raised = false
    private let condition = NSCondition()

    public init() {}

    public var isRaised: Bool { condition.withLock { raised } }

    public func raise() {
        condition.withLock {
            raised = true
            condition.broadcast()
        }
    }

    /// Blocks the calling thread for a duration, or until the flag is raised.
    ///
    /// - Returns: whether the flag is raised.
    public func sleep(for duration: Duration) -> Bool {
        let end = ContinuousClock.now + duration
        return condition.withLock {
            while !raised {
                let left = ContinuousClock.now.duration(to: end)
                if left <= .zero { break }
                _ = condition.wait(until: Date(timeIntervalSinceNow: left / .seconds(1)))
            }
            return raised
        }
    }
}

import Foundation

/// Says to work on a thread that it is not wanted any more. Raised once, never lowered.
public final class StopFlag: @unchecked Sendable {
    // Under the condition.
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

    /// Waits on the calling thread, until the flag is raised at most.
    ///
    /// - Returns: whether it is raised.
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

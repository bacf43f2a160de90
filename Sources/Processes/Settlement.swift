import Dispatch
import Foundation
import Synchronization

/// A result that comes once, from any thread, to one who waits for it without holding a thread.
public final class Settlement<Value: Sendable>: Sendable {
    private struct State {
        var result: Result<Value, any Error>?
        var waiting: CheckedContinuation<Value, any Error>?
    }

    private let state = Mutex(State())

    public init() {}

    /// - Returns: whether this is the result; only the first one counts.
    @discardableResult
    public func settle(_ result: Result<Value, any Error>) -> Bool {
        let (isFirst, waiting) = state.withLock { state in
            guard state.result == nil else { return (false, nil as CheckedContinuation<Value, any Error>?) }
            state.result = result
            defer { state.waiting = nil }
            return (true, state.waiting)
        }
        waiting?.resume(with: result)
        return isFirst
    }

    /// Waits for the result, however long that takes; one may wait.
    public func value() async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            let result = state.withLock { state in
                if state.result == nil { state.waiting = continuation }
                return state.result
            }
            if let result { continuation.resume(with: result) }
        }
    }
}

/// Instants at which something is given up.
public enum Deadline {
    // A queue of its own has threads of its own: it is on time also when the cooperative pool is not.
    private static let queue = DispatchQueue(label: "deadlines")

    /// Does something, which must be short, after a while.
    public static func after(_ duration: Duration, _ body: @escaping @Sendable () -> Void) {
        queue.asyncAfter(deadline: .now() + max(0, duration / .seconds(1)), execute: body)
    }
}

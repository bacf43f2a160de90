import Dispatch
import Foundation
import Synchronization

/// A result that is set once, from any thread. One task waits for it without blocking a thread.
public final class Settlement<Value: Sendable>: Sendable {
    private struct State {
        var result: Result<Value, any Error>?
        var waiting: CheckedContinuation<Value, any Error>?
    }

    private let state = Mutex(State())

    public init() {}

    /// Sets the result, unless there already is one.
    ///
    /// - Returns: whether this call set the result.
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

    /// Waits for the result, without a time limit. Only one task may wait.
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

/// Runs actions after a delay, for instance to end a wait whose time limit is over.
public enum Deadline {
    // A dispatch queue has its own threads. Its timers are punctual even if the cooperative pool is blocked.
    private static let queue = DispatchQueue(label: "deadlines")

    /// Runs `body` after `duration`. `body` must be short.
    public static func after(_ duration: Duration, _ body: @escaping @Sendable () -> Void) {
        queue.asyncAfter(deadline: .now() + max(0, duration / .seconds(1)), execute: body)
    }
}

import Foundation

/// Runs `body` on a separate thread and waits for it without blocking a thread of the cooperative pool.
///
/// Use this for a call that ends by itself, or that the caller's cancellation handler ends. For a call that may never
/// end, use `BoundedThreads`, which can abandon the call.
public func onOwnThread<T: Sendable>(
    named name: String, _ body: @escaping @Sendable () throws -> T
) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
        let thread = Thread {
            continuation.resume(with: Result { try body() })
        }
        thread.name = name
        thread.start()
    }
}

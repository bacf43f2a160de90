import Foundation

/// Runs `body` on a thread of its own and waits for it without holding a thread of the cooperative pool.
///
/// For what ends by itself, or is told to by its caller's cancellation handler. What may never end is a call of
/// `BoundedThreads`, which leaves it behind.
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

import Foundation

/// Runs `body` on a separate thread and waits for it without blocking a thread of the cooperative pool.
///
/// For calls that end by themselves, or that the caller's cancellation handler ends. Calls that may never end need
/// `BoundedThreads`, which can abandon them.
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

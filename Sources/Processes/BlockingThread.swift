import Foundation

/// Runs `body` on a thread of its own and waits for it without holding a thread of the cooperative pool.
///
/// For calls that block: system calls without a deadline, waits on children, libraries that connect.
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

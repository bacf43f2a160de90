import Foundation

/// A condition did not come true in time.
public struct NeverHappened: Error {
    public let what: String

    public init(what: String) { self.what = what }
}

/// Asks again and again, with pauses, until `condition` holds; a test waits for the event and not for a time.
public func waitUntil(
    _ what: String = "condition", limit: Duration = .seconds(120), _ condition: @Sendable () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < end else { throw NeverHappened(what: what) }
        try await Task.sleep(for: .milliseconds(10))
    }
}

import Synchronization

/// The loops of the service, and when each of them last made a turn.
///
/// A loop that waits for a database that does not answer makes turns nevertheless, because its waits have limits. So a
/// loop that makes no turn shows that the process itself hangs.
final class ServiceProgress: Sendable {
    private let turns = Mutex<[String: ContinuousClock.Instant]>([:])
    private let now: @Sendable () -> ContinuousClock.Instant

    init(now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) { self.now = now }

    func turn(_ loop: String) {
        let time = now()
        turns.withLock { $0[loop] = time }
    }

    /// The loop has ended and makes no further turns.
    func end(_ loop: String) { turns.withLock { _ = $0.removeValue(forKey: loop) } }

    /// Returns the names of the loops that made no turn for this long.
    func stalled(for silence: Duration) -> [String] {
        let time = now()
        return turns.withLock { $0.filter { time - $0.value > silence }.map(\.key) }.sorted()
    }
}

import Foundation
import Postgres
import Synchronization
import Telemetry

/// The clocks of the machine that this process runs on, in seconds.
public struct HostClock: Sendable {
    /// Since 1970-01-01T00:00:00Z; may be set, forward and back.
    public var wall: @Sendable () -> Double
    /// Since whenever; never set, and goes on while the machine sleeps.
    public var monotonic: @Sendable () -> Double

    public init(wall: @escaping @Sendable () -> Double, monotonic: @escaping @Sendable () -> Double) {
        self.wall = wall
        self.monotonic = monotonic
    }

    public static let system: HostClock = {
        let start = ContinuousClock.now
        return HostClock(
            wall: { Date().timeIntervalSince1970 }, monotonic: { (ContinuousClock.now - start).inSeconds })
    }()
}

/// What the clocks showed at one moment.
struct ClockReading: Sendable, Equatable {
    var database: Double
    var host: Double
    var monotonic: Double

    /// The database's time at another moment of the monotonic clock.
    func time(at monotonic: Double) -> Double { database + (monotonic - self.monotonic) }

    /// By how many seconds the host's clock is ahead of the database's.
    var difference: Double { host - database }
}

/// The database's clock as this process knows it: asked for, and counted on with the monotonic clock.
///
/// Occurrences are due by the database's clock, for it is the one that all processes share; the host's own may be set,
/// or be wrong.
final class DatabaseClock: Sendable {
    /// The difference in seconds from which on it is logged.
    static let notable = 5.0
    /// A step of the host's clock after which the database's is asked again: it may be the same one.
    private static let step = 0.5

    private let host: HostClock
    private let interval: Double
    private let logger: Logger
    private let ask: @Sendable () async throws -> ClockReading
    private let state = Mutex(State())

    private struct State {
        var reading: ClockReading?
        var isTold = false
    }

    /// - Parameters:
    ///   - interval: how often the database is asked.
    ///   - ask: reads all three clocks at one moment.
    init(
        host: HostClock, interval: Duration, logger: Logger, ask: @escaping @Sendable () async throws -> ClockReading
    ) {
        self.host = host
        self.interval = interval.inSeconds
        self.logger = logger
        self.ask = ask
    }

    /// The last reading; nil before the first.
    var reading: ClockReading? { state.withLock { $0.reading } }

    /// The database's time; the host's until it was asked.
    var now: Double { reading?.time(at: host.monotonic()) ?? host.wall() }

    /// Asks the database for its time. After a failure the last reading stays in use.
    ///
    /// - Returns: whether it answered.
    @discardableResult
    func measure() async -> Bool {
        guard let reading = try? await ask() else { return false }
        let said = state.withLock { state -> Bool? in
            state.reading = reading
            let isNotable = abs(reading.difference) > Self.notable
            guard isNotable != state.isTold else { return nil }
            state.isTold = isNotable
            return isNotable
        }
        let field = LogField("seconds_ahead", (reading.difference * 10).rounded() / 10)
        switch said {
        case true?:
            logger.warning("the host's clock differs from the database's, which the schedule follows", [field])
        case false?: logger.info("the host's clock agrees with the database's again", [field])
        case nil: break
        }
        return true
    }

    /// Whether the database is to be asked: regularly, and when the host's clock was set.
    var isStale: Bool {
        guard let reading else { return true }
        let passed = host.monotonic() - reading.monotonic
        return passed >= interval || abs(host.wall() - reading.host - passed) > Self.step
    }

    /// Asks whenever the answer is stale, until cancelled.
    func keep() async {
        while !Task.isCancelled {
            if isStale { await measure() }
            guard (try? await Task.sleep(for: .seconds(min(1, interval)))) != nil else { return }
        }
    }
}

/// What the loop of a task does next: a decision from the database's time alone.
enum NextStep: Equatable {
    /// This occurrence is due.
    case claim(due: Int)
    /// Look again at this time of the monotonic clock.
    case sleep(until: Double)
    /// There is no further occurrence.
    case end

    /// How long nobody looks at the clock, in seconds: it may be set meanwhile.
    static let stretch = 5.0
    /// What two measurements of one clock may differ by, in seconds.
    static let tolerance = 1.0

    /// The instant after which to look for the next occurrence. If the last one lies in the future, the clock
    /// was set back: tasks do not wait for the old time, and the ledger knows which occurrences have already run.
    static func start(last: Int, time: Double) -> Int {
        Double(last) > time + tolerance ? Int(time.rounded(.down)) - 1 : last
    }

    /// - Parameters:
    ///   - start: see there; it stays until an occurrence was dealt with.
    ///   - lag: how many seconds after it is due an occurrence is claimed.
    ///   - time: by the database's clock, at `monotonic`.
    static func decide(_ schedule: Schedule, after start: Int, lag: Double, time: Double, monotonic: Double) -> NextStep
    {
        guard let due = schedule.next(after: start) else { return .end }
        let left = Double(due) + lag - time
        return left <= 0 ? .claim(due: due) : .sleep(until: monotonic + min(left, stretch))
    }

    /// What the last occurrence counts as, once a run has ended: those that came while it ran have been another's, or
    /// are over. Not so those that the clock was only put over.
    ///
    /// - Parameters:
    ///   - began: the database's time when it began.
    ///   - took: how many seconds it ran.
    static func last(after due: Int, began: Double, took: Double) -> Int {
        max(due, Int((began + took).rounded(.down)) - 1)
    }
}

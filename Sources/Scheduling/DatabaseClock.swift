import Foundation
import Postgres
import Synchronization
import Telemetry

/// The clocks of this machine, in seconds.
public struct HostClock: Sendable {
    /// The seconds since 1970-01-01T00:00:00Z. This clock may be set, forward and back.
    public var wall: @Sendable () -> Double
    /// The seconds since an arbitrary time. This clock is never set, and continues while the machine sleeps.
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

/// The values of the database's clock and of this machine's two clocks at one moment, in seconds.
struct ClockReading: Sendable, Equatable {
    var database: Double
    var host: Double
    var monotonic: Double

    /// Returns the database's time at another moment of the monotonic clock.
    func time(at monotonic: Double) -> Double { database + (monotonic - self.monotonic) }

    /// How many seconds the host's clock is ahead of the database's clock.
    var difference: Double { host - database }
}

/// The database's clock as measured by this process: a reading of the clock, continued with the monotonic clock.
///
/// The database's clock decides when occurrences are due, because all processes share it. The host's clock may be set,
/// or may be wrong.
final class DatabaseClock: Sendable {
    /// A difference between the clocks is logged if it exceeds this number of seconds.
    static let notable = 5.0
    /// If the host's clock was set by more than this number of seconds, the database's clock is read again, because the
    /// database may run on the same host.
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
    ///   - interval: how often the database's clock is read.
    ///   - ask: reads all three clocks at one moment.
    init(
        host: HostClock, interval: Duration, logger: Logger, ask: @escaping @Sendable () async throws -> ClockReading
    ) {
        self.host = host
        self.interval = interval.inSeconds
        self.logger = logger
        self.ask = ask
    }

    /// The last reading; nil before the first reading.
    var reading: ClockReading? { state.withLock { $0.reading } }

    /// The database's time; the host's time before the first reading.
    var now: Double { reading?.time(at: host.monotonic()) ?? host.wall() }

    /// Reads the database's clock. After a failure the last reading remains in use.
    ///
    /// - Returns: whether the reading succeeded.
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
            logger.warning("the host's clock differs from the database's clock, which the schedule follows", [field])
        case false?: logger.info("the host's clock agrees with the database's clock again", [field])
        case nil: break
        }
        return true
    }

    /// Whether the database's clock must be read again: at every interval, and when the host's clock was set.
    var isStale: Bool {
        guard let reading else { return true }
        let passed = host.monotonic() - reading.monotonic
        return passed >= interval || abs(host.wall() - reading.host - passed) > Self.step
    }

    /// Reads the database's clock whenever the last reading is stale, until cancelled.
    ///
    /// - Parameter turned: called before each check.
    func keep(turned: @Sendable () -> Void = {}) async {
        while !Task.isCancelled {
            turned()
            if isStale { await measure() }
            guard (try? await Task.sleep(for: .seconds(min(1, interval)))) != nil else { return }
        }
    }
}

/// The next step of a task's loop. It depends on the database's time only.
enum NextStep: Equatable {
    /// This occurrence is due.
    case claim(due: Int)
    /// Decide again at this time of the monotonic clock.
    case sleep(until: Double)
    /// There is no further occurrence.
    case end

    /// The maximum time between two looks at the clock, in seconds, because the clock may be set in the meantime.
    static let stretch = 5.0
    /// The clock counts as set back only if the last occurrence is more than this number of seconds in the future,
    /// because readings of the clock are inexact.
    static let tolerance = 1.0

    /// Returns the instant after which to search for the next occurrence: normally the last occurrence. If the last
    /// occurrence is in the future, the clock was set back. The search then starts at the current time, so that the
    /// task does not wait until the old time is reached again. The ledger prevents an occurrence that has already run
    /// from running again.
    static func start(last: Int, time: Double) -> Int {
        Double(last) > time + tolerance ? Int(time.rounded(.down)) - 1 : last
    }

    /// Returns what to do next: claim the next occurrence, sleep until it is due, or end if there is none.
    ///
    /// - Parameters:
    ///   - start: the instant after which to search for the next occurrence, as `NextStep.start` returns it.
    ///   - lag: how many seconds after its due time an occurrence is claimed.
    ///   - time: the time of the database's clock, at `monotonic`.
    static func decide(_ schedule: Schedule, after start: Int, lag: Double, time: Double, monotonic: Double) -> NextStep
    {
        guard let due = schedule.next(after: start) else { return .end }
        let left = Double(due) + lag - time
        return left <= 0 ? .claim(due: due) : .sleep(until: monotonic + min(left, stretch))
    }

    /// Returns the instant after which to search for the next occurrence when a run has ended. Occurrences that were
    /// due during the run are skipped: another process ran them, or their time is over. If the clock was set forward
    /// during the run, the occurrences that the clock skipped do not count as due during the run.
    ///
    /// - Parameters:
    ///   - began: the database's time when the run began.
    ///   - took: the duration of the run in seconds.
    static func last(after due: Int, began: Double, took: Double) -> Int {
        max(due, Int((began + took).rounded(.down)) - 1)
    }
}

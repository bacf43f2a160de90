import Foundation
import Ledger
import Postgres
import Synchronization
import Telemetry
import TestSupport
import Testing

@testable import Scheduling

/// A clock that a test sets.
private final class SetClock: Sendable {
    private let offset = Mutex(0.0)

    func set(ahead seconds: Double) { offset.withLock { $0 = seconds } }

    var host: HostClock {
        HostClock(
            wall: { Date().timeIntervalSince1970 + self.offset.withLock { $0 } }, monotonic: HostClock.system.monotonic)
    }
}

private final class Lines: LogSink {
    private let lines = Mutex<[LogLine]>([])
    func write(_ line: LogLine) { lines.withLock { $0.append(line) } }
    var messages: [String] { lines.withLock { $0.map(\.message) } }
}

/// Occurrences come by the database's clock, whatever becomes of that and of the host's.
@Suite struct NextStepTests {
    private static let every = Schedule.every(seconds: 20)

    @Test(arguments: [
        // last, lag, time, what is done at 1000 of the monotonic clock
        (100, 0.0, 101.0, NextStep.sleep(until: 1005)),
        (100, 0.0, 118.0, NextStep.sleep(until: 1002)),
        (100, 0.0, 120.0, NextStep.claim(due: 120)),
        (100, 3.0, 120.0, NextStep.sleep(until: 1003)),
        // Put forward: what it was put over is run late.
        (100, 0.0, 145.0, NextStep.claim(due: 120)),
        (100, 0.0, 86_500.0, NextStep.claim(due: 120)),
        // Two measurements differ a little.
        (100, 0.0, 99.5, NextStep.sleep(until: 1005)),
        // Put back: nothing waits for the time that was shown before.
        (100, 0.0, 75.0, NextStep.sleep(until: 1005)),
        (100, 0.0, 79.0, NextStep.sleep(until: 1001)),
        (86_500, 0.0, 119.5, NextStep.sleep(until: 1000.5)),
    ])
    func `the next step follows from the database's time`(last: Int, lag: Double, time: Double, step: NextStep) {
        let start = NextStep.start(last: last, time: time)
        #expect(NextStep.decide(Self.every, after: start, lag: lag, time: time, monotonic: 1000) == step)
    }

    @Test func `a schedule without occurrences ends`() {
        #expect(NextStep.decide(.every(seconds: 0), after: 0, lag: 0, time: 1, monotonic: 1) == .end)
    }

    @Test func `what came while a run lasted is over, and what the clock was put over is not`() {
        #expect(NextStep.last(after: 100, began: 100.2, took: 0.5) == 100)
        #expect(NextStep.last(after: 100, began: 100.2, took: 65) == 164)
        #expect(NextStep.last(after: 100, began: 86_500, took: 3) == 86_502)
    }

    /// Plays a loop and a ledger, a second a step; at each of `jumps` the database's clock is set.
    private func played(_ jumps: [Int: Int], steps: Int) -> (claimed: [Int], shown: Set<Int>) {
        var claimed: [Int] = []
        var shown: Set<Int> = []
        var time = 1_000_000
        var last = time
        for step in 0..<steps {
            time += 1 + (jumps[step] ?? 0)
            if time.isMultiple(of: 20) { shown.insert(time) }
            // As the loop does: until there is nothing to do but to sleep.
            last = NextStep.start(last: last, time: Double(time))
            while case .claim(let due) = NextStep.decide(
                Self.every, after: last, lag: 0, time: Double(time), monotonic: 0)
            {
                if claimed.contains(due) {
                    last = due
                } else {
                    claimed.append(due)
                    last = NextStep.last(after: due, began: Double(time), took: 0)
                }
            }
        }
        return (claimed, shown)
    }

    @Test(arguments: [
        [:], [50: 25], [50: -25], [50: 86400], [50: -86400], [50: 86400, 150: -86400], [50: 60, 51: -60],
        [50: 7, 90: -13, 130: 31, 170: -3600],
    ])
    func `a clock that is set loses and doubles no occurrence`(jumps: [Int: Int]) {
        let (claimed, shown) = played(jumps, steps: 400)
        #expect(Set(claimed).count == claimed.count)
        #expect(shown.subtracting(claimed).isEmpty, "lost: \(shown.subtracting(claimed).sorted())")
        // What it was put over comes once, late.
        #expect(claimed.count <= shown.count + jumps.count)
    }

    @Test func `the database is asked again when the host's clock is set, and after a while`() async {
        let host = Mutex((wall: 1000.0, monotonic: 5.0))
        let ahead = Mutex(0.0)
        let lines = Lines()
        let clocks = HostClock(
            wall: { host.withLock { $0.wall } }, monotonic: { host.withLock { $0.monotonic } })
        let clock = DatabaseClock(host: clocks, interval: .seconds(10), logger: Logger(sink: lines)) {
            ClockReading(
                database: clocks.monotonic() + 995 + ahead.withLock { $0 }, host: clocks.wall(),
                monotonic: clocks.monotonic())
        }
        #expect(clock.isStale && clock.reading == nil)
        await clock.measure()
        #expect(!clock.isStale && clock.now == 1000 && lines.messages.isEmpty)
        host.withLock { $0 = (1004, 9) }
        #expect(!clock.isStale && clock.now == 1004)
        // The host's is set; the database's goes on.
        host.withLock { $0 = (87404, 9) }
        #expect(clock.isStale && clock.now == 1004)
        await clock.measure()
        #expect(!clock.isStale && clock.now == 1004)
        #expect(lines.messages == ["the host's clock differs from the database's clock, which the schedule follows"])
        // The database's is set; that shows at the next look.
        ahead.withLock { $0 = 86400 }
        host.withLock { $0 = (87414, 19) }
        #expect(clock.isStale && clock.now == 1014)
        await clock.measure()
        #expect(clock.now == 87414 && lines.messages.count == 2)
    }
}

@Suite(.database, .timeLimit(.minutes(3)))
struct DatabaseClockTests {
    @Test func `a host's clock that is wrong, and set while it runs, loses and doubles nothing`() async throws {
        let settings = try TestDatabase.current.settings
        try await TestDatabase.current.with { try LedgerSchema.install(on: $0) }
        let clock = SetClock()
        clock.set(ahead: 60)
        let lines = Lines()
        var options = Scheduler.Settings(instance: "i")
        options.hostClock = clock.host
        let ran = Mutex(0)
        let task = TaskDefinition(name: "t", summary: "t", schedule: .every(seconds: 2)) { _ in
            ran.withLock { $0 += 1 }
            return "done"
        }
        let scheduler = Scheduler(
            tasks: [task], database: Database(settings), settings: options, logger: Logger(sink: lines))
        let running = Task { await scheduler.run() }
        for ahead in [60.0, 86400, -86400, 25, 0] {
            clock.set(ahead: ahead)
            let before = ran.withLock { $0 }
            try await waitUntil("it runs with the host's clock \(ahead) s ahead") { ran.withLock { $0 } >= before + 2 }
        }
        try await waitUntil("the difference is measured") { abs(scheduler.clockDifference ?? 60) < 1 }
        running.cancel()
        await running.value
        #expect(lines.messages.contains { $0.contains("differs from the database's") })
        let runs = try await TestDatabase.current.with { try RunLedger.history(on: $0) }
        #expect(runs.count >= 10 && Set(runs.map(\.occurrence)).count == runs.count)
        #expect(
            try await TestDatabase.current.value(
                "SELECT count(*) FROM reeve.runs WHERE occurrence > started_at") == 0)
    }
}

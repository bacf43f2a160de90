import Foundation
import Processes
import Synchronization
import Testing

/// Calls that hang, and those who made them.
@Suite(.timeLimit(.minutes(1)))
struct BoundedThreadsTests {
    /// Holds calls until it is opened.
    private final class Gate: Sendable {
        private let flag = StopFlag()
        func open() { flag.raise() }
        func pass() { while !flag.sleep(for: .seconds(3600)) {} }
    }

    private final class Inside: Sendable {
        private let counts = Mutex((now: 0, most: 0))
        var now: Int { counts.withLock { $0.now } }
        var most: Int { counts.withLock { $0.most } }
        func enter() {
            counts.withLock {
                $0.now += 1
                $0.most = max($0.most, $0.now)
            }
        }
        func leave() { counts.withLock { $0.now -= 1 } }
    }

    private func until(_ condition: () -> Bool) async throws {
        for _ in 0..<1000 where !condition() { try await Task.sleep(for: .milliseconds(10)) }
        #expect(condition())
    }

    @Test func `a late call is left behind, counted, and after too many none is made`() async throws {
        let threads = BoundedThreads("test", atOnce: 2)
        let gate = Gate()
        // One whose turn has not come in time does not hang.
        while threads.hung < 3 {
            let error = await #expect(throws: BoundedThreads.GivenUp.self) {
                try await threads.call(limit: .milliseconds(50), hungLimit: 3) { gate.pass() }
            }
            guard case .late = error else { return #expect(Bool(false), "\(String(describing: error))") }
        }
        let error = await #expect(throws: BoundedThreads.GivenUp.self) {
            try await threads.call(limit: .seconds(60), hungLimit: 3) {}
        }
        guard case .tooManyHung(3) = error else { return #expect(Bool(false), "\(String(describing: error))") }
        gate.open()
        try await until { threads.hung == 0 }
        #expect(try await threads.call(limit: .seconds(60), hungLimit: 3) { 7 } == 7)
    }

    @Test func `calls in line are not made either once too many hang`() async throws {
        let threads = BoundedThreads("test", atOnce: 1)
        let (gate, inside) = (Gate(), Inside())
        let hanging = Task {
            try await threads.call(limit: .seconds(1), hungLimit: 1) {
                inside.enter()
                gate.pass()
            }
        }
        try await until { inside.now == 1 }
        let waiting = (0..<3).map { _ in
            Task { try await threads.call(limit: .seconds(600), hungLimit: 1) { inside.enter() } }
        }
        let patient = Task { try await threads.call(limit: .seconds(600), hungLimit: 2) { 7 } }
        await #expect(throws: BoundedThreads.GivenUp.self) { try await hanging.value }
        for one in waiting {
            let error = await #expect(throws: BoundedThreads.GivenUp.self) { try await one.value }
            guard case .tooManyHung(1) = error else { return #expect(Bool(false), "\(String(describing: error))") }
        }
        #expect(try await patient.value == 7)
        #expect(inside.now == 1)
        gate.open()
        try await until { threads.hung == 0 }
    }

    @Test func `a cancelled caller goes on at once, and the call is told`() async throws {
        let threads = BoundedThreads("test")
        let stop = StopFlag()
        let (began, gate) = (StopFlag(), Gate())
        let work = Task {
            try await threads.call(limit: .seconds(600), stop: stop) {
                began.raise()
                gate.pass()
            }
        }
        try await until { began.isRaised }
        work.cancel()
        await #expect(throws: CancellationError.self) { try await work.value }
        #expect(stop.isRaised && threads.hung == 1)
        gate.open()
        try await until { threads.hung == 0 }
    }

    /// As many calls as there are threads of the pool, and more: the pool goes on.
    @Test func `calls that block hold no thread of the pool, and wait in line`() async throws {
        let threads = BoundedThreads("test", atOnce: 2)
        let (gate, inside) = (Gate(), Inside())
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<20 {
                group.addTask {
                    try await threads.call(limit: .seconds(60)) {
                        inside.enter()
                        gate.pass()
                        inside.leave()
                    }
                }
            }
            group.addTask {
                // On the pool: it would never come to its turn.
                while inside.now < 2 { try await Task.sleep(for: .milliseconds(5)) }
                gate.open()
            }
            for try await _ in group {}
        }
        #expect(inside.most == 2)
    }

    @Test func `the next in line gets the place of a call that is left behind`() async throws {
        let threads = BoundedThreads("test", atOnce: 1)
        let gate = Gate()
        defer { gate.open() }
        let late = Task { try await threads.call(limit: .milliseconds(300)) { gate.pass() } }
        // It has the only thread; this one waits for it.
        try await Task.sleep(for: .milliseconds(50))
        #expect(try await threads.call(limit: .seconds(20)) { 7 } == 7)
        await #expect(throws: BoundedThreads.GivenUp.self) { try await late.value }
    }

    @Test func `beside too many hung calls no stream is begun, and one that does not end counts as hung`() async throws
    {
        let threads = BoundedThreads("test")
        let lane = try threads.lane(hungLimit: 1)
        lane.leave()
        try await until { threads.hung == 1 }
        #expect(throws: BoundedThreads.GivenUp.self) { _ = try threads.lane(hungLimit: 1) }
        lane.end()
        #expect(threads.hung == 0)
        let prompt = try threads.lane(hungLimit: 1)
        prompt.end()
        prompt.leave()
        try await Task.sleep(for: .milliseconds(2200))
        #expect(threads.hung == 0)
    }

    @Test func `only the first result counts`() async throws {
        let settlement = Settlement<Int>()
        #expect(settlement.settle(.success(1)))
        #expect(!settlement.settle(.success(2)))
        #expect(try await settlement.value() == 1)
    }

    @Test func `a feed gives up a side that does not move`() throws {
        let feed = ByteFeed(capacity: 10)
        try feed.push([UInt8](repeating: 0, count: 10))
        #expect(throws: ByteFeed.Late.self) { try feed.push([1], within: .milliseconds(20)) }
        _ = try feed.next()
        #expect(throws: ByteFeed.Late.self) { try feed.next(within: .milliseconds(20)) }
        feed.close()
        #expect(throws: ByteFeed.Closed.self) { try feed.next() }
        #expect(throws: ByteFeed.Closed.self) { try feed.push([1]) }
    }
}

import Foundation
import Synchronization

/// Threads for calls that block and that nobody can make end: so many at once, each waited for so long.
///
///     let threads = BoundedThreads.named("/mnt/backups")
///     let names = try await threads.call(limit: .seconds(60)) { try listing(of: "/mnt/backups") }
///
/// A call that takes too long, or whose caller is cancelled, is left behind, and its caller goes on at once. Its thread
/// counts as hung until the call comes back; beside too many of these further calls fail without being tried.
public final class BoundedThreads: Sendable {
    /// Why a call was not waited for, or not made.
    public enum GivenUp: Error {
        case late(limit: Duration)
        case tooManyHung(Int)
    }

    /// What runs on a thread, and may be left behind there.
    private protocol Job: AnyObject, Sendable {
        func run()
        /// Ends the job with an error instead of running it.
        func giveUp(_ error: any Error)
    }

    private struct State {
        /// Threads whose calls are waited for.
        var busy = 0
        var hung = 0
        /// Calls that wait for a thread.
        var queue: [(job: any Job, hungLimit: Int)] = []

        /// Takes the next call that may be made, and those before it that may not be beside so many that hang.
        mutating func dequeue() -> (next: (any Job)?, refused: [any Job]) {
            var refused: [any Job] = []
            while !queue.isEmpty {
                let (job, hungLimit) = queue.removeFirst()
                if hung < hungLimit { return (job, refused) }
                refused.append(job)
            }
            return (nil, refused)
        }
    }

    private let name: String
    private let atOnce: Int
    private let state = Mutex(State())

    public init(_ name: String, atOnce: Int = 16) {
        self.name = name
        self.atOnce = atOnce
    }

    private static let known = Mutex<[String: BoundedThreads]>([:])

    /// Those for one place or thing that may hang, which are the same wherever in the process they are asked for.
    public static func named(_ name: String) -> BoundedThreads {
        known.withLock { known in
            if let found = known[name] { return found }
            let made = BoundedThreads(name)
            known[name] = made
            return made
        }
    }

    /// How many calls were left behind and have not come back.
    public var hung: Int { state.withLock { $0.hung } }

    /// Runs a call on a thread, and waits for it without holding a thread of the cooperative pool.
    ///
    /// - Parameters:
    ///   - limit: how long the call, and its wait for a thread, may take.
    ///   - hungLimit: beside how many hung calls it is not made.
    ///   - stop: raised when the call is given up, so that one that can ends.
    /// - Throws: `GivenUp`; `CancellationError`; what the call throws.
    public func call<T: Sendable>(
        limit: Duration, hungLimit: Int = 4, stop: StopFlag = StopFlag(), _ body: @escaping @Sendable () throws -> T
    ) async throws -> T {
        let call = Call(self, stop, body)
        return try await withTaskCancellationHandler {
            try admit(call, hungLimit)
            Deadline.after(limit) { [weak call] in call?.giveUp(GivenUp.late(limit: limit)) }
            return try await call.outcome.value()
        } onCancel: {
            call.giveUp(CancellationError())
        }
    }

    private func admit(_ job: any Job, _ hungLimit: Int) throws {
        let starts = try state.withLock { state in
            if state.hung >= hungLimit { throw GivenUp.tooManyHung(state.hung) }
            if state.busy >= atOnce {
                state.queue.append((job, hungLimit))
                return false
            }
            state.busy += 1
            return true
        }
        if starts { start(job) }
    }

    private func start(_ job: any Job) {
        let thread = Thread { job.run() }
        thread.name = name
        thread.start()
    }

    /// A thread was left behind: the next in line gets one in its place.
    private func leave() {
        if let next = next(leaving: true) { start(next) }
    }

    private func comeBack() { state.withLock { $0.hung -= 1 } }

    /// - Returns: what the thread, or another in its place, is to do next, if anything.
    private func next(leaving: Bool = false) -> (any Job)? {
        let (next, refused, hung) = state.withLock { state in
            if leaving { state.hung += 1 }
            let (next, refused) = state.dequeue()
            if next == nil { state.busy -= 1 }
            return (next, refused, state.hung)
        }
        for job in refused { job.giveUp(GivenUp.tooManyHung(hung)) }
        return next
    }

    private final class Call<T: Sendable>: Job {
        let outcome = Settlement<T>()
        private let threads: BoundedThreads
        private let stop: StopFlag
        private let body: @Sendable () throws -> T
        private let phase = Mutex(Phase.waiting)

        private enum Phase { case waiting, running, left, done }

        init(_ threads: BoundedThreads, _ stop: StopFlag, _ body: @escaping @Sendable () throws -> T) {
            self.threads = threads
            self.stop = stop
            self.body = body
        }

        func run() {
            let isWanted = phase.withLock { phase in
                guard phase == .waiting else { return false }
                phase = .running
                return true
            }
            if isWanted {
                let result = Result { try body() }
                let wasLeft = phase.withLock { phase in
                    defer { phase = .done }
                    return phase == .left
                }
                if wasLeft { return threads.comeBack() }
                outcome.settle(result)
            }
            // Not by recursion, for a line may be long.
            if let next = threads.next() { threads.start(next) }
        }

        func giveUp(_ error: any Error) {
            let wasRunning = phase.withLock { phase in
                switch phase {
                case .waiting: phase = .done
                case .running:
                    phase = .left
                    return true
                case .left, .done: break
                }
                return false
            }
            stop.raise()
            if wasRunning { threads.leave() }
            outcome.settle(.failure(error))
        }
    }

    // MARK: Streams

    /// A thread of the caller's own that works for the same place, for longer than a call.
    public final class Lane: Sendable {
        private let threads: BoundedThreads
        private let phase = Mutex(Phase.running)

        private enum Phase { case running, left, done }

        /// How long a thread that nobody waits for may take to end before it counts as hung.
        private static let patience: Duration = .seconds(2)

        fileprivate init(_ threads: BoundedThreads) { self.threads = threads }

        /// Nobody waits for the thread any more.
        public func leave() { Deadline.after(Self.patience) { [self] in count() } }

        private func count() {
            let isHung = phase.withLock { phase in
                guard phase == .running else { return false }
                phase = .left
                return true
            }
            if isHung { threads.state.withLock { $0.hung += 1 } }
        }

        /// The thread has come to its end.
        public func end() {
            let wasLeft = phase.withLock { phase in
                defer { phase = .done }
                return phase == .left
            }
            if wasLeft { threads.comeBack() }
        }
    }

    /// - Throws: `GivenUp.tooManyHung`.
    public func lane(hungLimit: Int = 4) throws -> Lane {
        try state.withLock { if $0.hung >= hungLimit { throw GivenUp.tooManyHung($0.hung) } }
        return Lane(self)
    }
}

import Foundation
import Synchronization

/// Threads for blocking calls that cannot be interrupted. Limits the number of concurrent calls, and how long each is
/// waited for.
///
///     let threads = BoundedThreads.named("/mnt/backups")
///     let names = try await threads.call(limit: .seconds(60)) { try listing(of: "/mnt/backups") }
///
/// A call that takes too long, or whose caller is cancelled, is abandoned, and its caller continues immediately. Its
/// thread counts as hung until the call returns. While too many threads are hung, further calls fail without being
/// tried.
public final class BoundedThreads: Sendable {
    /// The reason why a call was abandoned or not made.
    public enum GivenUp: Error {
        case late(limit: Duration)
        case tooManyHung(Int)
    }

    /// Work that runs on a thread and may be abandoned there.
    private protocol Job: AnyObject, Sendable {
        func run()
        /// Ends the job with an error: does not run it, or abandons it if it is running.
        func giveUp(_ error: any Error)
    }

    private struct State {
        /// The number of threads that run a call that was not abandoned.
        var busy = 0
        var hung = 0
        /// Calls that wait for a thread.
        var queue: [(job: any Job, hungLimit: Int)] = []

        /// Removes from the queue the next call that is allowed to run. Also removes the calls before it; these are
        /// refused, because too many threads are hung.
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

    /// Returns the threads for one place or resource that may hang. Within this process, the same name always returns
    /// the same threads.
    public static func named(_ name: String) -> BoundedThreads {
        known.withLock { known in
            if let found = known[name] { return found }
            let made = BoundedThreads(name)
            known[name] = made
            return made
        }
    }

    /// The number of calls that were abandoned and have not returned.
    public var hung: Int { state.withLock { $0.hung } }

    /// Runs a call on a thread, and waits for it without blocking a thread of the cooperative pool.
    ///
    /// - Parameters:
    ///   - limit: the time limit for the call, including its wait for a thread.
    ///   - hungLimit: the number of hung calls at which this call is refused.
    ///   - stop: raised when the call is abandoned, so that `body` can end early if it checks the flag.
    /// - Throws: `GivenUp`; `CancellationError`; the error of the call.
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

    /// Counts an abandoned thread as hung, and starts the next waiting job on a new thread.
    private func leave() {
        if let next = next(leaving: true) { start(next) }
    }

    private func comeBack() { state.withLock { $0.hung -= 1 } }

    /// Removes the next job from the queue.
    ///
    /// - Returns: the next job to start; nil if no job waits.
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
            // The next job runs on a new thread. A recursive call would need too much stack if the queue is long.
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

    /// A thread that the caller starts itself and that lives for longer than one call, such as the thread of a stream.
    /// It counts as hung if it still runs some time after its caller has stopped waiting for it.
    public final class Lane: Sendable {
        private let threads: BoundedThreads
        private let phase = Mutex(Phase.running)

        private enum Phase { case running, left, done }

        /// How long a thread may take to end before it counts as hung, after its caller has stopped waiting.
        private static let patience: Duration = .seconds(2)

        fileprivate init(_ threads: BoundedThreads) { self.threads = threads }

        /// Must be called when the caller stops waiting for the thread.
        public func leave() { Deadline.after(Self.patience) { [self] in count() } }

        private func count() {
            let isHung = phase.withLock { phase in
                guard phase == .running else { return false }
                phase = .left
                return true
            }
            if isHung { threads.state.withLock { $0.hung += 1 } }
        }

        /// Must be called when the thread ends.
        public func end() {
            let wasLeft = phase.withLock { phase in
                defer { phase = .done }
                return phase == .left
            }
            if wasLeft { threads.comeBack() }
        }
    }

    /// Returns a lane for a thread that the caller starts.
    ///
    /// - Throws: `GivenUp.tooManyHung`.
    public func lane(hungLimit: Int = 4) throws -> Lane {
        try state.withLock { if $0.hung >= hungLimit { throw GivenUp.tooManyHung($0.hung) } }
        return Lane(self)
    }
}

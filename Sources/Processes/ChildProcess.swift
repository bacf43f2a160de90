import CSystem
import Foundation
import Synchronization
import Telemetry

/// A program that runs beside this one: it can be signalled, and its end awaited.
///
/// It is reaped when it ends, whether or not somebody waits.
public final class ChildProcess: Sendable {
    public let pid: pid_t
    private let state = Mutex(State())

    private struct State {
        var ending: CommandOutcome.Ending?
        var waiting: [CheckedContinuation<CommandOutcome.Ending, Never>] = []
    }

    /// Starts a program with nothing on its standard input and output.
    ///
    /// - Parameters:
    ///   - error: a descriptor that takes its standard error; nil: nothing does.
    ///   - newSession: in a session of its own, which the terminal's signals do not reach.
    /// - Throws: `CommandError` when it cannot be started.
    public init(_ command: Command, error: Int32? = nil, newSession: Bool = false) throws {
        pid = try command.spawn(output: -1, error: error ?? -1, newSession: newSession)
        let thread = Thread { [self] in reap() }
        thread.name = "reaper"
        thread.start()
    }

    /// How it ended; nil while it runs.
    public var ending: CommandOutcome.Ending? { state.withLock { $0.ending } }

    /// Sends a signal, unless the program has ended.
    public func signal(_ number: Int32) {
        state.withLock { if $0.ending == nil { kill(pid, number) } }
    }

    /// Waits for its end.
    public func end() async -> CommandOutcome.Ending {
        await withCheckedContinuation { continuation in
            let ending = state.withLock { state in
                if state.ending == nil { state.waiting.append(continuation) }
                return state.ending
            }
            if let ending { continuation.resume(returning: ending) }
        }
    }

    private func reap() {
        var info = siginfo_t()
        // Left as a zombie until the lock is held, so that no signal goes to another process of the same number.
        while waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT) < 0, errno == EINTR {}
        let (ending, waiting) = state.withLock { state in
            let ending = Self.reap(pid)
            state.ending = ending
            defer { state.waiting = [] }
            return (ending, state.waiting)
        }
        for continuation in waiting { continuation.resume(returning: ending) }
    }

    /// Asks children's process groups to end, and kills those that have not within `grace`; also those that are stopped.
    ///
    /// One that does not go even then, for it is stuck within the kernel, is reaped when it goes, by nobody's waiting.
    static func endGroups(
        _ pids: [pid_t], grace: Duration, _ watch: ChildEnd.Opening = csystem_pidfd_open
    ) -> [CommandOutcome.Ending] {
        for pid in pids {
            kill(-pid, SIGTERM)
            kill(-pid, SIGCONT)
        }
        waitForEnds(pids, until: .now + grace, watch)
        for pid in pids { kill(-pid, SIGKILL) }
        let stuck = waitForEnds(pids, until: .now + .seconds(5), watch)
        return pids.map { pid in
            guard stuck.contains(pid) else { return reap(pid) }
            let thread = Thread { _ = reap(pid) }
            thread.name = "reaper"
            thread.start()
            return .killed(signal: SIGKILL)
        }
    }

    /// - Returns: those that have not ended by then.
    @discardableResult
    private static func waitForEnds(
        _ pids: [pid_t], until end: ContinuousClock.Instant, _ watch: ChildEnd.Opening
    ) -> Set<pid_t> {
        pids.reduce(into: []) { staying, pid in
            let ended = ChildEnd(pid, watch)
            while !ended.hasCome {
                let left = ContinuousClock.now.duration(to: end)
                if left <= .zero {
                    staying.insert(pid)
                    return
                }
                var polls = [pollfd(fd: ended.descriptor, events: Int16(POLLIN), revents: 0)]
                poll(&polls, 1, ended.limit(Int32(clamping: left.milliseconds + 1)))
            }
        }
    }

    static func reap(_ pid: pid_t) -> CommandOutcome.Ending {
        let status = LiveChildren.shared.reap(pid)
        let signal = status & 0x7f
        return signal == 0 ? .exited((status >> 8) & 0xff) : .killed(signal: signal)
    }
}

import CSystem
import Foundation
import Synchronization
import Telemetry

/// A program that runs concurrently with this process. It can be signalled, and its end can be awaited.
///
/// The program is reaped when it ends, whether or not a task waits in `end`.
public final class ChildProcess: Sendable {
    public let pid: pid_t
    private let state = Mutex(State())

    private struct State {
        var ending: CommandOutcome.Ending?
        var waiting: [CheckedContinuation<CommandOutcome.Ending, Never>] = []
    }

    /// Starts a program whose standard input and output are /dev/null.
    ///
    /// - Parameters:
    ///   - error: a descriptor for the program's standard error; nil: /dev/null.
    ///   - newSession: whether the program runs in its own session, which signals of the terminal do not reach.
    /// - Throws: `CommandError` if the program cannot be started.
    public init(_ command: Command, error: Int32? = nil, newSession: Bool = false) throws {
        pid = try command.spawn(output: -1, error: error ?? -1, newSession: newSession)
        let thread = Thread { [self] in reap() }
        thread.name = "reaper"
        thread.start()
    }

    /// How the program ended; nil while it runs.
    public var ending: CommandOutcome.Ending? { state.withLock { $0.ending } }

    /// Sends a signal, unless the program has ended.
    public func signal(_ number: Int32) {
        state.withLock { if $0.ending == nil { kill(pid, number) } }
    }

    /// Waits for the end of the program.
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
        // Wait here without reaping. The process is reaped below, under the lock, so that `signal` cannot send a signal
        // to a new process with the same PID.
        while waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT) < 0, errno == EINTR {}
        let (ending, waiting) = state.withLock { state in
            let ending = Self.reap(pid)
            state.ending = ending
            defer { state.waiting = [] }
            return (ending, state.waiting)
        }
        for continuation in waiting { continuation.resume(returning: ending) }
    }

    /// Sends SIGTERM to the process groups of children. When all children have ended, or after `grace`, kills the
    /// groups, and with them the children's own children. Stopped groups are continued, so that they can end.
    ///
    /// A child that does not end even then is stuck in the kernel. A separate thread reaps it when it ends; this call
    /// does not wait for that.
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

    /// Waits until all children have ended, at most until `end`.
    ///
    /// - Returns: the children that are still running at `end`.
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

import Foundation
import Synchronization

/// The children that run, so that a process that has to end at once leaves none behind.
final class LiveChildren: Sendable {
    static let shared = LiveChildren()

    private struct State {
        var pids: Set<pid_t> = []
        /// Programs that are being started: that may take long, where they lie on a file system that hangs.
        var starting = 0
        var isEnding = false
    }

    private let state = Mutex(State())

    /// - Parameter outlivesParent: whether the child is meant to stay when this process is gone.
    func adding(outlivesParent: Bool, _ spawn: () throws -> pid_t) throws -> pid_t {
        if outlivesParent { return try spawn() }
        state.withLock { $0.starting += 1 }
        var pid: pid_t?
        defer {
            state.withLock { state in
                state.starting -= 1
                guard let pid else { return }
                state.pids.insert(pid)
                if state.isEnding { kill(-pid, SIGKILL) }
            }
        }
        let started = try spawn()
        pid = started
        return started
    }

    /// Waits for a child's end and takes its status; its number may be another's from then on.
    func reap(_ pid: pid_t) -> Int32 {
        var info = siginfo_t()
        while waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT) < 0, errno == EINTR {}
        return state.withLock { state in
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0, errno == EINTR {}
            state.pids.remove(pid)
            return status
        }
    }

    /// How long a child that is just being started is waited for.
    private static let patience: Duration = .milliseconds(500)

    func killAll() {
        let end = ContinuousClock.now + Self.patience
        state.withLock { state in
            state.isEnding = true
            for pid in state.pids { kill(-pid, SIGKILL) }
        }
        while state.withLock({ $0.starting }) > 0, ContinuousClock.now < end { Thread.sleep(forTimeInterval: 0.01) }
    }
}

extension Command {
    /// Kills the process groups of all children that run, but for those in a session of their own, which are meant to
    /// stay: for a process that ends at once.
    public static func killAll() { LiveChildren.shared.killAll() }
}

import Foundation
import Synchronization

/// The running child processes of this process. `killAll` kills them when this process must end immediately.
final class LiveChildren: Sendable {
    static let shared = LiveChildren()

    private struct State {
        var pids: Set<pid_t> = []
        /// The number of programs that are being started. Starting a program may take long if its file system hangs.
        var starting = 0
        var isEnding = false
    }

    private let state = Mutex(State())

    /// Starts a child with `spawn`, and adds it to the running children.
    ///
    /// - Parameter outlivesParent: whether the child is meant to keep running after this process has ended. Such a
    ///   child is not added, so `killAll` does not kill it.
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

    /// Waits for the end of a child and returns its status. Its PID may then be reused for another process.
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

    /// How long `killAll` waits for children that are being started.
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
    /// Kills the process groups of all running children. Call this before this process ends immediately. Children in
    /// their own session are not killed, because they are meant to keep running.
    public static func killAll() { LiveChildren.shared.killAll() }
}

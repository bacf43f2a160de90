import Foundation
import Synchronization

/// The children that run, so that a process that has to end at once leaves none behind.
enum LiveChildren {
    private static let pids = Mutex<Set<pid_t>>([])

    /// - Parameter outlivesParent: whether the child is meant to stay when this process is gone.
    static func adding(outlivesParent: Bool, _ spawn: () throws -> pid_t) throws -> pid_t {
        try pids.withLock { pids in
            let pid = try spawn()
            if !outlivesParent { pids.insert(pid) }
            return pid
        }
    }

    /// Waits for a child's end and takes its status; its number may be another's from then on.
    static func reap(_ pid: pid_t) -> Int32 {
        var info = siginfo_t()
        while waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT) < 0, errno == EINTR {}
        return pids.withLock { pids in
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0, errno == EINTR {}
            pids.remove(pid)
            return status
        }
    }

    static func killAll() {
        pids.withLock { for pid in $0 { kill(-pid, SIGKILL) } }
    }
}

extension Command {
    /// Kills the process groups of all children that run, but for those in a session of their own, which are meant to
    /// stay: for a process that ends at once.
    public static func killAll() { LiveChildren.killAll() }
}

import CSystem
import Foundation

/// The end of a child, for which `poll(2)` can wait. Where no descriptor is to be had, it is looked for again and again.
struct ChildEnd: ~Copyable {
    /// Gives a descriptor that can be read once the child has ended, or a negative number.
    typealias Opening = (pid_t) -> Int32

    private let pid: pid_t
    private let opened: OwnedDescriptor

    init(_ pid: pid_t, _ open: Opening = csystem_pidfd_open) {
        self.pid = pid
        opened = OwnedDescriptor(open(pid))
    }

    /// Readable once the child has ended; negative, which `poll(2)` passes over, where there is none.
    var descriptor: Int32 { opened.number }

    /// Whether the child has ended; it is still to be reaped.
    var hasCome: Bool {
        var info = siginfo_t()
        while waitid(P_PID, id_t(pid), &info, WEXITED | WNOHANG | WNOWAIT) < 0 {
            // The process is not our child any more, so nothing more can be learned.
            if errno != EINTR { return true }
        }
        return info.si_signo != 0
    }

    /// How many milliseconds `poll(2)` may wait at most, where nothing else ends before `milliseconds` (negative: ever).
    func limit(_ milliseconds: Int32) -> Int32 {
        if descriptor >= 0 { return milliseconds }
        return milliseconds < 0 ? 20 : min(20, milliseconds)
    }
}

import CSystem
import Foundation

/// Detects the end of a child process, with a descriptor for which `poll(2)` can wait. If no descriptor is available,
/// the caller has to check `hasCome` at short intervals (see `limit`).
struct ChildEnd: ~Copyable {
    /// Returns a descriptor that becomes readable when the child ends, or a negative number.
    typealias Opening = (pid_t) -> Int32

    private let pid: pid_t
    private let opened: OwnedDescriptor

    init(_ pid: pid_t, _ open: Opening = csystem_pidfd_open) {
        self.pid = pid
        opened = OwnedDescriptor(open(pid))
    }

    /// Readable when the child has ended. Negative if there is no descriptor; `poll(2)` ignores negative descriptors.
    var descriptor: Int32 { opened.number }

    /// Whether the child has ended. It still has to be reaped.
    var hasCome: Bool {
        var info = siginfo_t()
        while waitid(P_PID, id_t(pid), &info, WEXITED | WNOHANG | WNOWAIT) < 0 {
            // The process is no longer a child of this process, so its end cannot be observed. It counts as ended.
            if errno != EINTR { return true }
        }
        return info.si_signo != 0
    }

    /// Returns the timeout in milliseconds for `poll(2)`. This is `milliseconds` (negative: no timeout), but at most 20
    /// if there is no descriptor.
    func limit(_ milliseconds: Int32) -> Int32 {
        if descriptor >= 0 { return milliseconds }
        return milliseconds < 0 ? 20 : min(20, milliseconds)
    }
}

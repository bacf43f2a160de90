import CSystem
import Foundation
import Synchronization

/// A lock on a file (flock(2)). It is held until `release`, or until the process ends in any way.
final class FileLock: Sendable {
    private let descriptor: Mutex<Int32>

    enum Mode { case shared, exclusive }

    /// Tries to acquire the lock until it is acquired or `limit` has passed.
    ///
    /// - Throws: `EmbeddedClusterError` if the file cannot be opened, or if the lock is not acquired within `limit`.
    init(_ path: String, _ mode: Mode, limit: Duration) throws {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw EmbeddedClusterError.folder(path, reason: String(cString: strerror(errno)))
        }
        let operation = (mode == .shared ? LOCK_SH : LOCK_EX) | LOCK_NB
        let end = ContinuousClock.now + limit
        while csystem_flock(descriptor, operation) != 0 {
            guard ContinuousClock.now < end else {
                close(descriptor)
                throw EmbeddedClusterError.busy(lock: path)
            }
            usleep(20_000)
        }
        self.descriptor = Mutex(descriptor)
    }

    deinit { release() }

    func release() {
        descriptor.withLock { descriptor in
            if descriptor >= 0 { close(descriptor) }
            descriptor = -1
        }
    }
}

import CSystem
import Foundation
import Kernel
import Postgres

/// A file that only this user can read and write. The file is refused if other users can access it.
struct PrivateFile: Sendable {
    let path: String

    private var folder: String { (path as NSString).deletingLastPathComponent }

    /// Returns the contents; nil if the file does not exist.
    ///
    /// - Throws: `AuditError.file` for a file that is a link, belongs to another user, is accessible to other users, or
    ///   is larger than the limit.
    func read(limit: Int = 64 << 20) throws -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
        if descriptor < 0, errno == ENOENT { return nil }
        guard descriptor >= 0 else { throw failure() }
        defer { close(descriptor) }
        try check(descriptor)
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = Foundation.read(descriptor, &chunk, chunk.count)
            if count == 0 { return bytes }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw failure() }
            bytes += chunk[..<count]
            guard bytes.count <= limit else { throw AuditError.file(path, reason: "it is larger than \(limit) bytes") }
        }
    }

    /// Creates the file and syncs it to disk. An existing file is not changed.
    ///
    /// - Throws: `AuditError.file`.
    func makeOnce(_ bytes: [UInt8]) throws {
        try putAside(bytes) { temporary in
            guard link(temporary, path) == 0 || errno == EEXIST else { throw failure() }
        }
    }

    /// Replaces the contents of the file atomically.
    ///
    /// - Throws: `AuditError.file`.
    func replace(_ bytes: [UInt8]) throws {
        try putAside(bytes) { temporary in
            guard rename(temporary, path) == 0 else { throw failure() }
        }
    }

    /// Appends bytes and syncs them to disk. Creates the file if it does not exist.
    ///
    /// - Throws: `AuditError.file`.
    func append(_ bytes: [UInt8]) throws {
        try prepareFolder()
        let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0o600)
        guard descriptor >= 0 else { throw failure() }
        defer { close(descriptor) }
        try check(descriptor)
        try write(bytes, to: descriptor)
    }

    /// Runs `body` under this file's lock, which excludes all other calls of `locked` for the same file.
    ///
    /// - Throws: `AuditError.file` if the lock is not acquired within ten seconds; the errors of `body`.
    func locked<T>(_ body: () throws -> T) throws -> T {
        try prepareFolder()
        let lock = PrivateFile(path: path + ".lock")
        let descriptor = open(lock.path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0o600)
        guard descriptor >= 0 else { throw lock.failure() }
        defer { close(descriptor) }
        try lock.check(descriptor)
        let end = ContinuousClock.now + .seconds(10)
        // flock(2) locks the open file description, not the process, so that threads of one process also exclude each
        // other.
        while csystem_flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK || errno == EINTR else { throw lock.failure() }
            guard ContinuousClock.now < end else {
                throw AuditError.file(lock.path, reason: "another process has locked it")
            }
            usleep(20_000)
        }
        return try body()
    }

    // MARK: Access

    private func check(_ descriptor: Int32) throws {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure() }
        let problem: String? =
            if status.st_mode & S_IFMT != S_IFREG {
                "it is not a regular file"
            } else if status.st_uid != geteuid() {
                "it belongs to user ID \(status.st_uid), not to user ID \(geteuid())"
            } else if status.st_mode & 0o077 != 0 {
                "other users may access it (mode \(String(status.st_mode & 0o777, radix: 8)))"
            } else {
                nil
            }
        if let problem { throw AuditError.file(path, reason: problem) }
    }

    private func prepareFolder() throws {
        try? StateFolder.make(folder)
        var status = stat()
        guard stat(folder, &status) == 0 else { throw failure() }
        let isOurs = status.st_uid == geteuid() || status.st_uid == 0
        guard isOurs, status.st_mode & 0o022 == 0 || status.st_mode & S_ISVTX != 0 else {
            throw AuditError.file(folder, reason: "other users may write to it")
        }
    }

    private func putAside(_ bytes: [UInt8], _ body: (String) throws -> Void) throws {
        try prepareFolder()
        let temporary = "\(path).\(UInt64.random(in: 0...UInt64.max)).unfinished"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure() }
        defer {
            close(descriptor)
            unlink(temporary)
        }
        try write(bytes, to: descriptor)
        try body(temporary)
        let folder = open(folder, O_RDONLY | O_CLOEXEC)
        guard folder >= 0 else { throw failure() }
        defer { close(folder) }
        guard fsync(folder) == 0 else { throw failure() }
    }

    private func write(_ bytes: [UInt8], to descriptor: Int32) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno != EINTR {
                throw failure()
            }
        }
        guard fsync(descriptor) == 0 else { throw failure() }
    }

    private func failure() -> AuditError {
        let reason = errno == ELOOP ? "it is a symbolic link" : String(cString: strerror(errno))
        return AuditError.file(path, reason: reason)
    }
}

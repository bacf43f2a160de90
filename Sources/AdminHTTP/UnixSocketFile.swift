import CSystem
import Foundation

/// The file of a listening Unix socket. Only its owner has access. Creating the file never replaces a file that belongs
/// to another program or user.
///
/// The socket is bound under a temporary name in the same folder, and listens there. It is then renamed to its final
/// path with a rename that fails if the path exists. A socket at the final path without a listener is therefore left
/// over from an earlier process. A left-over socket of this user is exchanged with the new socket, checked again under
/// the temporary name, which no other program has a reason to touch, and only then removed. If another file replaced
/// the left-over socket between the check and the exchange, the exchange is undone, so that a race cannot destroy a
/// file.
struct UnixSocketFile: Sendable {
    let descriptor: Int32
    private let path: String
    private let identity: Identity

    /// Identifies a file independently of its name.
    private struct Identity: Equatable {
        let device: UInt64
        let inode: UInt64
    }

    /// Creates a socket that listens at a path.
    ///
    /// - Throws: `ServerError`. If another file exists at the path, the error describes that file.
    init(_ path: String) throws {
        let address = ListenAddress.unix(path: path)
        let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "/"
        let name = "\(folder).reeve-\(String(UInt32.random(in: 0 ... .max), radix: 36))"
        guard max(path.utf8.count, name.utf8.count) < Self.capacity else {
            throw ServerError(address, "the path is longer than \(Self.capacity - 1) bytes, the limit for a socket")
        }
        let descriptor = try Self.listening(name, for: address)
        do {
            guard let (identity, _) = Self.inspect(name) else {
                throw ServerError(address, "the socket has disappeared")
            }
            self.identity = identity
            try Self.place(name, at: path, address)
        } catch {
            unlink(name)
            close(descriptor)
            throw error
        }
        self.descriptor = descriptor
        self.path = path
    }

    /// Removes the socket file, if it is still the file that was created here.
    func remove() {
        guard let (found, _) = Self.inspect(path), found == identity else { return }
        let name = "\(path).\(String(UInt64.random(in: 0 ... .max), radix: 36))"
        // Rename the file, and check it again before deleting it. If another file has replaced the socket since the
        // first check, that file is renamed back.
        guard csystem_rename_new(path, name) == 0 else { return }
        if Self.inspect(name)?.identity == identity { unlink(name) } else { csystem_rename_new(name, path) }
    }

    // MARK: Creation

    private static func listening(_ name: String, for address: ListenAddress) throws -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw ServerError(address, ListeningSocket.reason(errno)) }
        // On Linux the file gets the mode of the unbound socket, less the umask (unix(7)). Only the owner has access
        // from the first moment, whatever the umask is. The umask itself is not changed, because it applies to the
        // whole process.
        guard fchmod(descriptor, 0o600) == 0, use(name, { bind(descriptor, $0, $1) }) == 0,
            Foundation.listen(descriptor, ListeningSocket.backlog) == 0
        else {
            let reason = ListeningSocket.reason(errno)
            close(descriptor)
            unlink(name)
            throw ServerError(address, reason)
        }
        return descriptor
    }

    private static func place(_ name: String, at path: String, _ address: ListenAddress) throws {
        if csystem_rename_new(name, path) == 0 { return }
        guard errno == EEXIST else { throw ServerError(address, ListeningSocket.reason(errno)) }
        if let obstacle = obstacle(at: path) { throw refusal(address, obstacle) }
        guard csystem_rename_exchange(name, path) == 0 else {
            throw ServerError(address, "a stale socket cannot be replaced: \(ListeningSocket.reason(errno))")
        }
        if let obstacle = obstacle(at: name) {
            csystem_rename_exchange(name, path)
            throw refusal(address, obstacle)
        }
        unlink(name)
    }

    private static func refusal(_ address: ListenAddress, _ obstacle: String) -> ServerError {
        ServerError(
            address, "\(obstacle) already exists at this path",
            hint: "choose another path, or remove the existing file; only a stale socket of the same user is replaced")
    }

    // MARK: Inspection

    /// Returns a description of the file at the path, which must not be replaced; nil if the file may be replaced,
    /// because it is a socket of this user without a listener.
    private static func obstacle(at path: String) -> String? {
        guard let (_, found) = inspect(path) else { return "something that cannot be inspected" }
        switch found.st_mode & S_IFMT {
        case S_IFSOCK: break
        case S_IFREG: return "a file"
        case S_IFDIR: return "a folder"
        case S_IFLNK: return "a symbolic link"
        case S_IFIFO: return "a pipe"
        default: return "a device"
        }
        guard found.st_uid == geteuid() else { return "a socket of another user (user ID \(found.st_uid))" }
        let probe = socket(
            AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard probe >= 0 else { return "a socket that cannot be probed" }
        defer { close(probe) }
        if use(path, { connect(probe, $0, $1) }) != 0, errno == ECONNREFUSED { return nil }
        return "a socket that another process listens on"
    }

    private static func inspect(_ path: String) -> (identity: Identity, found: stat)? {
        var found = stat()
        guard lstat(path, &found) == 0 else { return nil }
        return (Identity(device: UInt64(found.st_dev), inode: UInt64(found.st_ino)), found)
    }

    private static let capacity = MemoryLayout.size(ofValue: sockaddr_un().sun_path)

    private static func use(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix(capacity - 1)) }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }
}

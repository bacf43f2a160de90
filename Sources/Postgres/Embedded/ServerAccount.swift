import Foundation
import Processes

/// The account under which the server programs run. PostgreSQL refuses to run as root, so it is an unprivileged account
/// if this process runs as root. Otherwise it is the account of this process.
struct ServerAccount: Sendable {
    /// The name or the number of the user; nil: the user of this process.
    let user: String?
    private let uid: uid_t
    private let gid: gid_t

    /// An account that owns no files.
    static let unused = "nobody"

    /// - Parameter isApart: whether `nobody` is preferred to `postgres`, the account of other servers.
    static func current(isApart: Bool = false) -> ServerAccount {
        guard geteuid() == 0 else { return ServerAccount(user: nil, uid: geteuid(), gid: getegid()) }
        for name in isApart ? [unused, "postgres"] : ["postgres", unused] {
            if let entry = getpwnam(name) {
                return ServerAccount(user: name, uid: entry.pointee.pw_uid, gid: entry.pointee.pw_gid)
            }
        }
        return ServerAccount(user: nil, uid: 0, gid: 0)
    }

    /// Returns the account that owns a file, if this process runs as root. Otherwise returns the account of this
    /// process.
    static func owner(of status: stat) -> ServerAccount {
        let isOther = geteuid() == 0 && status.st_uid != 0
        return ServerAccount(
            user: isOther ? String(status.st_uid) : nil, uid: status.st_uid, gid: status.st_gid)
    }

    /// Returns a command that runs as this account. It starts in `/`, which every account may enter.
    func command(_ program: String, _ arguments: [String]) -> Command {
        guard user != nil else { return Command(program, arguments) }
        let switching = ["--reuid", String(uid), "--regid", String(gid), "--clear-groups", "--", program]
        return Command("setpriv", switching + arguments)
    }

    /// Makes this account the owner of a folder that belongs to this account or to the account of this process.
    ///
    /// - Throws: `EmbeddedClusterError.folder` if the folder belongs to a third account, or if `path` is not a folder.
    func own(folder path: String) throws {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        defer { if descriptor >= 0 { close(descriptor) } }
        var status = stat()
        guard descriptor >= 0, fstat(descriptor, &status) == 0, status.st_uid == uid || status.st_uid == geteuid()
        else {
            throw EmbeddedClusterError.folder(path, reason: "it belongs to another user, or is not a folder")
        }
        if user != nil, status.st_uid != uid, fchown(descriptor, uid, gid) != 0 {
            throw EmbeddedClusterError.folder(path, reason: String(cString: strerror(errno)))
        }
    }

    func own(_ path: String) throws {
        if user != nil, lchown(path, uid, gid) != 0 {
            throw EmbeddedClusterError.folder(path, reason: String(cString: strerror(errno)))
        }
    }

    /// - Throws: `EmbeddedClusterError.notEnterable` if this account may not enter `path` or a folder above it.
    func checkEntry(to path: String) throws {
        guard let user else { return }
        var folder = path
        while folder != "/" {
            var status = stat()
            guard stat(folder, &status) == 0 else { break }
            let bits: mode_t = status.st_uid == uid ? S_IXUSR : status.st_gid == gid ? S_IXGRP : S_IXOTH
            if status.st_mode & bits == 0 { throw EmbeddedClusterError.notEnterable(folder: folder, user: user) }
            folder = (folder as NSString).deletingLastPathComponent
        }
    }
}

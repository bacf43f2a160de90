import CSystem
import Foundation

/// Creates the folders below the state folder. Only this type decides who owns them and who may enter them, so that no
/// command locks out another one, or the account of the embedded server.
public enum StateFolder {
    /// Creates a folder, and those above it, if they do not exist. Existing folders are not changed.
    ///
    /// A new folder belongs to the owner of the folder that contains it, even if root creates it. Everybody may enter
    /// the new folders above `path`, whatever the umask: when root runs the embedded PostgreSQL, the server's account
    /// has to pass them. Files and folders with content for one user have modes of their own.
    ///
    /// - Parameter isPrivate: whether only its owner may enter `path`.
    /// - Throws: `EmbeddedClusterError.folder`.
    public static func make(_ path: String, isPrivate: Bool = false) throws {
        let path = URL(fileURLWithPath: path).standardizedFileURL.path
        var status = stat()
        if stat(path, &status) == 0 { return }
        guard errno == ENOENT, path != "/" else { throw failure(path) }
        let above = (path as NSString).deletingLastPathComponent
        try make(above)
        // The folder gets its name last, so that nobody else finds it before it has its owner and mode.
        let unnamed = "\(above)/.reeve-\(UUID().uuidString)"
        guard mkdir(unnamed, 0o700) == 0 else { throw failure(path) }
        defer { rmdir(unnamed) }
        try settle(unnamed, isPrivate)
        if csystem_rename_new(unnamed, path) == 0 { return }
        // Some file systems, as NFS, have only rename(2), which replaces a folder that is empty.
        if errno == EINVAL, rename(unnamed, path) == 0 { return }
        // Another process may have been faster.
        guard errno == EEXIST || errno == ENOTEMPTY else { throw failure(path) }
    }

    /// Returns whether a file or folder belongs to the user of this process, only that user may write it, and it is no
    /// link. What others may write is not trusted.
    public static func isOwn(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0 && status.st_uid == geteuid() && status.st_mode & (S_IWGRP | S_IWOTH) == 0
            && status.st_mode & S_IFMT != S_IFLNK
    }

    /// Gives a new folder its owner and mode.
    private static func settle(_ path: String, _ isPrivate: Bool) throws {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(path) }
        defer { close(descriptor) }
        var (above, own) = (stat(), stat())
        guard stat((path as NSString).deletingLastPathComponent, &above) == 0, fstat(descriptor, &own) == 0 else {
            throw failure(path)
        }
        // In a folder such as /tmp, which everybody may write, the owner says nothing about who will use it.
        let isShared = above.st_mode & S_IWOTH != 0
        guard fchmod(descriptor, isPrivate ? 0o700 : 0o755) == 0 else { throw failure(path) }
        if geteuid() == 0, !isShared, own.st_uid == 0, above.st_uid != 0,
            fchown(descriptor, above.st_uid, above.st_gid) != 0
        {
            throw failure(path)
        }
    }

    private static func failure(_ path: String) -> EmbeddedClusterError {
        .folder(path, reason: String(cString: strerror(errno)))
    }
}

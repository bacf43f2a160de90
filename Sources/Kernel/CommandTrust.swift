import Foundation

extension Configuration {
    /// Checks that a command in the configuration was written by the administrator.
    ///
    /// A command in a file is run only if nobody but root and the user of this process can write the file, or replace
    /// it in one of the folders above it. Otherwise that person could run commands with the rights of this process. A
    /// command in the environment comes from whoever started the process.
    ///
    /// - Parameter name: the name in place of the `*` in the setting's path.
    /// - Throws: `ConfigurationError`.
    public func checkCommand<Value>(
        _ setting: Setting<Value>, _ name: String? = nil
    ) throws(ConfigurationError) {
        guard isSet(setting, name), case .file(let file, let line) = origin(setting, name) else { return }
        guard let writable = Self.writableByOthers(realFile ?? file) else { return }
        throw ConfigurationError(
            file, line, "'\(store.path(setting, name))' is not run, because other users can write \(writable)",
            hint: "chown root \(writable), and chmod go-w \(writable)")
    }

    /// Returns the file, or the folder above it, that users other than root and the user of this process can write; nil
    /// if there is none.
    ///
    /// - Parameter file: an absolute path without links. A link there has been put in the place of a folder.
    static func writableByOthers(_ file: String) -> String? {
        var path = file
        while true {
            var status = stat()
            guard lstat(path, &status) == 0, [0, geteuid()].contains(status.st_uid),
                status.st_mode & S_IFMT != S_IFLNK
            else { return path }
            // In a folder with the sticky bit, only the owner of a file can replace it.
            let isSticky = status.st_mode & S_IFMT == S_IFDIR && status.st_mode & S_ISVTX != 0
            let isOpen = status.st_mode & S_IWOTH != 0
            let isOpenToGroup = status.st_mode & S_IWGRP != 0 && !isPrivate(status.st_gid, of: status.st_uid)
            if !isSticky, isOpen || isOpenToGroup { return path }
            if path == "/" { return nil }
            path = URL(fileURLWithPath: path).deletingLastPathComponent().path
        }
    }

    /// Whether a group is the one of root, or the one that many systems make for each user, with the user's name.
    private static func isPrivate(_ group: gid_t, of user: uid_t) -> Bool {
        if group == 0 { return true }
        guard let account = getpwuid(user), account.pointee.pw_gid == group, let entry = getgrgid(group) else {
            return false
        }
        return strcmp(entry.pointee.gr_name, account.pointee.pw_name) == 0 && entry.pointee.gr_mem.pointee == nil
    }
}

import Foundation

/// An open folder. Operations use its descriptor, so they work in the same folder even if its path changes. They never
/// follow a symbolic link.
final class Folder: Sendable {
    let descriptor: Int32
    /// The path in messages.
    let path: String

    private init(_ descriptor: Int32, _ path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit { close(descriptor) }

    /// Opens a folder that the operator named. Its path may be a symbolic link.
    ///
    /// - Returns: nil if the folder does not exist.
    static func root(_ path: String) throws -> Folder? {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if descriptor >= 0 { return Folder(descriptor, path) }
        if errno == ENOENT { return nil }
        throw failure("open", path)
    }

    /// Opens a folder in this folder.
    ///
    /// - Returns: nil if the folder does not exist.
    func folder(_ name: String) throws -> Folder? {
        let descriptor = openat(self.descriptor, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if descriptor >= 0 { return Folder(descriptor, "\(path)/\(name)") }
        if errno == ENOENT { return nil }
        throw Self.failure("open", "\(path)/\(name)")
    }

    /// Opens a folder in this folder. If the folder does not exist, creates it durably.
    func making(_ name: String) throws -> Folder {
        if let found = try folder(name) { return found }
        if mkdirat(descriptor, name, 0o700) != 0, errno != EEXIST {
            throw Self.failure("create the folder", "\(path)/\(name)")
        }
        try sync()
        guard let made = try folder(name) else { throw Self.failure("create the folder", "\(path)/\(name)") }
        return made
    }

    /// Syncs the folder to disk, so that its list of names is durable.
    func sync() throws {
        // Some file systems do not support fsync on a folder, and return EINVAL or ENOTSUP.
        if fsync(descriptor) != 0, errno != EINVAL, errno != ENOTSUP { throw Self.failure("write", path) }
    }

    /// Opens a regular file for reading.
    ///
    /// - Throws: `StorageError.missing`; `.failed` for a symbolic link and for anything else that is not a regular
    ///   file.
    func file(_ name: String) throws -> Int32 {
        // O_NONBLOCK: do not wait for a writer if the name is a pipe.
        let file = openat(descriptor, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard file >= 0 else {
            throw errno == ENOENT ? StorageError.missing("\(path)/\(name)") : Self.failure("read", "\(path)/\(name)")
        }
        var status = stat()
        guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            close(file)
            throw StorageError.failed(operation: "read", object: "\(path)/\(name)", reason: "it is not a regular file")
        }
        return file
    }

    /// Creates a file. Fails if the name exists.
    func newFile(_ name: String) throws -> Int32 {
        let file = openat(descriptor, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw Self.failure("write", "\(path)/\(name)") }
        return file
    }

    enum Entry {
        case folder(String)
        case file(String, bytes: Int)
    }

    /// Returns the folders and regular files in this folder. Links and other entries are left out.
    func entries() throws -> [Entry] {
        // closedir closes the descriptor, so a separate one is opened.
        let copy = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard copy >= 0, let reader = fdopendir(copy) else {
            if copy >= 0 { close(copy) }
            throw Self.failure("list", path)
        }
        defer { closedir(reader) }
        var entries: [Entry] = []
        errno = 0
        while let entry = readdir(reader) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(validating: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            var status = stat()
            if let name, name != ".", name != "..", fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 {
                switch status.st_mode & S_IFMT {
                case S_IFREG: entries.append(.file(name, bytes: Int(status.st_size)))
                case S_IFDIR: entries.append(.folder(name))
                default: break
                }
            }
            errno = 0
        }
        guard errno == 0 else { throw Self.failure("list", path) }
        return entries
    }

    static func failure(_ operation: String, _ path: String) -> StorageError {
        let reason = errno == ELOOP ? "it is a symbolic link" : String(cString: strerror(errno))
        return .failed(operation: operation, object: path, reason: reason)
    }
}

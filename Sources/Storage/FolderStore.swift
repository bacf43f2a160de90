import Foundation

/// A folder: objects are files that only their owner may read, renamed into place once they are on the disk.
public struct FolderStore: ObjectStore {
    private static let unfinished = ".unfinished"
    private let root: String

    public init(_ root: String) {
        self.root = root.hasSuffix("/") ? String(root.dropLast()) : root
    }

    public var place: String { root }

    private func path(_ name: String) -> String { "\(root)/\(name)" }

    public func write(_ name: String) throws -> any ObjectWriter {
        let path = path(name)
        let folder = (path as NSString).deletingLastPathComponent
        do {
            try FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw StorageError.failed(operation: "make the folder", object: folder, reason: error.localizedDescription)
        }
        let temporary = "\(path).\(UInt64.random(in: 0...UInt64.max))\(Self.unfinished)"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw FileWriter.failure("write", path) }
        return FileWriter(descriptor: descriptor, temporary: temporary, path: path)
    }

    public func read(_ name: String) throws -> any ObjectReader {
        let descriptor = open(path(name), O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw errno == ENOENT ? StorageError.missing(path(name)) : FileWriter.failure("read", path(name))
        }
        return FileReader(descriptor: descriptor, path: path(name))
    }

    public func list(_ prefix: String) throws -> [StoredObject] {
        try files().filter { $0.name.hasPrefix(prefix) && !$0.name.hasSuffix(Self.unfinished) }
    }

    private func files() throws -> [StoredObject] {
        guard FileManager.default.fileExists(atPath: root) else { return [] }
        do {
            return try FileManager.default.subpathsOfDirectory(atPath: root).sorted().compactMap { name in
                var status = stat()
                guard lstat(path(name), &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
                return StoredObject(name: name, bytes: Int(status.st_size))
            }
        } catch {
            throw StorageError.failed(operation: "list", object: root, reason: error.localizedDescription)
        }
    }

    public func delete(_ name: String) throws {
        if unlink(path(name)) != 0, errno != ENOENT { throw FileWriter.failure("delete", path(name)) }
        // A folder that is empty goes too.
        rmdir((path(name) as NSString).deletingLastPathComponent)
    }

    public func clearUnfinished(_ prefix: String) throws -> Int {
        let left = try files().filter { $0.name.hasPrefix(prefix) && $0.name.hasSuffix(Self.unfinished) }
        for file in left { try delete(file.name) }
        return left.count
    }

    public var freeBytes: Int? {
        var status = statvfs()
        var folder = root
        while statvfs(folder, &status) != 0, folder != "/" { folder = (folder as NSString).deletingLastPathComponent }
        // Some file systems say that all numbers there are are free.
        let (bytes, overflow) = UInt(status.f_bavail).multipliedReportingOverflow(by: UInt(status.f_frsize))
        return overflow ? .max : Int(clamping: bytes)
    }
}

private final class FileWriter: ObjectWriter {
    private var descriptor: Int32
    private let temporary: String
    private let path: String

    init(descriptor: Int32, temporary: String, path: String) {
        self.descriptor = descriptor
        self.temporary = temporary
        self.path = path
    }

    deinit { discard() }

    static func failure(_ operation: String, _ path: String) -> StorageError {
        .failed(operation: operation, object: path, reason: String(cString: strerror(errno)))
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes
        while !rest.isEmpty {
            let count = Foundation.write(descriptor, rest.baseAddress, rest.count)
            if count > 0 {
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            } else if errno != EINTR {
                throw Self.failure("write", path)
            }
        }
    }

    func commit() throws {
        guard fsync(descriptor) == 0 else { throw Self.failure("write", path) }
        let closed = close(descriptor)
        descriptor = -1
        guard closed == 0, rename(temporary, path) == 0 else {
            let failure = Self.failure("write", path)
            unlink(temporary)
            throw failure
        }
        // The name is on the disk once its folder is.
        let folder = open((path as NSString).deletingLastPathComponent, O_RDONLY | O_CLOEXEC)
        guard folder >= 0 else { throw Self.failure("write", path) }
        defer { close(folder) }
        guard fsync(folder) == 0 else { throw Self.failure("write", path) }
    }

    func discard() {
        guard descriptor >= 0 else { return }
        close(descriptor)
        descriptor = -1
        unlink(temporary)
    }
}

/// Used by one thread at a time, though not always by the same.
private final class FileReader: ObjectReader, @unchecked Sendable {
    private let descriptor: Int32
    private let path: String

    init(descriptor: Int32, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit { close(descriptor) }

    func next() throws -> [UInt8]? {
        while true {
            var bytes = [UInt8](repeating: 0, count: 65536)
            let count = read(descriptor, &bytes, bytes.count)
            if count > 0 { return Array(bytes[..<count]) }
            if count == 0 { return nil }
            if errno != EINTR { throw FileWriter.failure("read", path) }
        }
    }
}

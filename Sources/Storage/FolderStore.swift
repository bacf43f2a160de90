import Foundation

/// A store in a folder. Objects are files that only their owner may read. A file is renamed to its final name once its
/// contents are on disk.
///
/// Below the root no symbolic link is followed, so that another user with write access cannot redirect the store. Only
/// `make` creates the root: on a machine whose disk is not mounted, a write would otherwise fill another disk.
public struct FolderStore: ObjectStore {
    private static let unfinished = ".unfinished"
    private let root: String

    public init(_ root: String) {
        self.root = root.utf8.count > 1 && root.hasSuffix("/") ? String(root.dropLast()) : root
    }

    public var place: String { root }

    @available(*, noasync, message: "use BoundedStore")
    public func write(_ name: String) throws -> any ObjectWriter {
        let (parts, last) = try Self.split(name)
        guard var folder = try Folder.root(root) else {
            throw StorageError.failed(operation: "write", object: root, reason: "the folder does not exist")
        }
        for part in parts { folder = try folder.making(part) }
        let temporary = "\(last).\(UInt64.random(in: 0...UInt64.max))\(Self.unfinished)"
        return FileWriter(folder, try folder.newFile(temporary), temporary: temporary, name: last)
    }

    @available(*, noasync, message: "use BoundedStore")
    public func read(_ name: String) throws -> any ObjectReader {
        let (parts, last) = try Self.split(name)
        guard let folder = try folder(parts) else { throw StorageError.missing("\(root)/\(name)") }
        return FileReader(try folder.file(last), path: "\(root)/\(name)")
    }

    @available(*, noasync, message: "use BoundedStore")
    public func list(_ prefix: String) throws -> [StoredObject] {
        try files(prefix).filter { !$0.name.hasSuffix(Self.unfinished) }
    }

    @available(*, noasync, message: "use BoundedStore")
    public func delete(_ name: String) throws {
        let (parts, last) = try Self.split(name)
        guard let folder = try folder(parts) else { return }
        if unlinkat(folder.descriptor, last, 0) != 0, errno != ENOENT {
            throw Folder.failure("delete", "\(root)/\(name)")
        }
        // The parent folder is removed too if it is empty.
        guard let parent = parts.last, let above = try self.folder(parts.dropLast()) else { return }
        unlinkat(above.descriptor, parent, AT_REMOVEDIR)
    }

    @available(*, noasync, message: "use BoundedStore")
    public func clearUnfinished(_ prefix: String) throws -> Int {
        let left = try files(prefix).filter { $0.name.hasSuffix(Self.unfinished) }
        for file in left { try delete(file.name) }
        try clearEmptyFolders(prefix)
        return left.count
    }

    /// Removes the empty folders directly below a prefix, which interrupted writers leave behind. Also removes the
    /// folder of the prefix itself if it is empty, unless it is directly below the root.
    private func clearEmptyFolders(_ prefix: String) throws {
        let parts = prefix.utf8.split(separator: UInt8(ascii: "/")).compactMap(String.init)
        guard prefix.hasSuffix("/"), ObjectName.isValid(parts.joined(separator: "/")),
            let folder = try folder(parts[...])
        else { return }
        for case .folder(let name) in try folder.entries() {
            // A folder that is not empty is not removed.
            unlinkat(folder.descriptor, name, AT_REMOVEDIR)
        }
        if parts.count > 1, let last = parts.last, let parent = try self.folder(parts.dropLast()) {
            unlinkat(parent.descriptor, last, AT_REMOVEDIR)
        }
    }

    @available(*, noasync, message: "use BoundedStore")
    public var freeBytes: Int? {
        var status = statvfs()
        var folder = root
        while statvfs(folder, &status) != 0 {
            guard errno == ENOENT, let parent = Self.parent(of: folder) else { return nil }
            folder = parent
        }
        // Some file systems report the largest possible number of free blocks, so the product may overflow.
        let (bytes, overflow) = UInt(status.f_bavail).multipliedReportingOverflow(by: UInt(status.f_frsize))
        return overflow ? .max : Int(clamping: bytes)
    }

    // MARK: Folders

    private static func split(_ name: String) throws -> (folders: ArraySlice<String>, last: String) {
        try ObjectName.check(name)
        let parts = name.utf8.split(separator: UInt8(ascii: "/")).compactMap(String.init)
        guard let last = parts.last else { throw StorageError.badName(name) }
        return (parts.dropLast(), last)
    }

    /// Opens the folder at a path below the root.
    ///
    /// - Returns: nil if a folder is missing.
    private func folder(_ parts: ArraySlice<String>) throws -> Folder? {
        guard var folder = try Folder.root(root) else { return nil }
        for part in parts {
            guard let next = try folder.folder(part) else { return nil }
            folder = next
        }
        return folder
    }

    /// Returns the path of a folder's parent: `.` for a relative path with one component; nil if the folder has no
    /// parent.
    private static func parent(of path: String) -> String? {
        let parent = (path as NSString).deletingLastPathComponent
        let above = parent.isEmpty ? "." : parent
        return above == path ? nil : above
    }

    /// Creates the folder and its missing parents durably.
    @available(*, noasync, message: "use BoundedStore")
    public func make() throws {
        if try Folder.root(root) != nil { return }
        // The parents of the folders that are created. They are synced afterwards, so that the new folders are durable.
        var above: [String] = []
        var path = root
        while !FileManager.default.fileExists(atPath: path), let parent = Self.parent(of: path) {
            path = parent
            above.append(path)
        }
        do {
            try FileManager.default.createDirectory(
                atPath: root, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw StorageError.failed(operation: "create the folder", object: root, reason: error.localizedDescription)
        }
        // A folder that cannot be opened cannot be synced, and is skipped.
        for folder in above { if let folder = try? Folder.root(folder) { try folder.sync() } }
    }

    private func files(_ prefix: String) throws -> [StoredObject] {
        // Searches only the folder that the prefix names.
        let parts = prefix.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).dropLast()
            .compactMap(String.init)
        let start = parts.joined(separator: "/")
        guard parts.isEmpty || ObjectName.isValid(start), let folder = try folder(parts[...]) else { return [] }
        var found: [StoredObject] = []
        try Self.walk(folder, start.isEmpty ? "" : start + "/", depth: 0, &found)
        return found.filter { $0.name.utf8.starts(with: prefix.utf8) }.sorted { $0.name < $1.name }
    }

    private static func walk(
        _ folder: Folder, _ prefix: String, depth: Int, _ found: inout [StoredObject]
    ) throws {
        for entry in try folder.entries() {
            switch entry {
            case .file(let name, let bytes): found.append(StoredObject(name: prefix + name, bytes: bytes))
            case .folder(let name):
                // The depth is limited because each open level uses a file descriptor. The folders that Reeve creates
                // are two levels deep.
                // A file system keeps recovered files in `lost+found` at its root, which only root may read.
                if depth == 0, prefix.isEmpty, name == "lost+found" { continue }
                guard depth < 32, let inner = try folder.folder(name) else { continue }
                try walk(inner, "\(prefix)\(name)/", depth: depth + 1, &found)
            }
        }
    }
}

private final class FileWriter: ObjectWriter {
    private var descriptor: Int32
    private let folder: Folder
    private let temporary: String
    private let name: String
    private var path: String { "\(folder.path)/\(name)" }

    init(_ folder: Folder, _ descriptor: Int32, temporary: String, name: String) {
        self.folder = folder
        self.descriptor = descriptor
        self.temporary = temporary
        self.name = name
    }

    deinit { discard() }

    func write(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes
        while !rest.isEmpty {
            let count = Foundation.write(descriptor, rest.baseAddress, rest.count)
            if count > 0 {
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            } else if errno != EINTR {
                throw Folder.failure("write", path)
            }
        }
    }

    func commit() throws {
        guard fsync(descriptor) == 0 else { throw Folder.failure("write", path) }
        let closed = close(descriptor)
        descriptor = -1
        // A symbolic link with the final name is replaced, not followed.
        guard closed == 0, renameat(folder.descriptor, temporary, folder.descriptor, name) == 0 else {
            let failure = Folder.failure("write", path)
            unlinkat(folder.descriptor, temporary, 0)
            throw failure
        }
        // The new name is durable only after the folder is synced.
        try folder.sync()
    }

    func discard() {
        guard descriptor >= 0 else { return }
        close(descriptor)
        descriptor = -1
        unlinkat(folder.descriptor, temporary, 0)
    }
}

/// Reads a file. A reader is used by one thread at a time, but not always by the same thread.
private final class FileReader: ObjectReader, @unchecked Sendable {
    private let descriptor: Int32
    private let path: String

    init(_ descriptor: Int32, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit { close(descriptor) }

    func next() throws -> [UInt8]? {
        while true {
            let bytes = try [UInt8](unsafeUninitializedCapacity: 65536) { buffer, filled in
                let count = read(descriptor, buffer.baseAddress, buffer.count)
                if count < 0, errno != EINTR { throw Folder.failure("read", path) }
                filled = max(0, count)
                isAtEnd = count == 0
            }
            if !bytes.isEmpty { return bytes }
            if isAtEnd { return nil }
        }
    }

    private var isAtEnd = false
}

import Foundation

/// The mark of a repository: an object at its root that `reeve backup init` writes once.
///
/// Without the mark nothing is written. So a mount point whose disk is not mounted does not fill with backups, and a
/// mistyped path is not made. The random identifier tells two repositories at the same path apart.
public struct RepositoryMark: Codable, Sendable, Equatable {
    public let format: Int
    /// A random UUID.
    public let id: String
    /// When the repository was initialized.
    public let since: String

    /// The name of the object. No database has this name, because the name of a database cannot contain a dot.
    public static let name = "repository.json"
    private static let format = 1
    /// The maximum size of a mark in bytes.
    private static let limit = 65536

    public init(since: String) {
        format = Self.format
        id = UUID().uuidString.lowercased()
        self.since = since
    }

    /// The stored form: one line of JSON.
    public func encoded() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return Array(try encoder.encode(self)) + [UInt8(ascii: "\n")]
    }

    /// Reads the mark. The call blocks.
    ///
    /// - Returns: nil if there is none.
    /// - Throws: `StorageError.unmarked` for a mark that is not valid; the errors of the store.
    @available(*, noasync, message: "use BoundedStore")
    public static func read(in store: any ObjectStore) throws -> RepositoryMark? {
        var bytes: [UInt8] = []
        do {
            let reader = try store.read(name)
            while bytes.count <= limit, let piece = try reader.next() { bytes += piece }
        } catch StorageError.missing {
            return nil
        }
        guard let mark = try? JSONDecoder().decode(RepositoryMark.self, from: Data(bytes)),
            UUID(uuidString: mark.id) != nil
        else { throw StorageError.unmarked(place: store.place, reason: "\(name) cannot be read") }
        guard mark.format == format else {
            throw StorageError.unmarked(
                place: store.place, reason: "the format \(mark.format) of \(name) is not supported")
        }
        return mark
    }

    /// Reads the mark, which must exist. The call blocks.
    ///
    /// - Throws: the errors of `read`; `StorageError.unmarked` if there is none.
    @available(*, noasync, message: "use BoundedStore")
    public static func require(in store: any ObjectStore) throws -> RepositoryMark {
        if let mark = try read(in: store) { return mark }
        throw StorageError.unmarked(place: store.place, reason: "it has no \(name)")
    }
}

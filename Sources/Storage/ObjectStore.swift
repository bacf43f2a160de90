/// Where backups lie: named objects that are written once, whole or not at all.
///
/// Names are paths with `/` between their parts. All calls block, and are made on threads of their own.
public protocol ObjectStore: Sendable {
    /// Where it is, for messages; holds no secret.
    var place: String { get }

    /// Begins an object; it is there once the writer is committed.
    ///
    /// - Throws: `StorageError`.
    func write(_ name: String) throws -> any ObjectWriter

    /// Opens an object.
    ///
    /// - Throws: `StorageError.missing`.
    func read(_ name: String) throws -> any ObjectReader

    /// The objects whose names begin so, in order.
    func list(_ prefix: String) throws -> [StoredObject]

    /// Removes an object; one that is not there is no error.
    func delete(_ name: String) throws

    /// Removes what writers left that were killed, in names that begin so. The caller makes sure that nobody writes there.
    ///
    /// - Returns: how many there were.
    func clearUnfinished(_ prefix: String) throws -> Int

    /// Bytes that are free; nil where nobody can tell.
    var freeBytes: Int? { get }
}

public struct StoredObject: Sendable, Equatable {
    public let name: String
    public let bytes: Int

    public init(name: String, bytes: Int) {
        self.name = name
        self.bytes = bytes
    }
}

/// Writes one object. Without `commit` there is nothing of it.
public protocol ObjectWriter: AnyObject {
    func write(_ bytes: UnsafeRawBufferPointer) throws
    /// Makes the object durable and visible at once.
    func commit() throws
    func discard()
}

/// Reads one object from its start.
public protocol ObjectReader: AnyObject, Sendable {
    /// The next piece; nil at the end.
    func next() throws -> [UInt8]?
}

/// What storage could not do.
public enum StorageError: Error, CustomStringConvertible {
    case missing(String)
    case failed(operation: String, object: String, reason: String)
    case badLocation(String, reason: String)
    case noCredentials(place: String, file: String, profile: String)

    public var description: String {
        switch self {
        case .badLocation(let text, let reason): "'\(text)' is no place for backups: \(reason)"
        case .noCredentials(let place, let file, let profile):
            "nothing says who writes to \(place): \(file) has no profile '\(profile)'"
        case .missing(let object): "\(object) is not there"
        case .failed(let operation, let object, let reason): "cannot \(operation) \(object): \(reason)"
        }
    }

    public var hint: String? {
        switch self {
        case .missing: "'reeve backup verify' lists what is missing"
        case .badLocation: "write a folder, or s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION"
        case .noCredentials: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write the profile"
        case .failed: "check that the repository has room and may be written to"
        }
    }
}

import Processes
import Reporting

/// A place that stores backups as named objects. An object is written once, atomically. Each kind of storage implements
/// this protocol. Other code calls it through `BoundedStore`, which makes the calls on separate threads.
///
/// Names are paths with `/` between their parts. All calls block, and some kinds of storage may block forever, so the
/// compiler does not allow async functions to call them.
public protocol ObjectStore: Sendable {
    /// The location of the store in messages. Contains no secret.
    var place: String { get }

    /// Creates the place if it does not exist. No other call does this.
    @available(*, noasync, message: "use BoundedStore")
    func make() throws

    /// Begins to write an object. The object exists once its writer is committed.
    ///
    /// - Throws: `StorageError`.
    @available(*, noasync, message: "use BoundedStore")
    func write(_ name: String) throws -> any ObjectWriter

    /// Opens an object.
    ///
    /// - Throws: `StorageError.missing`.
    @available(*, noasync, message: "use BoundedStore")
    func read(_ name: String) throws -> any ObjectReader

    /// Returns the objects whose names have a prefix, in the order of their names.
    @available(*, noasync, message: "use BoundedStore")
    func list(_ prefix: String) throws -> [StoredObject]

    /// Removes an object. It is not an error if the object does not exist.
    @available(*, noasync, message: "use BoundedStore")
    func delete(_ name: String) throws

    /// Removes the unfinished objects whose names begin with `prefix`. Killed writers leave unfinished objects behind.
    /// The caller ensures that no writer of an object with this prefix is active.
    ///
    /// - Returns: the number of removed objects.
    @available(*, noasync, message: "use BoundedStore")
    func clearUnfinished(_ prefix: String) throws -> Int

    /// The free space in bytes; nil if it is unknown.
    @available(*, noasync, message: "use BoundedStore")
    var freeBytes: Int? { get }

    /// Returns a store for the same place. If the kind of storage supports it, calls of that store end soon after the
    /// flag is raised.
    func stopping(by flag: StopFlag) -> any ObjectStore
}

extension ObjectStore {
    /// Does nothing. This is the default for places that must exist already, such as buckets.
    public func make() throws {}

    public func stopping(by flag: StopFlag) -> any ObjectStore { self }
}

public struct StoredObject: Sendable, Equatable {
    public let name: String
    public let bytes: Int

    public init(name: String, bytes: Int) {
        self.name = name
        self.bytes = bytes
    }
}

/// Writes one object. If the writer is not committed, the object does not exist.
public protocol ObjectWriter: AnyObject {
    func write(_ bytes: UnsafeRawBufferPointer) throws
    /// Makes the object durable and visible in one step.
    func commit() throws
    func discard()
}

/// Reads one object from its start.
public protocol ObjectReader: AnyObject, Sendable {
    /// Returns the next piece; nil at the end.
    func next() throws -> [UInt8]?
}

/// An error of a store.
public enum StorageError: Error, CustomStringConvertible {
    case missing(String)
    case failed(operation: String, object: String, reason: String)
    case badLocation(String, reason: String)
    case noCredentials(place: String, file: String, profile: String)
    /// The store did not answer within the limit.
    case late(operation: String, object: String, limit: Duration)
    /// The store was not called, because too many earlier calls have not returned.
    case hung(place: String, calls: Int)
    case badName(String)
    case tooLarge(String)
    /// The place has no valid mark of a repository (`RepositoryMark`).
    case unmarked(place: String, reason: String)
    /// The place cannot become a repository, because it contains objects that are not part of one.
    case occupied(place: String, object: String)

    public var description: String {
        switch self {
        case .badLocation(let text, let reason): "'\(text)' is not the address of a repository: \(reason)"
        case .noCredentials(let place, let file, let profile):
            "no credentials found for \(place): \(file) has no profile '\(profile)'"
        case .late(let operation, let object, let limit):
            "cannot \(operation) \(object): no answer within \(limit.components.seconds) s"
        case .hung(let place, let calls): "\(place) does not answer: \(calls) calls to it are still pending"
        case .badName(let name): "\(name.debugDescription) is not a valid object name"
        case .missing(let object): "\(object) is missing"
        case .tooLarge(let object): "\(object) is too large"
        case .unmarked(let place, let reason): "\(place) is not a repository: \(reason)"
        case .occupied(let place, let object): "\(place) already contains other files, such as \(visible(object))"
        case .failed(let operation, let object, let reason): "cannot \(operation) \(object): \(reason)"
        }
    }

    public var hint: String? {
        switch self {
        case .missing: "list the missing objects with 'reeve backup verify'"
        case .badLocation: "write \(RepositoryKind.all.flatMap(\.forms).joined(separator: ", or "))"
        case .noCredentials: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or add the profile"
        case .late:
            "check that its server or mount answers; backup.call_limit and backup.stall_limit set the time limits"
        case .hung:
            "check that its server or mount answers; the repository is used again once the pending calls have returned"
        case .badName, .tooLarge: nil
        case .unmarked:
            "check that its disk is mounted; if it is to be a new repository, or one of an earlier version, run "
                + "'reeve backup init'"
        case .occupied: "name an empty folder, or an empty prefix of a bucket"
        case .failed: "check that the repository has free space and is writable"
        }
    }
}

extension StorageError {
    /// Whether the error may concern only one object, so that other objects of the store may still be readable and
    /// writable.
    public var isOfOneObject: Bool {
        switch self {
        case .missing, .failed: true
        default: false
        }
    }
}

extension StorageError: ReportedError {
    public static let codes = [ErrorCode("storage", [.failed], "A repository cannot be read or written.")]

    public var report: ErrorReport { ErrorReport(description, code: "storage", hint: hint) }
}

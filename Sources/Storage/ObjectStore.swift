import Processes
import Reporting

/// Where backups lie: named objects that are written once, whole or not at all. This is how a place is implemented;
/// whoever uses one does it through `BoundedStore`, which makes the calls on threads of their own.
///
/// Names are paths with `/` between their parts. All calls block, some places' for ever: the compiler lets no async
/// function make them.
public protocol ObjectStore: Sendable {
    /// Where it is, for messages; holds no secret.
    var place: String { get }

    /// Begins an object; it is there once the writer is committed.
    ///
    /// - Throws: `StorageError`.
    @available(*, noasync, message: "use BoundedStore")
    func write(_ name: String) throws -> any ObjectWriter

    /// Opens an object.
    ///
    /// - Throws: `StorageError.missing`.
    @available(*, noasync, message: "use BoundedStore")
    func read(_ name: String) throws -> any ObjectReader

    /// The objects whose names begin so, in order.
    @available(*, noasync, message: "use BoundedStore")
    func list(_ prefix: String) throws -> [StoredObject]

    /// Removes an object; one that is not there is no error.
    @available(*, noasync, message: "use BoundedStore")
    func delete(_ name: String) throws

    /// Removes what writers left that were killed, in names that begin so. The caller makes sure that nobody writes there.
    ///
    /// - Returns: how many there were.
    @available(*, noasync, message: "use BoundedStore")
    func clearUnfinished(_ prefix: String) throws -> Int

    /// Bytes that are free; nil where nobody can tell.
    @available(*, noasync, message: "use BoundedStore")
    var freeBytes: Int? { get }

    /// The same place, whose calls end soon once the flag is raised, where that can be done.
    func stopping(by flag: StopFlag) -> any ObjectStore
}

extension ObjectStore {
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
    /// It has not answered in time.
    case late(operation: String, object: String, limit: Duration)
    /// It was not asked, for so many calls to it have not come back.
    case hung(place: String, calls: Int)
    case badName(String)
    case tooLarge(String)

    public var description: String {
        switch self {
        case .badLocation(let text, let reason): "'\(text)' is not the address of a repository: \(reason)"
        case .noCredentials(let place, let file, let profile):
            "there are no credentials for \(place): \(file) has no profile '\(profile)'"
        case .late(let operation, let object, let limit):
            "cannot \(operation) \(object): no answer within \(limit.components.seconds) s"
        case .hung(let place, let calls): "\(place) does not answer: \(calls) calls to it are still pending"
        case .badName(let name): "\(name.debugDescription) is not a valid object name"
        case .missing(let object): "\(object) is missing"
        case .tooLarge(let object): "\(object) is too large"
        case .failed(let operation, let object, let reason): "cannot \(operation) \(object): \(reason)"
        }
    }

    public var hint: String? {
        switch self {
        case .missing: "'reeve backup verify' lists what is missing"
        case .badLocation: "write \(RepositoryKind.all.flatMap(\.forms).joined(separator: ", or "))"
        case .noCredentials: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or add the profile"
        case .late:
            "check that its server or mount answers; backup.call_limit and backup.stall_limit set the time limits"
        case .hung: "check that its server or mount answers; it is used again once the pending calls have returned"
        case .badName, .tooLarge: nil
        case .failed: "check that the repository has free space and is writable"
        }
    }
}

extension StorageError {
    /// Whether it may be one object that cannot be read, while the place answers.
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

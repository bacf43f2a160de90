import Processes

/// A store whose calls run on separate threads, each with a time limit. A call that hangs blocks only its caller, and
/// only until the limit.
///
/// A call that exceeds its limit, or whose caller is cancelled, is abandoned. An S3 request is aborted then. A call to
/// a folder on a hanging mount keeps its thread until the call returns. If too many such threads exist, further calls
/// fail immediately.
public final class BoundedStore: Sendable {
    public struct Limits: Sendable, Equatable {
        /// The limit of one call: a listing, the removal of an object, or the transfer of a small object.
        public var call: Duration = .seconds(120)
        /// How long the transfer of an object as a stream may make no progress.
        public var stall: Duration = .seconds(300)
        /// The number of hung calls to one place at which further calls fail immediately.
        public var hung = 4

        public init() {}
    }

    /// The maximum size in bytes of a small object, such as a manifest or a proof. Larger objects are read as streams.
    private static let smallObject = 256 << 20

    /// The location of the store in messages. Contains no secret.
    public let place: String
    public let limits: Limits
    private let store: any ObjectStore
    private let threads: BoundedThreads

    public init(_ store: any ObjectStore, limits: Limits = Limits()) {
        self.store = store
        self.limits = limits
        place = store.place
        threads = BoundedThreads.named(store.place)
    }

    /// The number of abandoned calls to the place, in the whole process, that have not returned.
    public var hung: Int { threads.hung }

    /// The underlying store, for callers that already run on a thread of `BoundedThreads.named(place)`.
    public var blocking: any ObjectStore { store }

    // MARK: Calls

    /// Creates the place if it does not exist.
    public func make() async throws { try await call("create", "") { try $0.make() } }

    /// Returns the mark of the repository; nil if the place has none.
    ///
    /// - Throws: `StorageError.unmarked` for a mark that is not valid; the other errors of a call.
    public func mark() async throws -> RepositoryMark? {
        try await call("read", RepositoryMark.name) { try RepositoryMark.read(in: $0) }
    }

    /// Returns the mark of the repository, which must exist.
    ///
    /// - Throws: `StorageError.unmarked` if there is none; the errors of `mark`.
    public func requireMark() async throws -> RepositoryMark {
        try await call("read", RepositoryMark.name) { try RepositoryMark.require(in: $0) }
    }

    /// Returns the objects whose names have a prefix, in the order of their names. Objects with invalid names are left
    /// out.
    ///
    /// - Throws: `StorageError`; `CancellationError`. The other calls throw the same errors.
    public func list(_ prefix: String) async throws -> [StoredObject] {
        try await call("list", prefix) { try $0.list(prefix).filter { ObjectName.isValid($0.name) } }
    }

    /// Returns all objects, also those with invalid names.
    public func listAll() async throws -> [StoredObject] { try await call("list", "") { try $0.list("") } }

    /// Removes an object. It is not an error if the object does not exist.
    public func delete(_ name: String) async throws {
        try ObjectName.check(name)
        try await call("delete", name) { try $0.delete(name) }
    }

    /// Removes the unfinished objects whose names begin with `prefix`. Killed writers leave unfinished objects behind.
    /// The caller ensures that no writer of an object with this prefix is active.
    ///
    /// - Returns: the number of removed objects.
    public func clearUnfinished(_ prefix: String) async throws -> Int {
        try await call("remove unfinished objects from", prefix) { try $0.clearUnfinished(prefix) }
    }

    /// Returns the free space in bytes; nil if it is unknown.
    public func freeBytes() async throws -> Int? {
        try await call("determine the free space of", "") { $0.freeBytes }
    }

    /// Returns the contents of a small object.
    public func bytes(of name: String) async throws -> [UInt8] {
        try ObjectName.check(name)
        let full = full(name)
        return try await call("read", name) { store in
            let reader = try store.read(name)
            var all: [UInt8] = []
            while let piece = try reader.next() {
                all += piece
                guard all.count <= Self.smallObject else { throw StorageError.tooLarge(full) }
            }
            return all
        }
    }

    /// Writes a small object atomically.
    ///
    /// - Throws: `StorageError.tooLarge` if the object exceeds the size that `bytes(of:)` can read.
    public func write(_ bytes: [UInt8], to name: String) async throws {
        try ObjectName.check(name)
        guard bytes.count <= Self.smallObject else { throw StorageError.tooLarge(full(name)) }
        try await call("write", name) { store in
            let writer = try store.write(name)
            try bytes.withUnsafeBytes { try writer.write($0) }
            try writer.commit()
        }
    }

    private func call<T: Sendable>(
        _ operation: String, _ object: String, _ body: @escaping @Sendable (any ObjectStore) throws -> T
    ) async throws -> T {
        let stop = StopFlag()
        let store = store.stopping(by: stop)
        do {
            return try await threads.call(limit: limits.call, hungLimit: limits.hung, stop: stop) { try body(store) }
        } catch let error as BoundedThreads.GivenUp {
            throw failure(error, operation, full(object))
        }
    }

    private func full(_ object: String) -> String { object.isEmpty ? place : "\(place)/\(object)" }

    func failure(_ error: BoundedThreads.GivenUp, _ operation: String, _ object: String) -> StorageError {
        switch error {
        case .late(let limit): .late(operation: operation, object: object, limit: limit)
        case .tooManyHung(let count): .hung(place: place, calls: count)
        }
    }

    // MARK: Streams

    /// Returns a reader of an object. The reader has its own thread, which reads ahead of the caller.
    ///
    /// - Throws: `StorageError.hung`, `.badName`. If the object is missing, the first call of `next` throws.
    public func reader(of name: String) throws -> StreamReader {
        try ObjectName.check(name)
        let stop = StopFlag()
        return StreamReader(store.stopping(by: stop), name, try thread("read", name, stop))
    }

    /// Returns a writer of an object. The writer has its own thread, which writes the queued bytes while the caller
    /// continues. The object exists after `commit`.
    ///
    /// - Throws: `StorageError.hung`, `.badName`. If the object cannot be written, the calls of `push` throw.
    public func writer(of name: String) throws -> StreamWriter {
        try ObjectName.check(name)
        let stop = StopFlag()
        return StreamWriter(store.stopping(by: stop), name, try thread("write", name, stop))
    }

    private func thread(_ operation: String, _ name: String, _ stop: StopFlag) throws -> StreamThread {
        do {
            return StreamThread(
                operation, full(name), limit: limits.stall, try threads.lane(hungLimit: limits.hung), stop)
        } catch let error as BoundedThreads.GivenUp {
            throw failure(error, "use", place)
        }
    }
}

import Processes

/// A store whose calls are made on threads of their own, each with a limit: one that hangs holds up nobody but its caller,
/// and that not for longer than the limit.
///
/// A call that is late, or whose caller is cancelled, is left behind: S3's requests are broken off then, while a folder on
/// a mount that hangs keeps its thread until it comes back. Beside too many such threads further calls fail at once.
public final class BoundedStore: Sendable {
    public struct Limits: Sendable, Equatable {
        /// For one call: a listing, an object's removal, a small object.
        public var call: Duration = .seconds(120)
        /// How long an object that is read or written as a stream may not move.
        public var stall: Duration = .seconds(300)
        /// Beside how many hung calls to one place further ones fail at once.
        public var hung = 4

        public init() {}
    }

    /// What a manifest or a proof may have; whatever is larger is read as a stream.
    private static let smallObject = 256 << 20

    /// Where it is, for messages; holds no secret.
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

    /// How many calls to the place were left behind and have not come back, in the whole process.
    public var hung: Int { threads.hung }

    /// The store itself, for what is done with it on a thread of `BoundedThreads.named(place)`.
    public var blocking: any ObjectStore { store }

    // MARK: Calls

    /// The objects whose names begin so, in order; those with names that no writer gives are passed over.
    ///
    /// - Throws: `StorageError`; `CancellationError`. So do all others.
    public func list(_ prefix: String) async throws -> [StoredObject] {
        try await call("list", prefix) { try $0.list(prefix).filter { ObjectName.isValid($0.name) } }
    }

    /// Removes an object; one that is not there is no error.
    public func delete(_ name: String) async throws {
        try ObjectName.check(name)
        try await call("delete", name) { try $0.delete(name) }
    }

    /// Removes what writers left that were killed, in names that begin so. The caller makes sure that nobody writes there.
    ///
    /// - Returns: how many there were.
    public func clearUnfinished(_ prefix: String) async throws -> Int {
        try await call("clear what is unfinished in", prefix) { try $0.clearUnfinished(prefix) }
    }

    /// Bytes that are free; nil where nobody can tell.
    public func freeBytes() async throws -> Int? {
        try await call("tell what is free in", "") { $0.freeBytes }
    }

    /// A small object, whole.
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

    /// Writes a small object, whole or not at all.
    ///
    /// - Throws: `StorageError.tooLarge` for one that could not be read again.
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

    /// An object that is read by a thread of its own, a little ahead of who reads it.
    ///
    /// - Throws: `StorageError.hung`, `.badName`; whether the object is there, its first piece tells.
    public func reader(of name: String) throws -> StreamReader {
        try ObjectName.check(name)
        let stop = StopFlag()
        return StreamReader(store.stopping(by: stop), name, try thread("read", name, stop))
    }

    /// An object that is written by a thread of its own, a little behind who writes it; it is there once it is committed.
    ///
    /// - Throws: `StorageError.hung`, `.badName`; whether it can be written, the first pieces tell.
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

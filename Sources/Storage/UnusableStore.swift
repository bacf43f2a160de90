/// A store that cannot be used as it is configured. Every call fails with the reason, so that the other repositories
/// still work.
public struct UnusableStore: ObjectStore {
    public let place: String
    private let error: StorageError

    public init(_ place: String, _ error: StorageError) {
        self.place = place
        self.error = error
    }

    @available(*, noasync, message: "use BoundedStore")
    public func write(_ name: String) throws -> any ObjectWriter { throw error }
    @available(*, noasync, message: "use BoundedStore")
    public func read(_ name: String) throws -> any ObjectReader { throw error }
    @available(*, noasync, message: "use BoundedStore")
    public func list(_ prefix: String) throws -> [StoredObject] { throw error }
    @available(*, noasync, message: "use BoundedStore")
    public func delete(_ name: String) throws { throw error }
    @available(*, noasync, message: "use BoundedStore")
    public func clearUnfinished(_ prefix: String) throws -> Int { throw error }
    @available(*, noasync, message: "use BoundedStore")
    public var freeBytes: Int? { nil }
}

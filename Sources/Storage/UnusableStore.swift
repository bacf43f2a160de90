/// A place that cannot be used as it is configured: everything that is asked of it fails with the reason, so that other
/// places go on.
public struct UnusableStore: ObjectStore {
    public let place: String
    private let error: StorageError

    public init(_ place: String, _ error: StorageError) {
        self.place = place
        self.error = error
    }

    public func write(_ name: String) throws -> any ObjectWriter { throw error }
    public func read(_ name: String) throws -> any ObjectReader { throw error }
    public func list(_ prefix: String) throws -> [StoredObject] { throw error }
    public func delete(_ name: String) throws { throw error }
    public func clearUnfinished(_ prefix: String) throws -> Int { throw error }
    public var freeBytes: Int? { nil }
}

import Foundation
import Storage

/// A store that fails once so many bytes were written to it.
final class FullStore: ObjectStore {
    private let inner: FolderStore
    private let left: Left

    /// What may still be written, by all its writers.
    final class Left: @unchecked Sendable {
        // Under the lock.
        private var bytes: Int
        private let lock = NSLock()

        init(_ bytes: Int) { self.bytes = bytes }

        func take(_ count: Int) throws {
            try lock.withLock {
                bytes -= count
                if bytes < 0 {
                    throw StorageError.failed(operation: "write", object: "it", reason: "No space left on device")
                }
            }
        }
    }

    private final class Writer: ObjectWriter {
        private let inner: any ObjectWriter
        private let left: Left

        init(_ inner: any ObjectWriter, _ left: Left) {
            self.inner = inner
            self.left = left
        }

        func write(_ bytes: UnsafeRawBufferPointer) throws {
            try left.take(bytes.count)
            try inner.write(bytes)
        }
        func commit() throws { try inner.commit() }
        func discard() { inner.discard() }
    }

    init(_ inner: FolderStore, bytes: Int) {
        self.inner = inner
        left = Left(bytes)
    }

    var place: String { inner.place }
    var freeBytes: Int? { inner.freeBytes }
    func write(_ name: String) throws -> any ObjectWriter { Writer(try inner.write(name), left) }
    func read(_ name: String) throws -> any ObjectReader { try inner.read(name) }
    func list(_ prefix: String) throws -> [StoredObject] { try inner.list(prefix) }
    func delete(_ name: String) throws { try inner.delete(name) }
    func clearUnfinished(_ prefix: String) throws -> Int { try inner.clearUnfinished(prefix) }
}

/// A store that takes nothing until it is let go.
final class SlowStore: ObjectStore, @unchecked Sendable {
    // The flags are under the condition.
    private let inner: FolderStore
    private let condition = NSCondition()
    private var isFree = false
    private var waiting = 0

    private final class Writer: ObjectWriter {
        private let inner: any ObjectWriter
        private let store: SlowStore

        init(_ inner: any ObjectWriter, _ store: SlowStore) {
            self.inner = inner
            self.store = store
        }

        func write(_ bytes: UnsafeRawBufferPointer) throws {
            store.wait()
            try inner.write(bytes)
        }
        func commit() throws { try inner.commit() }
        func discard() { inner.discard() }
    }

    init(_ inner: FolderStore) { self.inner = inner }

    var isWaiting: Bool { condition.withLock { waiting > 0 } }

    func letGo() {
        condition.withLock {
            isFree = true
            condition.broadcast()
        }
    }

    private func wait() {
        condition.withLock {
            waiting += 1
            while !isFree { condition.wait() }
        }
    }

    var place: String { inner.place }
    var freeBytes: Int? { inner.freeBytes }
    func write(_ name: String) throws -> any ObjectWriter { Writer(try inner.write(name), self) }
    func read(_ name: String) throws -> any ObjectReader { try inner.read(name) }
    func list(_ prefix: String) throws -> [StoredObject] { try inner.list(prefix) }
    func delete(_ name: String) throws { try inner.delete(name) }
    func clearUnfinished(_ prefix: String) throws -> Int { try inner.clearUnfinished(prefix) }
}

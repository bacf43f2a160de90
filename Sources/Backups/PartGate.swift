import Foundation

/// Delays a dump until it is known to be needed, and until one of the slots for dumps, and one of all slots, is free.
final class PartGate: @unchecked Sendable {
    // `isWanted` is under the lock. The threads that enter and leave do so one after the other; only they use `isInside`.
    struct NotWanted: Error {}

    private let slots: DispatchSemaphore
    private let dumps: DispatchSemaphore
    private let lock = NSCondition()
    private var isWanted: Bool?
    private var isInside = false

    init(_ slots: DispatchSemaphore, _ dumps: DispatchSemaphore) {
        self.slots = slots
        self.dumps = dumps
    }

    /// Sets whether the part is wanted; only the first call counts.
    func open(_ isWanted: Bool) {
        lock.withLock {
            if self.isWanted == nil { self.isWanted = isWanted }
            lock.broadcast()
        }
    }

    /// Waits until it is known whether the part is wanted, and then for a slot. Later calls return immediately.
    ///
    /// - Throws: `NotWanted` if the part is not wanted.
    func enter() throws {
        if isInside { return }
        let isWanted = lock.withLock {
            while self.isWanted == nil { lock.wait() }
            return self.isWanted ?? false
        }
        guard isWanted else { throw NotWanted() }
        dumps.wait()
        slots.wait()
        isInside = true
    }

    func leave() {
        if isInside {
            slots.signal()
            dumps.signal()
        }
        isInside = false
    }
}

/// Hands out items, each of them once, to concurrent callers.
final class SharedQueue<Item: Sendable>: @unchecked Sendable {
    // `items` is under the lock.
    private var items: ArraySlice<Item>
    private let lock = NSLock()

    init(_ items: [Item]) { self.items = items[...] }

    func next() -> Item? { lock.withLock { items.popFirst() } }
}

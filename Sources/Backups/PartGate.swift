import Foundation

/// Holds a dump back until it is known to be wanted, and until it is its turn.
final class PartGate: @unchecked Sendable {
    // The flags of turn and wish are under the lock; `isInside` is the pipeline's thread's, until that has ended.
    struct NotWanted: Error {}

    private let slots: DispatchSemaphore
    private let lock = NSCondition()
    private var isWanted: Bool?
    private var isInside = false

    init(_ slots: DispatchSemaphore) { self.slots = slots }

    /// Sets whether the part is wanted; only the first call counts.
    func open(_ isWanted: Bool) {
        lock.withLock {
            if self.isWanted == nil { self.isWanted = isWanted }
            lock.broadcast()
        }
    }

    /// Waits for its turn, once.
    func enter() throws {
        if isInside { return }
        let isWanted = lock.withLock {
            while self.isWanted == nil { lock.wait() }
            return self.isWanted ?? false
        }
        guard isWanted else { throw NotWanted() }
        slots.wait()
        isInside = true
    }

    func leave() {
        if isInside { slots.signal() }
        isInside = false
    }
}

/// Hands out pieces of work, each once, to whoever asks.
final class SharedQueue<Item: Sendable>: @unchecked Sendable {
    // All under the lock.
    private var items: ArraySlice<Item>
    private let lock = NSLock()

    init(_ items: [Item]) { self.items = items[...] }

    func next() -> Item? { lock.withLock { items.popFirst() } }
}

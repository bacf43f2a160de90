import Synchronization

/// A list to which several threads add elements. Another thread waits for these threads, and then reads the list.
public final class Gathered<Element: Sendable>: Sendable {
    private let pieces = Mutex<[Element]>([])

    public init() {}

    public var all: [Element] { pieces.withLock { $0 } }

    public var count: Int { pieces.withLock { $0.count } }

    public func add(_ more: some Collection<Element>) { pieces.withLock { $0.append(contentsOf: more) } }
}

import Synchronization

/// Elements that several threads collect for another thread, which waits for those threads.
public final class Gathered<Element: Sendable>: Sendable {
    private let pieces = Mutex<[Element]>([])

    public init() {}

    public var all: [Element] { pieces.withLock { $0 } }

    public var count: Int { pieces.withLock { $0.count } }

    public func add(_ more: some Collection<Element>) { pieces.withLock { $0.append(contentsOf: more) } }
}

import Synchronization

/// What comes in pieces from threads that another one waits for.
public final class Gathered<Element: Sendable>: Sendable {
    private let pieces = Mutex<[Element]>([])

    public init() {}

    public var all: [Element] { pieces.withLock { $0 } }

    public var count: Int { pieces.withLock { $0.count } }

    public func add(_ more: some Collection<Element>) { pieces.withLock { $0.append(contentsOf: more) } }
}

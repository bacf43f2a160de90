/// A text that is equal to another one only when their bytes are, as names are in PostgreSQL. Swift's own `String` takes
/// `é` in one scalar and in two for the same.
public struct ExactText: Hashable, Comparable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
    public let text: String

    public init(_ text: String) { self.text = text }

    public init(stringLiteral text: StaticString) { self.text = text.description }

    public var description: String { text }

    public static func == (left: ExactText, right: ExactText) -> Bool { same(left.text, right.text) }

    /// In the order of their bytes.
    public static func < (left: ExactText, right: ExactText) -> Bool { precedes(left.text, right.text) }

    public func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
        hasher.combine(0xFF as UInt8)
    }

    /// Whether two texts have the same bytes.
    public static func same(_ left: String, _ right: String) -> Bool {
        var (left, right) = (left, right)
        return left.withUTF8 { one in right.withUTF8 { other in one.elementsEqual(other) } }
    }

    /// Whether two texts have the same bytes, or neither is there.
    public static func same(_ left: String?, _ right: String?) -> Bool {
        guard let left, let right else { return left == nil && right == nil }
        return same(left, right)
    }

    /// Whether the bytes of one text come before those of another.
    public static func precedes(_ left: String, _ right: String) -> Bool {
        var (left, right) = (left, right)
        return left.withUTF8 { one in right.withUTF8 { other in one.lexicographicallyPrecedes(other) } }
    }
}

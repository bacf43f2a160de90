/// A text that is compared by its bytes, as PostgreSQL compares names. Swift's own `String` also treats texts with
/// different bytes as equal: U+00E9 (`é`) is equal to U+0065 U+0301 (`e` and a combining accent).
public struct ExactText: Hashable, Comparable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
    public let text: String

    public init(_ text: String) { self.text = text }

    public init(stringLiteral text: StaticString) { self.text = text.description }

    public var description: String { text }

    public static func == (left: ExactText, right: ExactText) -> Bool { same(left.text, right.text) }

    /// Compares the bytes.
    public static func < (left: ExactText, right: ExactText) -> Bool { precedes(left.text, right.text) }

    public func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
        hasher.combine(0xFF as UInt8)
    }

    /// Returns whether two texts have the same bytes.
    public static func same(_ left: String, _ right: String) -> Bool {
        var (left, right) = (left, right)
        return left.withUTF8 { one in right.withUTF8 { other in one.elementsEqual(other) } }
    }

    /// Returns whether two texts have the same bytes, or are both nil.
    public static func same(_ left: String?, _ right: String?) -> Bool {
        guard let left, let right else { return left == nil && right == nil }
        return same(left, right)
    }

    /// Returns whether the bytes of `left` sort before the bytes of `right`.
    public static func precedes(_ left: String, _ right: String) -> Bool {
        var (left, right) = (left, right)
        return left.withUTF8 { one in right.withUTF8 { other in one.lexicographicallyPrecedes(other) } }
    }
}

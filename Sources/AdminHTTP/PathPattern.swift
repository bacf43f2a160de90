/// The paths of a route: literal segments and, in braces, named parameters.
///
///     "/v1/databases/{database}/runs/{id}"
///
/// A parameter matches one whole segment. Its value is never empty, `.` or `..`, and never contains a slash, because
/// paths with such segments (including `%2F`) are refused before routing.
public struct PathPattern: Sendable, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
    private enum Segment: Sendable, Hashable {
        case literal(String)
        case parameter(String)
    }

    public let description: String
    private let segments: [Segment]

    /// Parses a pattern. nil if the text does not start with a slash, or has an empty segment, a brace inside a
    /// segment, a parameter without a name, or two parameters with the same name.
    public init?(parsing text: String) {
        guard text.hasPrefix("/") else { return nil }
        let parts = text == "/" ? [] : text.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
        var names: Set<Substring> = []
        var segments: [Segment] = []
        for part in parts {
            if part.hasPrefix("{"), part.hasSuffix("}") {
                let name = part.dropFirst().dropLast()
                guard !name.isEmpty, names.insert(name).inserted else { return nil }
                segments.append(.parameter(String(name)))
            } else {
                guard !part.isEmpty, !part.contains("{"), !part.contains("}") else { return nil }
                segments.append(.literal(String(part)))
            }
        }
        description = text
        self.segments = segments
    }

    /// Traps if the literal is not a pattern.
    public init(stringLiteral text: String) {
        guard let pattern = PathPattern(parsing: text) else { preconditionFailure("'\(text)' is not a path pattern") }
        self = pattern
    }

    /// Returns the values of the parameters; nil if the path does not match.
    ///
    /// - Parameter path: the decoded segments of the path.
    func parameters(of path: [String]) -> [String: String]? {
        guard path.count == segments.count else { return nil }
        var parameters: [String: String] = [:]
        for (segment, value) in zip(segments, path) {
            switch segment {
            case .literal(let text): guard text == value else { return nil }
            case .parameter(let name): parameters[name] = value
            }
        }
        return parameters
    }

    /// Whether this pattern is more specific: at the first segment where one pattern has a literal and the other a
    /// parameter, this pattern has the literal.
    func precedes(_ other: PathPattern) -> Bool {
        func ranks(_ pattern: PathPattern) -> [Int] {
            pattern.segments.map { if case .literal = $0 { 0 } else { 1 } }
        }
        return ranks(self).lexicographicallyPrecedes(ranks(other))
    }

    /// A key that is equal for patterns that differ only in the names of their parameters.
    var shape: String {
        segments.map { if case .literal(let text) = $0 { "/" + text } else { "/{}" } }.joined()
    }
}

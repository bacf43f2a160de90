/// A list of accepted differences between schemas, each with its reason.
///
/// A pattern is compared with the kind and the name of an object, as the report prints them. `table posters.import_*`
/// matches all tables with such a name, and all their parts. If a pattern also names a property, as in
/// `table posters.jobs: comment`, it matches only that property. `*` matches any characters, `?` one character.
public struct IgnoreList: Sendable {
    public struct Entry: Sendable, Equatable {
        public let pattern: String
        public let reason: String

        public init(pattern: String, reason: String) {
            self.pattern = pattern
            self.reason = reason
        }
    }

    public let entries: [Entry]

    public init(_ entries: [Entry] = []) { self.entries = entries }

    /// Returns the first entry that matches a difference.
    public func entry(for difference: Difference) -> Entry? {
        let object = "\(difference.object.kind.name) \(difference.object)"
        var subjects = [object]
        if let property = difference.property { subjects.append("\(object): \(property)") }
        if let container = difference.container { subjects.append("\(container.kind.name) \(container)") }
        if let schema = difference.object.schema { subjects.append("schema \(PlainName.quoted(schema))") }
        return entries.first { entry in subjects.contains { Self.matches(entry.pattern, $0) } }
    }

    /// Returns whether a pattern matches a whole text.
    public static func matches(_ pattern: String, _ text: String) -> Bool {
        let (pattern, text) = (Array(pattern), Array(text))
        var (at, position) = (0, 0)
        var star: (at: Int, position: Int)?
        while position < text.count {
            if at < pattern.count, pattern[at] == "*" {
                star = (at, position)
                at += 1
            } else if at < pattern.count, pattern[at] == "?" || pattern[at] == text[position] {
                at += 1
                position += 1
            } else if let last = star {
                // Let the last star match one more character.
                at = last.at + 1
                position = last.position + 1
                star = (last.at, last.position + 1)
            } else {
                return false
            }
        }
        return pattern[at...].allSatisfy { $0 == "*" }
    }
}

/// A key of the configuration, for any type of value: its path, the form of its value and its purpose.
///
/// Validation, environment variables, `config show` and the reference are generated from these keys.
public struct SettingKey: Sendable {
    public enum Shape: Sendable {
        case value
        /// Any number of values. In an environment variable they are separated by commas.
        case list
        /// A mapping from patterns to reasons. Each entry is one text (`ReasonedPattern.text`).
        case reasons
    }

    /// The words of the path; `*` stands for a name that the user chooses.
    public let path: [String]
    public let shape: Shape
    /// The default, in the form in which a user would write it.
    public let fallback: String?
    public let summary: String
    public let isConnectionString: Bool
    /// Checks one value, or one element of a list.
    let check: @Sendable (String) throws(InvalidValue) -> Void

    init<Value>(_ path: String, _ shape: Shape, _ syntax: ValueSyntax<Value>, _ fallback: String?, _ summary: String) {
        self.path = path.split(separator: ".").map(String.init)
        self.shape = shape
        self.fallback = fallback
        var notes = [summary, syntax.note]
        if shape == .list { notes.append("A list, or words separated by commas.") }
        self.summary = notes.filter { !$0.isEmpty }.joined(separator: " ")
        isConnectionString = syntax.isConnectionString
        check = { (text) throws(InvalidValue) in _ = try syntax.parse(text) }
    }

    public var dotted: String { path.joined(separator: ".") }

    /// Whether a part of the path is a name that the user chooses.
    public var hasName: Bool { path.contains("*") }

    /// Returns `REEVE_` and the path in capitals, with underscores.
    public static func environmentName(_ path: [String]) -> String {
        let words = path.map { String($0.uppercased().map { $0.isLetter || $0.isNumber ? $0 : "_" }) }
        return "REEVE_" + words.joined(separator: "_")
    }
}

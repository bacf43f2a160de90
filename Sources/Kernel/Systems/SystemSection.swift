/// A key of `system.yaml`, for any type of value.
public struct SystemKey: Sendable {
    public let name: String
    /// The purpose, in one or two sentences.
    public let summary: String
    /// An example in YAML, for the reference.
    public let example: String
    /// - Throws: `ConfigurationError` with file and line.
    let read: @Sendable (YAMLNode, _ file: String) throws -> any Sendable
}

/// A key of `system.yaml` that a feature adds: its name, its parser and the type of its value.
///
///     static let section = SystemSection<[String: Mask]>("mask", …) { node, file in … }
///     …
///     if let masks = system[section] { … }
public struct SystemSection<Value: Sendable>: Sendable {
    public let key: SystemKey

    /// - Parameter read: reads the node; throws `ConfigurationError` with file and line.
    public init(
        _ name: String, _ summary: String, example: String,
        read: @escaping @Sendable (YAMLNode, _ file: String) throws -> Value
    ) {
        key = SystemKey(name: name, summary: summary, example: example) { try read($0, $1) }
    }
}

extension YAMLNode {
    /// Returns the text of a single value that is not empty.
    ///
    /// - Parameter key: the key of this node, for the error message.
    /// - Throws: `ConfigurationError`.
    public func word(_ key: String, _ file: String) throws -> String {
        guard case .scalar(let text, _, let line) = self else {
            throw ConfigurationError(file, line, "'\(key)' must be a single value")
        }
        guard !text.isEmpty else { throw ConfigurationError(file, line, "'\(key)' is empty") }
        return text
    }

    /// Returns the texts of a list, or of a single value.
    ///
    /// - Throws: `ConfigurationError`.
    public func words(_ key: String, _ file: String) throws -> [String] {
        guard case .sequence(let items, _) = self else { return [try word(key, file)] }
        return try items.map { try $0.word(key, file) }
    }
}

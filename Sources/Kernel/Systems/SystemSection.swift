/// A key of `system.yaml`, whatever the type of its value.
public struct SystemKey: Sendable {
    public let name: String
    /// What it is for, in one or two sentences.
    public let summary: String
    /// How it is written, as YAML; for the reference.
    public let example: String
    /// - Throws: `ConfigurationError` with file and line.
    let read: @Sendable (YAMLNode, _ file: String) throws -> any Sendable
}

/// A part of `system.yaml` that a feature brings: its key, how it is read and the type of its value.
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
    /// The text of a single value that is not empty.
    ///
    /// - Parameter key: what the node is the value of, for the error.
    /// - Throws: `ConfigurationError`.
    public func word(_ key: String, _ file: String) throws -> String {
        guard case .scalar(let text, _, let line) = self else {
            throw ConfigurationError(file, line, "'\(key)' must be a single value")
        }
        guard !text.isEmpty else { throw ConfigurationError(file, line, "'\(key)' is empty") }
        return text
    }

    /// The texts of a list, or of one value.
    ///
    /// - Throws: `ConfigurationError`.
    public func words(_ key: String, _ file: String) throws -> [String] {
        guard case .sequence(let items, _) = self else { return [try word(key, file)] }
        return try items.map { try $0.word(key, file) }
    }
}

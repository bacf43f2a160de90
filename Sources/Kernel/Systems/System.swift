import Foundation
import Migrations
import Reporting

/// A system: a folder of migrations, and the content of its `system.yaml`.
public struct System: Sendable {
    public let name: String
    /// The PostgreSQL schema that contains the system's objects.
    public let schema: String
    /// The systems whose migrations are applied before those of this system.
    public let requires: [String]
    public let description: String
    public let folder: String
    /// The opt-in migrations to apply.
    public let options: Set<String>
    /// The values of the features' keys in `system.yaml`, by key.
    let sections: [String: any Sendable]

    /// The system in the form that the migrator uses.
    public var migrations: MigrationSystem {
        MigrationSystem(
            name: name, schema: schema, requires: requires, description: description, folder: folder, options: options)
    }

    /// Returns the value of a section of `system.yaml`; nil if the file does not have the section.
    public subscript<Value>(_ section: SystemSection<Value>) -> Value? { sections[section.key.name] as? Value }
}

/// The content of a `system.yaml`.
public struct SystemFile: Sendable {
    let name: String
    let schema: String
    let requires: [String]
    /// The place of `requires`, for messages.
    let requiresOrigin: String
    let description: String
    let folder: String
    let sections: [String: any Sendable]

    /// The keys that are not added by a feature.
    public static let keys = [
        SystemKey(
            name: "name", summary: "The system's name: lower-case letters, digits, `_` and `-`. Required.",
            example: "name: shop", read: { try $0.word("name", $1) }),
        SystemKey(
            name: "schema", summary: "The PostgreSQL schema of the system; by default, the system's name.",
            example: "schema: public", read: { try $0.word("schema", $1) }),
        SystemKey(
            name: "description", summary: "A short description of the system.",
            example: "description: the shop's orders",
            read: { try $0.word("description", $1) }),
        SystemKey(
            name: "requires", summary: "The systems whose migrations must be applied before this system's.",
            example: "requires: [platform]", read: { try $0.words("requires", $1) }),
    ]

    static let hint =
        "a system is a folder of migrations with a system.yaml, which contains at least 'name: NAME', and "
        + "'schema: public' if its tables are in public"

    /// Reads `system.yaml` in a folder.
    ///
    /// - Parameter sections: the keys that features add.
    /// - Throws: `ConfigurationError` with file and line.
    public init(folder: String, sections: [SystemKey]) throws {
        let file = "\(folder)/system.yaml"
        guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
            throw ConfigurationError(
                folder, nil, "the folder contains no system.yaml",
                hint: Self.hint)
        }
        guard case .mapping(let entries, _) = try YAMLNode.parse(text, file: file) else {
            throw ConfigurationError(file, 1, "the file contains no keys")
        }
        let known = Self.keys + sections
        var values: [String: any Sendable] = [:]
        var mistakes: [ConfigurationError] = []
        for entry in entries {
            try mistakes.collect {
                guard let key = known.first(where: { $0.name == entry.key }) else {
                    let hint = didYouMean(entry.key, among: known.map(\.name))
                    throw ConfigurationError(
                        file, entry.keyLine, "unknown key '\(entry.key)'", hint: hint)
                }
                values[key.name] = try key.read(entry.value, file)
            }
        }
        func line(_ key: String) -> Int { entries.first { $0.key == key }?.keyLine ?? 1 }
        let name = values["name"] as? String ?? ""
        if !entries.contains(where: { $0.key == "name" }) {
            mistakes.append(ConfigurationError(file, 1, "the key 'name' is missing"))
        } else if !name.isEmpty, name.wholeMatch(of: /[a-z][a-z0-9_-]*/) == nil {
            mistakes.append(
                ConfigurationError(
                    file, line("name"), "'\(name)' is not a valid name of a system",
                    hint: "use lower-case letters, digits, _ and -"))
        }
        try ConfigurationError.check(mistakes)
        self.name = name
        schema = values["schema"] as? String ?? name
        requires = values["requires"] as? [String] ?? []
        requiresOrigin = "\(file):\(line("requires"))"
        description = values["description"] as? String ?? ""
        self.folder = folder
        self.sections = values
    }
}

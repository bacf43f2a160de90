import Backups
import Foundation
import Migrations

/// A `system.yaml`: what a folder of migrations says of itself.
struct SystemFile: Sendable {
    let name: String
    let schema: String
    let requires: [String]
    let description: String
    let folder: String
    /// How columns are masked in a copy, by table and column.
    let mask: [String: [String: MaskingRules.Mask]]

    /// - Throws: `ConfigurationError` with file and line.
    init(folder: String) throws {
        let file = "\(folder)/system.yaml"
        guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
            throw ConfigurationError(
                folder, nil, "there is no system.yaml in it",
                hint: "a system is a folder of migrations with a system.yaml")
        }
        guard case .mapping(let entries, _) = try YAMLNode.parse(text, file: file) else {
            throw ConfigurationError(file, 1, "it has no keys")
        }
        var name: String?
        var schema: String?
        var requires: [String] = []
        var description = ""
        var mask: [String: [String: MaskingRules.Mask]] = [:]
        for entry in entries {
            switch entry.key {
            case "name": name = try Self.word(entry.value, entry.key, file)
            case "schema": schema = try Self.word(entry.value, entry.key, file)
            case "description": description = try Self.word(entry.value, entry.key, file)
            case "requires": requires = try Self.words(entry.value, entry.key, file)
            case "mask": mask = try Self.masks(entry.value, file)
            default:
                let hint = closest(to: entry.key, among: ["name", "schema", "requires", "description", "mask"])
                throw ConfigurationError(
                    file, entry.keyLine, "unknown key '\(entry.key)'", hint: hint.map { "did you mean '\($0)'" })
            }
        }
        guard let name else { throw ConfigurationError(file, 1, "it has no name") }
        guard name.wholeMatch(of: /[a-z][a-z0-9_-]*/) != nil else {
            throw ConfigurationError(
                file, 1, "'\(name)' cannot name a system", hint: "use lower-case letters, digits, _ and -")
        }
        self.name = name
        self.schema = schema ?? name
        self.requires = requires
        self.description = description
        self.folder = folder
        self.mask = mask
    }

    /// Tables, each with columns, each with a mask.
    private static func masks(_ node: YAMLNode, _ file: String) throws -> [String: [String: MaskingRules.Mask]] {
        guard case .mapping(let tables, _) = node else {
            throw ConfigurationError(file, node.line, "'mask' must map tables to columns")
        }
        var masks: [String: [String: MaskingRules.Mask]] = [:]
        for table in tables {
            guard case .mapping(let columns, _) = table.value else {
                throw ConfigurationError(file, table.value.line, "'mask.\(table.key)' must map columns to masks")
            }
            for column in columns {
                let text = try word(column.value, column.key, file)
                guard let mask = MaskingRules.Mask(rawValue: text) else {
                    throw ConfigurationError(
                        file, column.value.line, "'\(text)' is not a kind of mask",
                        hint: "write \(MaskingRules.Mask.allCases.map(\.rawValue).joined(separator: ", "))")
                }
                masks[table.key, default: [:]][column.key] = mask
            }
        }
        return masks
    }

    private static func word(_ node: YAMLNode, _ key: String, _ file: String) throws -> String {
        guard case .scalar(let text, _, let line) = node else {
            throw ConfigurationError(file, node.line, "'\(key)' must be a single value")
        }
        guard !text.isEmpty else { throw ConfigurationError(file, line, "'\(key)' is empty") }
        return text
    }

    private static func words(_ node: YAMLNode, _ key: String, _ file: String) throws -> [String] {
        guard case .sequence(let items, _) = node else { return [try word(node, key, file)] }
        return try items.map { try word($0, key, file) }
    }
}

/// The systems that come with the program.
enum ShippedSystems {
    /// Their folder: `migrations` beside the program's sources, or below `share/reeve` where it is installed.
    static let folder: String? = {
        let executable = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        var place = executable.deletingLastPathComponent()
        for _ in 0..<5 {
            for inner in ["share/reeve/migrations", "migrations"] {
                let candidate = place.appendingPathComponent(inner).path
                if FileManager.default.fileExists(atPath: "\(candidate)/platform/system.yaml") { return candidate }
            }
            place = place.deletingLastPathComponent()
        }
        return nil
    }()

    static var names: [String] {
        guard let folder else { return [] }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.filter { FileManager.default.fileExists(atPath: "\(folder)/\($0)/system.yaml") }.sorted()
    }
}

/// Finds systems by name or folder, with those that they require.
struct SystemCatalog {
    let configuration: Configuration

    /// - Parameter origin: where the words were written, for paths that are not absolute.
    /// - Throws: `ConfigurationError`.
    func systems(
        _ words: [String], origin: SettingStore.Origin, options: [String], withRequirements: Bool
    ) throws -> [MigrationSystem] {
        var files: [SystemFile] = []
        var waiting = try words.map { try find($0, origin: origin) }
        while !waiting.isEmpty {
            let file = waiting.removeFirst()
            if files.contains(where: { $0.name == file.name }) { continue }
            files.append(file)
            guard withRequirements else { continue }
            for requirement in file.requires {
                let beside = URL(fileURLWithPath: file.folder).deletingLastPathComponent()
                    .appendingPathComponent(requirement).path
                let isBeside = FileManager.default.fileExists(atPath: "\(beside)/system.yaml")
                waiting.append(try find(isBeside ? beside : requirement, origin: origin))
            }
        }
        try check(options, files)
        return files.map { file in
            let chosen = options.filter { $0.hasPrefix("\(file.name)/") }.map {
                String($0.dropFirst(file.name.count + 1))
            }
            return MigrationSystem(
                name: file.name, schema: configuration.store.text("schemas.\(file.name)") ?? file.schema,
                requires: withRequirements ? file.requires : [], description: file.description, folder: file.folder,
                options: Set(chosen))
        }
    }

    private func check(_ options: [String], _ files: [SystemFile]) throws {
        for option in options where option.split(separator: "/").count != 2 {
            throw ConfigurationError("options", nil, "'\(option)' is not of the form system/option")
        }
    }

    private func find(_ word: String, origin: SettingStore.Origin) throws -> SystemFile {
        if word.contains("/") { return try SystemFile(folder: configuration.resolve(word, from: origin)) }
        let own = configuration.file.map { URL(fileURLWithPath: $0).deletingLastPathComponent().path } ?? "."
        for parent in ["\(own)/migrations", ShippedSystems.folder].compactMap({ $0 }) {
            let folder = "\(parent)/\(word)"
            if FileManager.default.fileExists(atPath: "\(folder)/system.yaml") { return try SystemFile(folder: folder) }
        }
        let hint =
            closest(to: word, among: ShippedSystems.names).map { "did you mean '\($0)'" }
            ?? "name a shipped system (\(ShippedSystems.names.joined(separator: ", "))) or a folder, as ./db/\(word)"
        throw ConfigurationError("\(origin)", nil, "there is no system '\(word)'", hint: hint)
    }
}

import Foundation

/// Finds systems by name or folder, together with the systems that they require.
public struct SystemCatalog: Sendable {
    let configuration: Configuration
    /// The keys that features add to `system.yaml`.
    let sections: [SystemKey]

    public init(configuration: Configuration, sections: [SystemKey]) {
        self.configuration = configuration
        self.sections = sections
    }

    /// Returns the systems that `words` name. A word with a slash is the path of a folder.
    ///
    /// - Parameter origin: the place where the words were written. In a configuration file, paths are relative to its
    ///   folder.
    /// - Throws: `ConfigurationError`.
    public func systems(
        _ words: [String], origin: SettingStore.Origin, options: [String], withRequirements: Bool
    ) throws -> [System] {
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
        try check(options)
        return files.map { file in
            let chosen = options.filter { $0.hasPrefix("\(file.name)/") }.map {
                String($0.dropFirst(file.name.count + 1))
            }
            return System(
                name: file.name, schema: configuration[CoreSettings.schema, file.name] ?? file.schema,
                requires: withRequirements ? file.requires : [], description: file.description, folder: file.folder,
                options: Set(chosen), sections: file.sections)
        }
    }

    private func check(_ options: [String]) throws {
        for option in options where option.split(separator: "/").count != 2 {
            throw ConfigurationError("options", nil, "'\(option)' is not of the form system/option")
        }
    }

    private func find(_ word: String, origin: SettingStore.Origin) throws -> SystemFile {
        if word.contains("/") { return try read(configuration.resolve(word, from: origin)) }
        let own = configuration.file.map { URL(fileURLWithPath: $0).deletingLastPathComponent().path } ?? "."
        for parent in ["\(own)/migrations", ShippedSystems.folder].compactMap({ $0 }) {
            let folder = "\(parent)/\(word)"
            if FileManager.default.fileExists(atPath: "\(folder)/system.yaml") { return try read(folder) }
        }
        let hint =
            closest(to: word, among: ShippedSystems.names).map { "did you mean '\($0)'" }
            ?? "name a shipped system (\(ShippedSystems.names.joined(separator: ", "))) or a folder, for example "
            + "./db/\(word)"
        throw ConfigurationError("\(origin)", nil, "the system '\(word)' does not exist", hint: hint)
    }

    private func read(_ folder: String) throws -> SystemFile { try SystemFile(folder: folder, sections: sections) }
}

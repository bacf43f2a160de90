import Foundation
import Reporting

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
        var mistakes: [ConfigurationError] = []
        var waiting: [(file: SystemFile, place: String)] = []
        for word in words {
            try mistakes.collect { waiting.append((try find(word, at: "\(origin)", origin), "\(origin)")) }
        }
        while !waiting.isEmpty {
            let (file, place) = waiting.removeFirst()
            if let same = files.first(where: { $0.name == file.name }) {
                if same.folder.resolved != file.folder.resolved {
                    mistakes.append(
                        ConfigurationError(
                            place, nil,
                            "two folders have the system '\(file.name)': \(same.folder) and \(file.folder)",
                            hint: "give one of them another name in its system.yaml"))
                }
                continue
            }
            files.append(file)
            guard withRequirements else { continue }
            for requirement in file.requires {
                let beside = URL(fileURLWithPath: file.folder).deletingLastPathComponent()
                    .appendingPathComponent(requirement).path
                let isBeside = FileManager.default.fileExists(atPath: "\(beside)/system.yaml")
                try mistakes.collect {
                    let found = try find(isBeside ? beside : requirement, at: file.requiresOrigin, origin)
                    waiting.append((found, file.requiresOrigin))
                }
            }
        }
        try ConfigurationError.check(mistakes)
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

    /// Checks that opt-in migrations are written as system/option, and that the systems exist.
    ///
    /// - Throws: `ConfigurationError`.
    public func check(options: [String], at place: String, among systems: [String]) throws {
        var mistakes: [ConfigurationError] = []
        for option in options {
            let parts = option.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
            if parts.count != 2 || parts.contains("") {
                mistakes.append(ConfigurationError(place, nil, "'\(option)' is not of the form system/option"))
            } else if !systems.contains(parts[0]) {
                mistakes.append(
                    ConfigurationError(
                        place, nil, "'\(option)': the system '\(parts[0])' is not one of the database's systems",
                        hint: didYouMean(parts[0], among: systems)
                            ?? (systems.isEmpty ? nil : "its systems: \(systems.joined(separator: ", "))")))
            }
        }
        try ConfigurationError.check(mistakes)
    }

    /// - Parameter place: where the word is written, for messages.
    private func find(_ word: String, at place: String, _ origin: SettingStore.Origin) throws -> SystemFile {
        if word.contains("/") {
            var folder = configuration.resolve(word, from: origin)
            if case .file = origin { folder = URL(fileURLWithPath: folder).standardizedFileURL.path }
            guard FileManager.default.fileExists(atPath: "\(folder)/system.yaml") else {
                throw ConfigurationError(
                    place, nil, "the folder \(folder) contains no system.yaml",
                    hint: SystemFile.hint)
            }
            return try read(folder)
        }
        let own = configuration.file.map { URL(fileURLWithPath: $0).deletingLastPathComponent().path } ?? "."
        for parent in ["\(own)/migrations", ShippedSystems.folder].compactMap({ $0 }) {
            let folder = "\(parent)/\(word)"
            if FileManager.default.fileExists(atPath: "\(folder)/system.yaml") { return try read(folder) }
        }
        let known = Set(ShippedSystems.names + folders(in: "\(own)/migrations")).sorted()
        let hint =
            didYouMean(word, among: known)
            ?? "name a shipped system (\(ShippedSystems.names.joined(separator: ", "))) or a folder, for example "
            + "./db/\(word)"
        throw ConfigurationError(place, nil, "the system '\(word)' does not exist", hint: hint)
    }

    /// The folders of systems in a folder.
    private func folders(in parent: String) -> [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
        return names.filter { FileManager.default.fileExists(atPath: "\(parent)/\($0)/system.yaml") }
    }

    private func read(_ folder: String) throws -> SystemFile { try SystemFile(folder: folder, sections: sections) }
}

extension String {
    /// The path without symbolic links, for comparisons.
    fileprivate var resolved: String { URL(fileURLWithPath: self).resolvingSymlinksInPath().path }
}

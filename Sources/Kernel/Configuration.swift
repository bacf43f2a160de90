import Foundation
import Postgres
import Telemetry

/// The configuration as one process uses it: flags over environment over file over defaults.
public struct Configuration: Sendable {
    /// The file that was read, if there is one.
    public let file: String?
    public let store: SettingStore
    public let environment: [String: String]
    public let databases: [DatabaseConfiguration]

    /// Reads the file and the environment, and checks every value.
    ///
    /// - Parameters:
    ///   - path: what `--config` gave.
    ///   - catalog: the settings that there are.
    /// - Throws: `ConfigurationError`.
    public static func load(
        path: String?, environment: [String: String], catalog: SettingCatalog
    ) throws -> Configuration {
        let file = try find(path, environment)
        var store = SettingStore(catalog)
        if let file {
            guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
                throw ConfigurationError(file, nil, "the file cannot be read")
            }
            try store.read(try YAMLNode.parse(text, file: file), file: file)
        }
        try store.read(environment: environment)
        return Configuration(
            file: file, store: store, environment: environment,
            databases: try DatabaseConfiguration.all(store, environment))
    }

    private static func find(_ path: String?, _ environment: [String: String]) throws -> String? {
        if let path = path ?? environment["REEVE_CONFIG"], !path.isEmpty {
            guard FileManager.default.fileExists(atPath: path) else {
                throw ConfigurationError(
                    path, nil, "there is no such file",
                    hint: "copy reeve.example.yaml, or leave out --config and REEVE_CONFIG")
            }
            return path
        }
        return ["reeve.yaml", "/etc/reeve/reeve.yaml"].first { FileManager.default.fileExists(atPath: $0) }
    }

    /// The value of a setting.
    ///
    /// - Parameter name: what stands for the `*` in the setting's path.
    public subscript<Value>(_ setting: Setting<Value>, _ name: String? = nil) -> Value { store[setting, name] }

    /// Whether a setting was made, rather than left at its default.
    public func isSet<Value>(_ setting: Setting<Value>, _ name: String? = nil) -> Bool {
        store.entries[store.path(setting, name)] != nil
    }

    /// Where a setting was made.
    public func origin<Value>(_ setting: Setting<Value>, _ name: String? = nil) -> SettingStore.Origin {
        store.origin(store.path(setting, name))
    }

    /// The path that a setting holds; one that is not absolute is taken from the folder of the file that holds it.
    public func path(_ setting: Setting<String?>) -> String? {
        self[setting].map { resolve($0, from: origin(setting)) }
    }

    /// The folder of the embedded cluster and of what else is kept.
    public var stateFolder: String {
        if let state = path(CoreSettings.state) { return state }
        if geteuid() == 0 { return "/var/lib/reeve" }
        if let xdg = environment["XDG_STATE_HOME"], !xdg.isEmpty { return "\(xdg)/reeve" }
        return "\(home)/.local/state/reeve"
    }

    private var home: String { environment["HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? NSHomeDirectory() }

    /// A path as the place means it where it was written: in a file, from the file's folder.
    public func resolve(_ path: String, from origin: SettingStore.Origin) -> String {
        if path.hasPrefix("/") { return path }
        if path.hasPrefix("~/") { return home + path.dropFirst(1) }
        guard case .file(let file, _) = origin else { return path }
        return URL(fileURLWithPath: file).deletingLastPathComponent().appendingPathComponent(path).path
    }

    var poolLimits: Pool.Limits {
        Pool.Limits(
            size: self[CoreSettings.poolSize], overflow: self[CoreSettings.poolOverflow],
            wait: self[CoreSettings.poolWait])
    }

    /// The log, as configured; `verbose` asks for all of it.
    public func logger(verbose: Bool, to sink: any LogSink) -> Logger {
        Logger(level: verbose ? .debug : self[CoreSettings.logLevel], sink: sink)
    }

    /// Standard error, in the form that is configured.
    public func logSink(isTerminal: Bool, colour: Bool) -> StreamSink {
        let isText: Bool
        switch self[CoreSettings.logFormat] {
        case .text: isText = true
        case .json: isText = false
        case .auto: isText = isTerminal
        }
        return StreamSink(descriptor: STDERR_FILENO, format: isText ? .text : .json, colour: colour && isText)
    }
}

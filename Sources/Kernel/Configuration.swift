import Foundation
import Postgres
import Telemetry

/// The configuration of one process. Flags override the environment, the environment overrides the file, and the file
/// overrides the defaults.
public struct Configuration: Sendable {
    /// The configuration file; nil if there is none.
    public let file: String?
    /// The absolute path without links from which the file was read.
    let realFile: String?
    public let store: SettingStore
    public let environment: [String: String]
    public let databases: [DatabaseConfiguration]

    /// Reads the file and the environment, and checks every value.
    ///
    /// - Parameters:
    ///   - path: the value of `--config`.
    ///   - catalog: the known settings.
    /// - Throws: `ConfigurationError`.
    public static func load(
        path: String?, environment: [String: String], catalog: SettingCatalog
    ) throws -> Configuration {
        let (configuration, mistakes) = try read(path: path, environment: environment, catalog: catalog)
        try ConfigurationError.check(mistakes)
        return configuration
    }

    /// Reads the file and the environment as far as they are right.
    ///
    /// - Returns: the configuration without what is wrong, and all mistakes.
    /// - Throws: `ConfigurationError` if the file cannot be read at all.
    static func read(
        path: String?, environment: [String: String], catalog: SettingCatalog
    ) throws -> (Configuration, [ConfigurationError]) {
        let file = try find(path, environment)
        var store = SettingStore(catalog)
        let realFile = file.flatMap(Self.realPath)
        if let file {
            // A link on the way may lead elsewhere later. What is read is what `checkCommand` checks.
            guard let realFile, let text = try? String(contentsOfFile: realFile, encoding: .utf8) else {
                throw ConfigurationError(file, nil, "the file cannot be read")
            }
            store.read(try YAMLNode.parse(text, file: file), file: file)
        }
        store.read(environment: environment)
        var mistakes = store.mistakes
        let databases = try DatabaseConfiguration.all(store, environment, &mistakes)
        return (
            Configuration(
                file: file, realFile: realFile, store: store, environment: environment, databases: databases),
            mistakes
        )
    }

    private static func realPath(_ path: String) -> String? {
        guard let real = realpath(path, nil) else { return nil }
        defer { free(real) }
        return String(cString: real)
    }

    private static func find(_ path: String?, _ environment: [String: String]) throws -> String? {
        if let path = path ?? environment["REEVE_CONFIG"], !path.isEmpty {
            guard FileManager.default.fileExists(atPath: path) else {
                throw ConfigurationError(
                    path, nil, "the file does not exist",
                    hint: "copy reeve.example.yaml to this path, or leave out --config and REEVE_CONFIG")
            }
            return path
        }
        return ["reeve.yaml", "/etc/reeve/reeve.yaml"].first { FileManager.default.fileExists(atPath: $0) }
    }

    /// Returns the value of a setting.
    ///
    /// - Parameter name: the name in place of the `*` in the setting's path.
    public subscript<Value>(_ setting: Setting<Value>, _ name: String? = nil) -> Value { store[setting, name] }

    /// Whether a setting was set explicitly, even if to its default value.
    public func isSet<Value>(_ setting: Setting<Value>, _ name: String? = nil) -> Bool {
        store.entries[store.path(setting, name)] != nil
    }

    /// Returns the source of a setting: a file and line, a variable, a flag, or the default.
    public func origin<Value>(_ setting: Setting<Value>, _ name: String? = nil) -> SettingStore.Origin {
        store.origin(store.path(setting, name))
    }

    /// Returns the value of a setting that is a path. A relative path in the configuration file is relative to the
    /// folder of that file.
    public func path(_ setting: Setting<String?>) -> String? {
        self[setting].map { resolve($0, from: origin(setting)) }
    }

    /// The folder of the embedded cluster and of other state.
    public var stateFolder: String {
        if let state = path(CoreSettings.state) { return state }
        if geteuid() == 0 { return "/var/lib/reeve" }
        if let xdg = environment["XDG_STATE_HOME"], !xdg.isEmpty { return "\(xdg)/reeve" }
        return "\(home)/.local/state/reeve"
    }

    private var home: String { environment["HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? NSHomeDirectory() }

    /// Resolves a path that was read from `origin`. A relative path in a file is relative to the folder of that file.
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

    /// Returns the logger with the configured level; `verbose` logs every level.
    public func logger(verbose: Bool, to sink: any LogSink) -> Logger {
        Logger(level: verbose ? .debug : self[CoreSettings.logLevel], sink: sink)
    }

    /// Returns a sink that writes to standard error in the configured format.
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

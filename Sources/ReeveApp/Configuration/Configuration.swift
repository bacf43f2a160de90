import Foundation
import Postgres
import Telemetry

/// The configuration as one process uses it: flags over environment over file over defaults.
struct Configuration: Sendable {
    /// The file that was read, if there is one.
    let file: String?
    let store: SettingStore
    let environment: [String: String]
    let databases: [DatabaseConfiguration]

    /// Reads the file and the environment, and checks every value.
    ///
    /// - Parameter path: what `--config` gave.
    /// - Throws: `ConfigurationError`.
    static func load(path: String?, environment: [String: String]) throws -> Configuration {
        let file = try find(path, environment)
        var store = SettingStore()
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

    /// The folder of the embedded cluster and of what else is kept.
    var stateFolder: String {
        if let state = store.text("state") { return resolve(state, from: store.origin("state")) }
        if geteuid() == 0 { return "/var/lib/reeve" }
        if let xdg = environment["XDG_STATE_HOME"], !xdg.isEmpty { return "\(xdg)/reeve" }
        return "\(home)/.local/state/reeve"
    }

    private var home: String { environment["HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? NSHomeDirectory() }

    /// A path as the place means it where it was written: in a file, from the file's folder.
    func resolve(_ path: String, from origin: SettingStore.Origin) -> String {
        if path.hasPrefix("/") { return path }
        if path.hasPrefix("~/") { return home + path.dropFirst(1) }
        guard case .file(let file, _) = origin else { return path }
        return URL(fileURLWithPath: file).deletingLastPathComponent().appendingPathComponent(path).path
    }

    var poolLimits: Pool.Limits {
        Pool.Limits(
            size: store.integer("pool.size") ?? 10, overflow: store.integer("pool.max_overflow") ?? 20,
            wait: store.duration("pool.wait") ?? .seconds(30))
    }

    /// The log, as configured; `verbose` asks for all of it.
    func logger(verbose: Bool, to sink: any LogSink) -> Logger {
        let level = LogLevel(rawValue: store.text("log.level") ?? "info") ?? .info
        return Logger(level: verbose ? .debug : level, sink: sink)
    }

    /// Standard error, in the form that is configured.
    func logSink(isTerminal: Bool, colour: Bool) -> StreamSink {
        let format: StreamSink.Format
        switch store.text("log.format") {
        case "text": format = .text
        case "json": format = .json
        default: format = isTerminal ? .text : .json
        }
        return StreamSink(descriptor: STDERR_FILENO, format: format, colour: colour && format == .text)
    }
}

/// One database of the estate.
struct DatabaseConfiguration: Sendable {
    enum Source: Sendable {
        case connection(ConnectionSettings)
        case embedded
    }

    let name: String
    let source: Source
    let direct: ConnectionSettings?
    /// nil: none are named for it.
    let systems: [String]?
    let systemsOrigin: SettingStore.Origin
    let options: [String]

    static func all(_ store: SettingStore, _ environment: [String: String]) throws -> [DatabaseConfiguration] {
        let names = store.names(below: "databases")
        if !names.isEmpty, store.text("database.url") != nil,
            case .file(let file, let line) = store.origin("database.url")
        {
            throw ConfigurationError(file, line, "both 'database' and 'databases' are given", hint: "keep one of them")
        }
        if names.isEmpty || store.text("database.url") != nil {
            return [try one("main", "database", store, environment)]
        }
        return try names.map { name in
            guard store.text("databases.\(name).url") != nil else {
                throw ConfigurationError("databases.\(name)", nil, "it has no url")
            }
            return try one(name, "databases.\(name)", store, environment)
        }
    }

    private static func one(
        _ name: String, _ prefix: String, _ store: SettingStore, _ environment: [String: String]
    ) throws -> DatabaseConfiguration {
        let own = "\(prefix).systems"
        let path = store.settings[own] != nil ? own : "systems"
        let systems = store.settings[path]?.values
        var source: Source = .embedded
        if let url = store.text("\(prefix).url") {
            source = .connection(try settings(url, store))
        } else if var settings = libpqSettings(environment) {
            settings.connectTimeout = store.duration("connect_timeout") ?? settings.connectTimeout
            source = .connection(settings)
        }
        return DatabaseConfiguration(
            name: name, source: source, direct: try store.text("\(prefix).direct_url").map { try settings($0, store) },
            systems: systems, systemsOrigin: store.origin(path), options: store.values("\(prefix).options"))
    }

    private static func settings(_ url: String, _ store: SettingStore) throws -> ConnectionSettings {
        var settings = try ConnectionSettings(connectionString: url)
        settings.connectTimeout = store.duration("connect_timeout") ?? settings.connectTimeout
        return settings
    }

    /// libpq's own variables, which libpq reads itself; and those of PostgreSQL's container image.
    private static func libpqSettings(_ environment: [String: String]) -> ConnectionSettings? {
        if ["PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE"].contains(where: { environment[$0]?.isEmpty == false }) {
            return ConnectionSettings()
        }
        guard let database = environment["POSTGRES_DB"], !database.isEmpty else { return nil }
        let given = [
            "dbname": database, "host": environment["POSTGRES_HOST"] ?? "localhost",
            "user": environment["POSTGRES_USER"], "password": environment["POSTGRES_PASSWORD"],
            "port": environment["POSTGRES_PORT"],
        ]
        return ConnectionSettings(parameters: given.compactMapValues { $0 })
    }
}

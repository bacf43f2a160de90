import Foundation
import Postgres

/// The configuration of one database.
public struct DatabaseConfiguration: Sendable {
    public enum Source: Sendable {
        case connection(ConnectionSettings)
        case embedded
    }

    public let name: String
    public let source: Source
    /// The connection to the server itself. It is configured if `source` is a connection to a pooler; otherwise nil.
    public let direct: ConnectionSettings?
    /// The configured systems; nil if the configuration does not name any for this database.
    public let systems: [String]?
    public let systemsOrigin: SettingStore.Origin
    /// Opt-in migrations to apply, as `system/option`.
    public let options: [String]
    public let optionsOrigin: SettingStore.Origin

    public var isEmbedded: Bool { if case .embedded = source { true } else { false } }

    /// Returns all configured databases, or the embedded database if none is configured.
    ///
    /// - Parameter mistakes: receives the mistakes; a database with a mistake is left out.
    static func all(
        _ store: SettingStore, _ environment: [String: String], _ mistakes: inout [ConfigurationError]
    ) throws -> [DatabaseConfiguration] {
        let names = store.names(below: "databases")
        let isOneSet = store[DatabaseSettings.one.url] != nil
        if !names.isEmpty, isOneSet, case .file(let file, let line) = store.origin("database.url") {
            mistakes.append(
                ConfigurationError(file, line, "both 'database' and 'databases' are set", hint: "keep one of them"))
        }
        if names.isEmpty || isOneSet { return [try one("main", .one, nil, store, environment)] }
        return try names.compactMap { name in
            guard store[DatabaseSettings.several.url, name] != nil else {
                if !store.isWritten("databases.\(name).url") {
                    mistakes.append(
                        ConfigurationError(
                            "\(store.place("databases.\(name)"))", nil,
                            "'databases.\(name)': the key 'url' is missing"))
                }
                return nil
            }
            return try one(name, .several, name, store, environment)
        }
    }

    /// Reads the configuration of one database.
    ///
    /// - Parameter key: the name in place of the `*` in the keys of the database.
    private static func one(
        _ name: String, _ settings: DatabaseSettings, _ key: String?, _ store: SettingStore,
        _ environment: [String: String]
    ) throws -> DatabaseConfiguration {
        let own = store.path(settings.systems, key)
        let path = store.entries[own] != nil ? own : CoreSettings.systems.key.dotted
        var source: Source = .embedded
        if let url = store[settings.url, key] {
            source = .connection(try connection(url, store))
        } else if var found = libpqSettings(environment) {
            found.connectTimeout = store[CoreSettings.connectTimeout]
            source = .connection(found)
        }
        return DatabaseConfiguration(
            name: name, source: source, direct: try store[settings.directURL, key].map { try connection($0, store) },
            systems: store.entries[path]?.values, systemsOrigin: store.origin(path),
            options: store[settings.options, key], optionsOrigin: store.origin(store.path(settings.options, key)))
    }

    private static func connection(_ url: String, _ store: SettingStore) throws -> ConnectionSettings {
        var settings = try ConnectionSettings(connectionString: url)
        settings.connectTimeout = store[CoreSettings.connectTimeout]
        return settings
    }

    /// Returns the connection settings from environment variables. If libpq's variables are set, returns empty
    /// settings, because libpq reads these variables itself. Otherwise, returns the settings in the variables of
    /// PostgreSQL's container image; nil if those are not set either.
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

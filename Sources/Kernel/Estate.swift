import Foundation
import Postgres
import Reporting
import Telemetry

/// A database that is ready for use.
public struct OpenDatabase: Sendable {
    public let name: String
    public let database: Database
    /// The embedded cluster that contains the database; nil if the database is on another server. The cluster runs as
    /// long as this value exists.
    public let cluster: EmbeddedCluster?
    /// The configured systems. On the embedded cluster the default is the shipped systems.
    public let systems: [System]

    public var isEmbedded: Bool { cluster != nil }

    /// Returns the name that the server has for the database. `name` is its name in the configuration.
    ///
    /// - Throws: `PostgresError`.
    public func serverName() async throws -> String {
        try await database.withDirectConnection(named: "reeve name") { connection in
            try await connection.with { connection in
                try connection.query("SELECT current_database()::text").first?.get(0) ?? name
            }
        }
    }

    /// Returns `systems`, or throws an error that says how to configure them.
    ///
    /// - Throws: `UsageError`.
    public func requireSystems() throws -> [System] {
        guard systems.isEmpty else { return systems }
        throw UsageError(
            "no systems are configured for the database '\(name)'",
            hint: "name them with --system, REEVE_SYSTEMS or 'systems:' in reeve.yaml")
    }
}

/// The databases of a configuration.
public struct Estate: Sendable {
    public let configuration: Configuration
    public let features: FeatureList
    public let logger: Logger

    public init(configuration: Configuration, features: FeatureList, logger: Logger) {
        self.configuration = configuration
        self.features = features
        self.logger = logger
    }

    /// Returns the databases that a command works on: the named one, or all.
    ///
    /// - Throws: `UsageError` if the name is not configured.
    public func selected(_ name: String?) throws -> [DatabaseConfiguration] {
        guard let name else { return configuration.databases }
        let names = configuration.databases.map(\.name)
        guard let found = configuration.databases.first(where: { $0.name == name }) else {
            let hint = didYouMean(name, among: names)
            throw UsageError(
                "the database '\(name)' is not configured", hint: hint ?? "configured: \(names.joined(separator: ", "))"
            )
        }
        return [found]
    }

    public var systems: SystemCatalog {
        SystemCatalog(configuration: configuration, sections: features.sections)
    }

    /// Opens a database. Starts the embedded cluster if the database is on it.
    ///
    /// - Parameters:
    ///   - chosen: the systems that the command line names; they replace the configured ones.
    ///   - withRequirements: whether to include the systems that these systems require.
    public func open(
        _ one: DatabaseConfiguration, chosen: [String] = [], options: [String] = [], withRequirements: Bool = true
    ) async throws -> OpenDatabase {
        // The systems are read first, so that a mistake in them is reported before a server is started.
        let configured = one.systems ?? (one.isEmbedded ? ShippedSystems.names : [])
        let catalog = self.systems
        let systems = try catalog.systems(
            chosen.isEmpty ? configured : named(chosen, among: configured, one),
            origin: chosen.isEmpty ? one.systemsOrigin : .flag("system"),
            options: one.options + options, withRequirements: withRequirements)
        let names = systems.map(\.name)
        if chosen.isEmpty, withRequirements {
            try catalog.check(options: one.options, at: "\(one.optionsOrigin)", among: names)
        }
        try catalog.check(options: options, at: "--with", among: names)
        var settings: ConnectionSettings
        var cluster: EmbeddedCluster?
        switch one.source {
        case .connection(let given): settings = given
        case .embedded:
            let acquired = try await EmbeddedCluster.acquire(
                EmbeddedCluster.Options(stateFolder: configuration.stateFolder), logger: logger)
            settings = acquired.settings()
            cluster = acquired
        }
        settings.idleInTransactionTimeout = .seconds(600)
        let database = Database(settings, direct: one.direct, limits: configuration.poolLimits, logger: logger)
        return OpenDatabase(name: one.name, database: database, cluster: cluster, systems: systems)
    }

    /// Returns the words of a command line, with the folder of a configured system in place of the system's name.
    ///
    /// A mistake in the configuration of another system does not prevent the use of the named ones.
    private func named(_ chosen: [String], among configured: [String], _ one: DatabaseConfiguration) -> [String] {
        chosen.map { word in word.contains("/") ? word : folder(ofSystem: word, among: configured, one) ?? word }
    }

    private func folder(ofSystem name: String, among configured: [String], _ one: DatabaseConfiguration) -> String? {
        configured.lazy.flatMap { word in
            (try? systems.systems([word], origin: one.systemsOrigin, options: [], withRequirements: true)) ?? []
        }.first { $0.name == name }?.folder
    }

    /// Returns the folder of a system that the configuration of a database names; nil if there is no such system.
    public func folder(ofSystem name: String) -> String? {
        configuration.databases.lazy.compactMap { folder(ofSystem: name, among: $0.systems ?? [], $0) }.first
    }
}

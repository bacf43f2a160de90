import Foundation
import Postgres
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
            let hint = closest(to: name, among: names).map { "did you mean '\($0)'" }
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
        let configured = one.systems ?? (cluster == nil ? [] : ShippedSystems.names)
        let systems = try systems.systems(
            chosen.isEmpty ? configured : chosen, origin: chosen.isEmpty ? one.systemsOrigin : .flag("system"),
            options: one.options + options, withRequirements: withRequirements)
        return OpenDatabase(name: one.name, database: database, cluster: cluster, systems: systems)
    }
}

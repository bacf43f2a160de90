import Foundation
import Migrations
import Postgres
import Telemetry

/// A database of the estate that is ready to be worked on.
struct OpenDatabase: Sendable {
    let name: String
    let database: Database
    /// The cluster that it lives in, when that is our own; it runs for as long as this value lives.
    let cluster: EmbeddedCluster?
    /// The systems that the configuration names; on the embedded cluster, where it names none, the shipped ones.
    let systems: [MigrationSystem]

    var isEmbedded: Bool { cluster != nil }

    /// Those systems, or an error that says how to name some.
    func requireSystems() throws -> [MigrationSystem] {
        guard systems.isEmpty else { return systems }
        throw UsageError(
            "no systems are configured for the database '\(name)'",
            hint: "name them with --system, REEVE_SYSTEMS or 'systems:' in reeve.yaml")
    }
}

/// Opens the databases of a configuration.
struct Estate: Sendable {
    let configuration: Configuration
    let logger: Logger

    /// The databases that a command works on.
    ///
    /// - Throws: `UsageError` for a name that is not configured.
    func selected(_ name: String?) throws -> [DatabaseConfiguration] {
        guard let name else { return configuration.databases }
        let names = configuration.databases.map(\.name)
        guard let found = configuration.databases.first(where: { $0.name == name }) else {
            let hint = closest(to: name, among: names).map { "did you mean '\($0)'" }
            throw UsageError(
                "there is no database '\(name)'", hint: hint ?? "configured: \(names.joined(separator: ", "))")
        }
        return [found]
    }

    /// Opens one of them; starts the embedded cluster when that is what it is.
    ///
    /// - Parameters:
    ///   - chosen: the systems that the command line names, instead of the configured ones.
    ///   - withRequirements: whether what these require comes too.
    func open(
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
        let systems = try SystemCatalog(configuration: configuration).systems(
            chosen.isEmpty ? configured : chosen, origin: chosen.isEmpty ? one.systemsOrigin : .flag("system"),
            options: one.options + options, withRequirements: withRequirements)
        return OpenDatabase(name: one.name, database: database, cluster: cluster, systems: systems)
    }
}

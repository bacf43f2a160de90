import Backups
import Foundation
import Ledger
import Migrations
import Postgres
import Storage
import Telemetry

/// Backups of one database of the estate, with what the ledger knows of them: made, tried out and restored, removed, and
/// encrypted anew, each in a file of its own.
struct BackupWork: Sendable {
    let open: OpenDatabase
    let configuration: Configuration
    let logger: Logger
    let repositories: [Repository]

    /// - Throws: `ConfigurationError` where no repository is named.
    init(open: OpenDatabase, configuration: Configuration, logger: Logger) throws {
        self.open = open
        self.configuration = configuration
        self.logger = logger
        repositories = try BackupSettings.repositories(configuration)
    }

    /// The one that is named, or the first.
    ///
    /// - Throws: `UsageError` for one that is not configured.
    func repository(_ place: String?) throws -> Repository {
        guard let place else { return repositories[0] }
        if let found = repositories.first(where: { $0.store.place == place }) { return found }
        throw UsageError(
            "'\(place)' is no repository of the configuration",
            hint: "configured: \(repositories.map(\.store.place).joined(separator: ", "))")
    }

    /// A backup, in the repository that is named, or in the first that has it.
    func find(_ id: String, in place: String?) async throws -> (Repository, Manifest) {
        if place != nil {
            let repository = try repository(place)
            return (repository, try await repository.manifest(id, of: open.name))
        }
        return try await Self.find(id, of: open.name, in: repositories)
    }

    /// A backup, in the first repository that has it.
    static func find(
        _ id: String, of database: String, in repositories: [Repository]
    ) async throws -> (Repository, Manifest) {
        var first: (any Error)?
        for repository in repositories {
            do { return (repository, try await repository.manifest(id, of: database)) } catch { first = first ?? error }
        }
        throw first ?? BackupError.unknown(id: id)
    }

    /// Does something with the backups of the database alone.
    ///
    /// - Throws: `BackupError.locked`; what `body` throws.
    func alone<T: Sendable>(_ body: @Sendable (Connection) async throws -> T) async throws -> T {
        try await open.database.withDirectConnection(named: "reeve backup") { connection in
            // Without a ledger the lock would have a key that everybody knows, and another one than with it.
            try await connection.with { try LedgerSchema.install(on: $0) }
            return try await Repository.locked(on: connection, wait: .seconds(60)) { try await body(connection) }
        }
    }

    /// Works in the ledger of the database, which is made where it is not there.
    @discardableResult
    func withLedger<T: Sendable>(_ body: @Sendable (isolated Connection) throws -> T) async throws -> T {
        try await open.database.withDirectConnection(named: "reeve backup") { connection in
            try await connection.with { connection in
                try LedgerSchema.install(on: connection)
                return try body(connection)
            }
        }
    }
}

import Backups
import Foundation
import Kernel
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

    init(_ call: TaskCall) throws {
        try self.init(open: call.open, configuration: call.configuration, logger: call.logger)
    }

    /// The one that is named.
    ///
    /// - Throws: `UsageError` for one that is not configured.
    static func repository(_ place: String, of repositories: [Repository]) throws -> Repository {
        if let found = repositories.first(where: { $0.store.place == place }) { return found }
        throw UsageError(
            "'\(place)' is not a configured repository",
            hint: "configured: \(repositories.map(\.store.place).joined(separator: ", "))")
    }

    /// Called with a message about each repository that could not be examined.
    typealias Note = (String) -> Void

    /// A backup, in the repository that is named, or in the first that has it.
    ///
    /// - Parameter id: its name, or `latest`: the newest of all.
    func find(_ id: String, in place: String?, note: Note) async throws -> (Repository, Manifest) {
        let chosen = if let place { [try Self.repository(place, of: repositories)] } else { repositories }
        return try await Self.find(id, of: open.name, in: chosen, note: note)
    }

    /// A backup, in the first repository that has it.
    static func find(
        _ id: String, of database: String, in repositories: [Repository], note: Note
    ) async throws -> (Repository, Manifest) {
        if id == "latest" { return try await newest(of: database, in: repositories, id, note: note) }
        var first: (any Error)?
        for repository in repositories {
            do {
                return (repository, try await repository.manifest(id, of: database))
            } catch BackupError.unknown {
                continue
            } catch {
                first = first ?? error
            }
        }
        throw first ?? BackupError.unknown(id: id)
    }

    /// Does something with the backups of the database alone.
    ///
    /// - Throws: `BackupError.locked`, `.foreign` where they are another database's; what `body` throws.
    func alone<T: Sendable>(_ body: @Sendable (Connection, BackupLock) async throws -> T) async throws -> T {
        try await open.database.withDirectConnection(named: "reeve backup") { connection in
            // Without a ledger the lock would have a key that everybody knows, and another one than with it.
            try await connection.with { try LedgerSchema.install(on: $0) }
            return try await Repository.locked(on: connection, wait: .seconds(60)) { lock in
                try await body(connection, lock)
            }
        }
    }

    /// The newest backup of all repositories that answer: one of them may lag behind.
    ///
    /// - Parameters:
    ///   - wanted: the name by which the backup was requested.
    ///   - time: only those that were begun by then.
    /// - Throws: `BackupError.unknown` where there is none; `StorageError` where one that does not answer may have some.
    static func newest(
        of database: String, in repositories: [Repository], _ wanted: String, by time: Timestamp? = nil, note: Note
    ) async throws -> (Repository, Manifest) {
        var found: (repository: Repository, manifest: Manifest)?
        var failure: StorageError?
        for repository in repositories {
            do {
                let all = try await repository.manifests(of: database) { note("warning: \($0)") }
                guard let last = all.last(where: { one in time.map { one.began <= $0 } ?? true }) else { continue }
                if let found, (last.began, last.id) <= (found.manifest.began, found.manifest.id) { continue }
                found = (repository, last)
            } catch let error as StorageError {
                failure = failure ?? error
                note("warning: \(repository.store.place) was not looked into, and may have a newer backup: \(error)")
            }
        }
        if let found { return found }
        throw failure ?? BackupError.unknown(id: wanted)
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

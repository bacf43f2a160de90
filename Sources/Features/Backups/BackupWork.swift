import Backups
import Foundation
import Kernel
import Ledger
import Migrations
import Postgres
import Storage
import Telemetry

/// The work on the backups of one database and on their records in the ledger. The extensions create, test, restore,
/// remove and re-encrypt backups; each is in its own file.
struct BackupWork: Sendable {
    let open: OpenDatabase
    let configuration: Configuration
    let logger: Logger
    let repositories: [Repository]

    /// - Throws: `ConfigurationError` if no repository is configured.
    init(open: OpenDatabase, configuration: Configuration, logger: Logger) throws {
        self.open = open
        self.configuration = configuration
        self.logger = logger
        repositories = try BackupSettings.repositories(configuration)
    }

    init(_ call: TaskCall) throws {
        try self.init(open: call.open, configuration: call.configuration, logger: call.logger)
    }

    /// Returns the repository at a place.
    ///
    /// - Throws: `UsageError` if the place is not configured.
    static func repository(_ place: String, of repositories: [Repository]) throws -> Repository {
        if let found = repositories.first(where: { $0.store.place == place }) { return found }
        throw UsageError(
            "'\(place)' is not a configured repository",
            hint: "configured: \(repositories.map(\.store.place).joined(separator: ", "))")
    }

    /// Called with a warning about each repository or manifest that could not be read.
    typealias Note = (String) -> Void

    /// Finds a backup in the named repository, or in the first repository that has it.
    ///
    /// - Parameter id: the ID of the backup, or `latest` for the newest backup of all repositories.
    func find(_ id: String, in place: String?, note: Note) async throws -> (Repository, Manifest) {
        let chosen = if let place { [try Self.repository(place, of: repositories)] } else { repositories }
        return try await Self.find(id, of: open.name, in: chosen, note: note)
    }

    /// Finds a backup in the first of the repositories that has it.
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
        if let first { throw first }
        var known: Set<String> = []
        for repository in repositories { known.formUnion((try? await repository.ids(of: database)) ?? []) }
        throw BackupError.unknown(id: id, known: known.sorted())
    }

    /// Runs `body` under the lock, so that no other process changes the backups of the database.
    ///
    /// - Throws: `BackupError.locked`; the errors of `body`, such as `BackupError.foreign` if the backups belong to
    ///   another database.
    func alone<T: Sendable>(_ body: @Sendable (Connection, BackupLock) async throws -> T) async throws -> T {
        try await open.database.withDirectConnection(named: "reeve backup") { connection in
            // Install the ledger first. Without a ledger, the key of the lock is known to every role. With a ledger,
            // the key is another one.
            try await connection.with { try LedgerSchema.install(on: $0) }
            return try await Repository.locked(on: connection, wait: .seconds(60)) { lock in
                try await body(connection, lock)
            }
        }
    }

    /// Returns the newest backup in any repository that answers. All repositories are searched, because one of them may
    /// lack the newest backup.
    ///
    /// - Parameters:
    ///   - wanted: the name by which the backup was requested, for the error.
    ///   - time: if given, only backups that began at or before this time are considered.
    /// - Throws: `BackupError.unknown` if no repository has a backup; `StorageError` instead if a repository could not
    ///   be searched, and no other repository has a backup.
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
                note("warning: \(repository.store.place) could not be searched, and may have a newer backup: \(error)")
            }
        }
        if let found { return found }
        throw failure ?? BackupError.unknown(id: wanted)
    }

    /// Runs `body` with the ledger of the database, and installs the ledger first if it is missing.
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

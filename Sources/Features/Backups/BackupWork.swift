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
    /// The keys that manifests and proofs are signed with; the first one signs.
    let keys: [SigningKey]

    /// - Throws: `ConfigurationError` if no repository is configured, or a signing key does not exist.
    init(open: OpenDatabase, configuration: Configuration, logger: Logger) throws {
        self.open = open
        self.configuration = configuration
        self.logger = logger
        repositories = try BackupSettings.repositories(configuration)
        keys = try BackupSettings.keys(configuration)
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
    typealias Note = @Sendable (String) -> Void

    /// Returns a search for a backup in the named repository, or in all.
    ///
    /// The ledger of the database may not be readable, because the database may be what was lost. The search then says
    /// so, and goes on without it.
    func search(
        in place: String? = nil, allowing: BackupSearch.Allowance = [], note: @escaping Note
    ) async throws -> BackupSearch {
        let chosen = if let place { [try Self.repository(place, of: repositories)] } else { repositories }
        return BackupSearch(
            database: open.name, repositories: chosen, evidence: await evidence(note), allowing: allowing, note: note)
    }

    /// Returns what is known about the backups from elsewhere than the repositories.
    func evidence(_ note: Note) async -> RepositoryReview.Evidence {
        var evidence = RepositoryReview.Evidence()
        do {
            evidence = try await .read(from: open.database.direct.named("reeve backup"))
        } catch {
            note("warning: the ledger cannot be read, so it is not known whether a backup is missing: \(error)")
        }
        if evidence.records != nil, evidence.estate == nil {
            note("the database has no ledger, so it is not known whether a backup is missing")
        }
        evidence.keys = keys
        return evidence
    }

    /// Reads a repository, and compares it with what the ledger and the keys tell.
    func review(_ repository: Repository, on connection: Connection) async throws -> RepositoryReview.Reviewed {
        let evidence = try await connection.with { try RepositoryReview.Evidence.read(keys: keys, on: $0) }
        return RepositoryReview.Reviewed(try await repository.contents(of: open.name), against: evidence)
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

import Foundation
import Postgres
import Processes
import Storage
import Telemetry
import Testing

@testable import Backups

/// A repository in a folder of the test's own, with a key.
final class Vault: Sendable {
    let folder = "/tmp/reeve-vault-\(UUID().uuidString.prefix(8))"
    let store: FolderStore
    let recipient: String

    init() async throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        chmod(folder, 0o755)
        store = FolderStore("\(folder)/repository")
        _ = try await Repository(store).initialize()
        let made = try await Command("age-keygen", ["-o", "\(folder)/identity"]).run()
        let words = made.errorOutput.split(whereSeparator: \.isWhitespace)
        recipient = String(try #require(words.last))
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    var repository: Repository { Repository(store) }

    /// The names of all objects, without the mark.
    var objects: [String] {
        get async throws { try await repository.store.list("").map(\.name).filter { $0 != RepositoryMark.name } }
    }

    /// Makes a backup of which only the manifest is wanted.
    static func manifest(of settings: ConnectionSettings) async throws -> Manifest {
        let vault = try await Vault()
        let manifest = try await vault.maker(settings).make().manifest
        return withExtendedLifetime(vault) { manifest }
    }

    /// Makes another repository in the folder.
    func other(_ name: String) async throws -> FolderStore {
        let store = FolderStore("\(folder)/\(name)")
        _ = try await Repository(store).initialize()
        return store
    }

    func maker(
        _ settings: ConnectionSettings, _ store: (any ObjectStore)? = nil,
        _ change: (inout BackupMaker.Settings) -> Void = { _ in }
    ) -> BackupMaker {
        var making = BackupMaker.Settings()
        making.recipients = [recipient]
        change(&making)
        return BackupMaker(
            database: Database(settings), name: "main", repositories: [Repository(store ?? self.store)],
            settings: making)
    }

    var restoring: Restorer.Settings {
        var settings = Restorer.Settings()
        settings.identity = "\(folder)/identity"
        settings.temporaryFolder = folder
        return settings
    }

    /// Does something under the lock of a database.
    func alone<T: Sendable>(
        on settings: ConnectionSettings, _ body: @Sendable (BackupLock) async throws -> T
    ) async throws -> T {
        try await Connection.opened(settings) { connection in
            try await Repository.locked(on: connection, wait: .seconds(10), body)
        }
    }

    func remove(_ ids: Set<String>, on settings: ConnectionSettings) async throws -> Int {
        try await alone(on: settings) { try await self.repository.remove(ids, of: "main", under: $0) }
    }

    func prove(
        _ manifest: Manifest, checks: [SystemCheck] = [], logger: Logger = .silent
    ) async throws -> Proof {
        try await RestoreTest(
            repository: repository, manifest: manifest, settings: restoring, folder: "\(folder)/scratch",
            checks: checks, logger: logger
        ).run()
    }
}

/// The stored form of a manifest is not of interest in most tests.
extension RestoreTest {
    init(
        repository: Repository, manifest: Manifest, settings: Restorer.Settings, folder: String,
        beside: ConnectionSettings? = nil, checks: [SystemCheck] = [], logger: Logger = .silent
    ) throws {
        self.init(
            repository: repository,
            stored: try Manifest.decode(try manifest.encoded(), object: "\(manifest.prefix)/\(Manifest.name)"),
            settings: settings, folder: folder, beside: beside, checks: checks, logger: logger)
    }
}

extension Repository {
    /// Encrypts backups again that are not signed, and that no ledger records.
    func rewrap(
        database: String, identity: String, recipients: [String], under lock: BackupLock,
        damaged: (BackupError) -> Void = { _ in }, progress: @escaping @Sendable (String) -> Void = { _ in }
    ) async throws -> Int {
        try await rewrap(
            database: database, identity: identity, recipients: recipients, under: lock,
            rewriting: ManifestRewriting(key: nil) { _, _, _, _ in }, damaged: damaged, progress: progress)
    }
}

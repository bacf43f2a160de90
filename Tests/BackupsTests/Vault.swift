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
        let made = try await Command("age-keygen", ["-o", "\(folder)/identity"]).run()
        let words = made.errorOutput.split(whereSeparator: \.isWhitespace)
        recipient = String(try #require(words.last))
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    var repository: Repository { Repository(store) }

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

import Foundation
import Postgres
import SQL
import TestSupport
import Testing

@testable import Backups

/// What is reported as made can be read.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct ReadableManifestTests {
    @Test(.database, arguments: ["\nx", "\u{1}x", "\u{7f}", "\u{85}", "\"\u{301}'", "\u{202e}x", "\r\n%41&?"])
    func aDatabaseIsBackedUpWhateverItIsCalled(ending: String) async throws {
        let database = try TestDatabase.current
        let name = database.name + ending
        try await TestCluster.runSQL("CREATE DATABASE \(quoteIdentifier(name)) TEMPLATE template0")
        let vault = try await Vault()
        let made = await Task { try await vault.maker(database.settings.database(name)).make().manifest }.result
        try await TestCluster.runSQL("DROP DATABASE \(quoteIdentifier(name)) WITH (FORCE)")
        let manifest = try made.get()
        var damaged: [BackupError] = []
        let read = try await vault.repository.manifests(of: "main") { damaged.append($0) }
        #expect(read == [manifest] && damaged.isEmpty, "\(damaged)")
        #expect(manifest.source.utf8.elementsEqual(name.utf8))
        #expect(try await vault.prove(manifest).isProved)
    }

    /// Before anything is dumped.
    @Test(.database, arguments: ["a/b", "..", "a\nb"])
    func aBackupThatNobodyCouldReadIsNotMade(name: String) async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        var settings = BackupMaker.Settings()
        settings.recipients = [vault.recipient]
        let maker = BackupMaker(
            database: Database(database.settings), name: name, repositories: [vault.repository], settings: settings)
        await #expect(throws: (any Error).self) { _ = try await maker.make() }
        #expect(try await vault.objects.isEmpty)
    }

    @Test(.database) func aSettingThatCannotBeReadBackIsSaidAtOnce() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let error = await #expect(throws: BackupError.self) {
            _ = try await vault.maker(database.settings) { $0.version = "1\u{1}" }.make()
        }
        #expect(error?.description.contains("control characters") == true, "\(String(describing: error))")
        #expect(try await vault.objects.isEmpty)
    }
}

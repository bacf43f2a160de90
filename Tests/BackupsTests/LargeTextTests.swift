import Foundation
import Hashing
import Postgres
import Processes
import TestSupport
import Testing

@testable import Backups

/// A part of a few kilobytes can be unpacked into gigabytes.
@Suite(.timeLimit(.minutes(2)))
struct LargeTextTests {
    @Test(.database) func aTextThatIsTooLargeIsNoPart() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        var manifest = try await vault.maker(database.settings) { settings in
            settings.recipients = []
            settings.isUnencryptedAllowed = true
        }.make().manifest
        let index = try #require(manifest.parts.firstIndex { $0.kind == .catalog })
        let large = Pipeline([
            Command("head", ["-c", "67108864", "/dev/zero"]), Command("zstd", ["-q", "-c"]),
        ])
        let bytes = try await large.output()
        let object = manifest.parts[index].object
        try await vault.repository.store.write(bytes, to: object)
        manifest.parts[index] = manifest.parts[index].stored(
            as: object, bytes: bytes.count, sha256: Digest.hex(Digest.of(bytes)))
        var settings = vault.restoring
        settings.textLimit = 8 << 20
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: settings)
        let part = manifest.parts[index]
        let error = await #expect(throws: BackupError.self) { _ = try await restorer.text(of: part) }
        #expect(error?.description.contains("more than 8 MiB") == true, "\(String(describing: error))")
        settings.textLimit = 64 << 20
        let more = Restorer(repository: vault.repository, manifest: manifest, settings: settings)
        #expect(try await more.text(of: part).utf8.count == 64 << 20)
    }
}

import Foundation
import Postgres
import Storage
import TestSupport
import Testing

@testable import Backups

/// Backups are encrypted anew, and nothing is lost by that.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct KeyTests {
    @Test func keysAreRotatedAndTheLossOfOneIsRehearsed() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT g AS a, md5(g::text) AS b FROM generate_series(1, 9000) g")
        let (old, new) = (try await Vault(), try await Vault())
        let slicing = { @Sendable (settings: inout BackupMaker.Settings) in
            settings.sizes = TableSlice.Sizes(large: 100_000, slice: 200_000)
        }
        let first = try await old.maker(database.settings, nil, slicing).make().manifest
        let second = try await old.maker(database.settings, nil, slicing).make().manifest
        #expect(second.parts.filter { $0.slice != nil }.count > 1)
        let identities = [try #require(old.restoring.identity), try #require(new.restoring.identity)]
        let before = try await old.repository.trials([first, second], identities: identities)
        #expect(before.allSatisfy { $0.opening == [identities[0]] })
        let parts = try await old.alone(on: database.settings) { lock in
            try await old.repository.rewrap(
                database: "main", identity: identities[0], recipients: [new.recipient], under: lock)
        }
        #expect(parts == Set((first.parts + second.parts).map(\.object)).count)
        let manifests = try await old.repository.manifests(of: "main")
        #expect(manifests.map(\.id) == [first.id, second.id])
        let after = try await old.repository.trials(manifests, identities: identities)
        #expect(after.allSatisfy { $0.opening == [identities[1]] })
        let found = try await old.repository.verify(manifests, of: "main", identity: identities[1])
        #expect(found.problems.isEmpty && found.orphans.isEmpty)
        let proof = try await RestoreTest(
            repository: old.repository, manifest: manifests[1], settings: new.restoring,
            folder: "\(old.folder)/scratch"
        ).run()
        #expect(proof.isProved, "\(proof.differences)")
        // With the wrong identity nothing is changed.
        await #expect(throws: BackupError.self) {
            _ = try await old.alone(on: database.settings) { lock in
                try await old.repository.rewrap(
                    database: "main", identity: identities[0], recipients: [old.recipient], under: lock)
            }
        }
        let still = try await old.repository.verify(manifests, of: "main", identity: identities[1])
        #expect(still.problems.isEmpty && still.orphans.isEmpty)
    }

    @Test func `where a manifest cannot be read, a change of keys removes nothing and says so`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT 1 AS a")
        let (old, new) = (try await Vault(), try await Vault())
        let first = try await old.maker(database.settings).make().manifest
        let second = try await old.maker(database.settings).make().manifest
        #expect(second.ownBytes < second.bytes)
        let name = "\(second.prefix)/\(Manifest.name)"
        let whole = try await old.repository.store.bytes(of: name)
        try await old.repository.store.write(Array("garbage".utf8), to: name)
        let identity = try #require(old.restoring.identity)
        let damaged = try await old.alone(on: database.settings) { lock in
            var damaged: [String] = []
            _ = try await old.repository.rewrap(
                database: "main", identity: identity, recipients: [new.recipient], under: lock,
                damaged: { damaged.append($0.description) })
            return damaged
        }
        #expect(damaged.count == 1 && damaged[0].contains(name), "\(damaged)")
        // Mended by hand, it is whole.
        try await old.repository.store.write(whole, to: name)
        let found = try await old.repository.verify([second], of: "main", identity: identity)
        #expect(found.problems.isEmpty, "\(found.problems)")
        let other = try await old.repository.manifest(first.id, of: "main")
        #expect(other.recipients == [new.recipient])
        // Once more, and nothing of the old ones is left.
        try await old.alone(on: database.settings) { lock in
            _ = try await old.repository.rewrap(
                database: "main", identity: identity, recipients: [new.recipient], under: lock)
        }
        _ = try await old.maker(database.settings).make()
        let after = try await old.repository.verify(try await old.repository.manifests(of: "main"), of: "main")
        #expect(after.problems.isEmpty && after.orphans.isEmpty, "\(after.problems) \(after.orphans)")
    }
}

import Foundation
import Hashing
import Ledger
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

    /// Whoever can write to the repository makes a backup with parts of their own, and the newest time.
    @Test func `a new backup vouches for no part of a backup that cannot be relied on`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT g AS a, md5(g::text) AS b FROM generate_series(1, 9000) g")
        let vault = try await Vault()
        let key = try #require(SigningKey([UInt8](repeating: 7, count: 32)))
        let maker = vault.maker(database.settings) { $0.signingKeys = [key] }
        let first = try await maker.make().manifest
        let object = "\(first.prefix)/\(Manifest.name)"
        let genuine = String(decoding: try await vault.repository.store.bytes(of: object), as: UTF8.self)
        let line = try #require(genuine.split(separator: "\n").first)
        var forged = try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        let id = "\(first.id.dropLast(8))ffffffff"
        forged["id"] = id
        forged["startedAt"] = first.finishedAt
        var parts = try #require(forged["parts"] as? [[String: Any]])
        for index in parts.indices where parts[index]["kind"] as? String == "data" {
            let name = "main/\(id)/data-1.dump.zst.age"
            let original = try #require(parts[index]["object"] as? String)
            let bytes = try await vault.repository.store.bytes(of: original)
            try await vault.repository.store.write(bytes, to: name)
            parts[index]["object"] = name
        }
        forged["parts"] = parts
        let body = Array(try JSONSerialization.data(withJSONObject: forged))
        try await vault.repository.store.write(
            body + Array("\n\(Digest.hex(Digest.of(body)))\n".utf8), to: "main/\(id)/\(Manifest.name)")
        #expect(try await vault.repository.manifests(of: "main").map(\.id) == [first.id, id])
        let second = try await maker.make().manifest
        #expect(second.previous?.id == first.id && second.ownBytes < second.bytes)
        #expect(!second.parts.contains { $0.object.contains(id) })

        // Nor does a change of keys.
        let new = try await Vault()
        let rewriting = ManifestRewriting(key: key) { _, _, _, _ in }
        _ = try await vault.alone(on: database.settings) { lock in
            try await vault.repository.rewrap(
                database: "main", identity: "\(vault.folder)/identity", recipients: [new.recipient], under: lock,
                rewriting: rewriting, trusted: { $0.isSigned(with: [key]) })
        }
        let stored = try await vault.repository.contents(of: "main").manifests
        #expect(stored.filter { !$0.isSigned(with: [key]) }.map(\.manifest.id) == [id])
        #expect(
            stored.filter { $0.manifest.recipients == [new.recipient] }.map(\.manifest.id) == [first.id, second.id])
    }

    /// Nobody who has only the new identity could read the parts of the old recipients.
    @Test func `no part is reused that was encrypted for other recipients`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT g AS a, md5(g::text) AS b FROM generate_series(1, 9000) g")
        let (old, new) = (try await Vault(), try await Vault())
        for isSliced in [false, true] {
            let settings = { @Sendable (recipients: [String]) in
                { @Sendable (settings: inout BackupMaker.Settings) in
                    settings.recipients = recipients
                    if isSliced { settings.sizes = TableSlice.Sizes(large: 100_000, slice: 200_000) }
                }
            }
            _ = try await old.maker(database.settings, nil, settings([old.recipient])).make()
            for recipients in [[new.recipient], [new.recipient, old.recipient], [old.recipient]] {
                let made = try await old.maker(database.settings, nil, settings(recipients)).make().manifest
                #expect(made.ownBytes == made.bytes && made.recipients == recipients)
                let known = (recipients.contains(new.recipient) ? new : old).restoring.identity
                let found = try await old.repository.verify([made], of: "main", identity: known)
                #expect(found.problems.isEmpty, "\(found.problems)")
            }
            let again = try await old.maker(database.settings, nil, settings([old.recipient])).make().manifest
            #expect(again.ownBytes < again.bytes)
        }
    }

    /// In a restore test, in a verification, and in a restore; with the keys changed before a part is read, and while
    /// it is.
    @Test(arguments: [false, true])
    func `a change of keys refutes no backup that is being tested`(isHalfRead: Bool) async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE TABLE t AS SELECT g AS a, md5(g::text) AS b FROM generate_series(1, 50000) g")
        let (old, new) = (try await Vault(), try await Vault())
        let manifest = try await old.maker(database.settings).make().manifest
        let identity = try #require(old.restoring.identity)
        // Both identities in one file: the change alone is what matters here.
        let both = "\(old.folder)/both"
        try
            (try String(contentsOfFile: identity, encoding: .utf8)
            + String(contentsOfFile: try #require(new.restoring.identity), encoding: .utf8))
            .write(toFile: both, atomically: true, encoding: .utf8)
        let once = SharedQueue([()])
        let settings = database.settings
        let store = RereadStore(old.store, isHalfRead: isHalfRead) { name in
            guard name.contains("/data-1"), once.next() != nil else { return }
            let ended = DispatchSemaphore(value: 0)
            Task {
                await #expect(throws: Never.self) {
                    try await old.alone(on: settings) { lock in
                        _ = try await old.repository.rewrap(
                            database: "main", identity: identity, recipients: [new.recipient], under: lock)
                    }
                }
                ended.signal()
            }
            ended.wait()
        }
        var restoring = old.restoring
        restoring.identity = both
        let test = try RestoreTest(
            repository: Repository(store), manifest: manifest, settings: restoring, folder: "\(old.folder)/scratch")
        if isHalfRead {
            let error = await #expect(throws: BackupError.self) { _ = try await test.run() }
            guard case .notRestored? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(try await Proof.read(manifest, in: old.repository) == nil)
        } else {
            let proof = try await test.run()
            #expect(proof.isProved, "\(proof.differences)")
            // As who has read the manifest before the change.
            let found = try await old.repository.verify([manifest], of: "main", identity: both)
            #expect(found.problems.isEmpty && found.read == manifest.parts.count, "\(found.problems)")
        }
        #expect(once.next() == nil)
    }

    @Test func `a backup that is removed while it is tested is not refuted`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT 1 AS a")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        _ = try await vault.remove([manifest.id], on: database.settings)
        let error = await #expect(throws: BackupError.self) { _ = try await vault.prove(manifest) }
        #expect("\(String(describing: error))".contains("removed while it was being read"))
        let left = try await vault.repository.store.list("main/").map(\.name)
        #expect(left.isEmpty)
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

/// A store that lets something happen before an object is read, or once a piece of it was, after which it is gone.
private final class RereadStore: ObjectStore, Sendable {
    private let inner: FolderStore
    private let isHalfRead: Bool
    private let reading: @Sendable (String) -> Void

    private final class Reader: ObjectReader, @unchecked Sendable {
        // Used by one thread at a time.
        private let inner: any ObjectReader
        private let store: RereadStore
        private let name: String
        private var hasPassed = false

        init(_ inner: any ObjectReader, _ name: String, _ store: RereadStore) {
            self.inner = inner
            self.name = name
            self.store = store
        }

        func next() throws -> [UInt8]? {
            guard store.isHalfRead, name.contains("/data-1") else { return try inner.next() }
            guard !hasPassed else {
                store.reading(name)
                throw StorageError.missing(name)
            }
            let piece = try inner.next() ?? []
            hasPassed = true
            return Array(piece.prefix(1000))
        }
    }

    init(_ inner: FolderStore, isHalfRead: Bool, reading: @escaping @Sendable (String) -> Void) {
        self.inner = inner
        self.isHalfRead = isHalfRead
        self.reading = reading
    }

    var place: String { inner.place }
    var freeBytes: Int? { inner.freeBytes }
    func write(_ name: String) throws -> any ObjectWriter { try inner.write(name) }
    func read(_ name: String) throws -> any ObjectReader {
        if !isHalfRead { reading(name) }
        return Reader(try inner.read(name), name, self)
    }
    func list(_ prefix: String) throws -> [StoredObject] { try inner.list(prefix) }
    func delete(_ name: String) throws { try inner.delete(name) }
    func clearUnfinished(_ prefix: String) throws -> Int { try inner.clearUnfinished(prefix) }
}

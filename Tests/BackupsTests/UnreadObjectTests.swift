import Foundation
import Postgres
import Processes
import Storage
import TestSupport
import Testing

@testable import Backups

/// One object that cannot be read hides nothing else.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct UnreadObjectTests {
    @Test func `a manifest that cannot be read hides no other backup`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT 1 AS a")
        let vault = try await Vault()
        let first = try await vault.maker(database.settings).make().manifest
        let second = try await vault.maker(database.settings).make().manifest
        let third = try await vault.maker(database.settings).make().manifest
        let store = PartlyReadStore(vault.store) { $0 == "\(first.prefix)/\(Manifest.name)" }
        let repository = Repository(store)
        var damaged: [String] = []
        let manifests = try await repository.manifests(of: "main") { damaged.append($0.description) }
        #expect(manifests.map(\.id) == [second.id, third.id])
        #expect(damaged.count == 1 && damaged[0].contains("Permission denied"), "\(damaged)")
        // Another is made, and nothing is removed that the one may name.
        let fourth = try await vault.maker(database.settings, store).make().manifest
        #expect(fourth.parts.contains { $0.object.hasPrefix(first.prefix) })
        await #expect(throws: BackupError.self) {
            _ = try await vault.alone(on: database.settings) {
                try await repository.remove([second.id], of: "main", under: $0)
            }
        }
        var verifier = BackupVerifier([repository], of: "main")
        verifier.selection = .one("latest")
        let found = try await verifier.verify()
        #expect(found.read == fourth.parts.count && found.problems.count == 1, "\(found.problems)")
        // One that is away as a whole is no repository without backups.
        await #expect(throws: StorageError.self) {
            _ = try await Repository(PartlyReadStore(vault.store, lists: false) { _ in true }).manifests(of: "main")
        }
    }
}

extension UnreadObjectTests {
    @Test func `a manifest that is damaged in one repository is a problem, and the others are verified`() async throws {
        let vault = try await Vault()
        let manifest = try await vault.maker(try TestDatabase.current.settings).make().manifest
        let other = Repository(try await vault.other("other"))
        try await other.store.write(Array("garbage".utf8), to: "\(manifest.prefix)/\(Manifest.name)")
        for repositories in [[other, vault.repository], [vault.repository, other], [other]] {
            var verifier = BackupVerifier(repositories, of: "main")
            verifier.selection = .one(manifest.id)
            let found = try await verifier.verify()
            #expect(found.problems.count == 1, "\(found.problems)")
            #expect(found.read == (repositories.count == 1 ? 0 : manifest.parts.count))
        }
    }
}

/// A store that cannot read some objects; once it could not, it may not list either.
final class PartlyReadStore: ObjectStore, @unchecked Sendable {
    // The flag is under the lock.
    private let inner: FolderStore
    private let lists: Bool
    private let isUnread: @Sendable (String) -> Bool
    private let lock = NSLock()
    private var hasFailed = false

    init(_ inner: FolderStore, lists: Bool = true, isUnread: @escaping @Sendable (String) -> Bool) {
        self.inner = inner
        self.lists = lists
        self.isUnread = isUnread
    }

    private func failure(_ operation: String, _ name: String) -> StorageError {
        .failed(operation: operation, object: name, reason: "Permission denied")
    }

    var place: String { inner.place }
    var freeBytes: Int? { inner.freeBytes }
    func write(_ name: String) throws -> any ObjectWriter { try inner.write(name) }
    func read(_ name: String) throws -> any ObjectReader {
        guard isUnread(name) else { return try inner.read(name) }
        lock.withLock { hasFailed = true }
        throw failure("read", name)
    }
    func list(_ prefix: String) throws -> [StoredObject] {
        if !lists, lock.withLock({ hasFailed }) { throw failure("list", prefix) }
        return try inner.list(prefix)
    }
    func delete(_ name: String) throws { try inner.delete(name) }
    func clearUnfinished(_ prefix: String) throws -> Int { try inner.clearUnfinished(prefix) }
}

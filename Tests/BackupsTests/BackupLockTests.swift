import Foundation
import Ledger
import Postgres
import Processes
import Storage
import TestSupport
import Testing

@testable import Backups

/// A backup removes and refers to nothing that is another one's, and lacks nothing without saying so.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct BackupLockTests {
    /// Ends the session that holds the lock, as a failing network or an administrator does.
    private static func endHolder(_ database: TestDatabase) async throws {
        try await database.with { connection in
            let lock = try LedgerLock.named("reeve backup", on: connection)
            let ended = try connection.query(
                """
                SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND (classid::int8 << 32 | objid::int8) = $1
                """, [lock.key])
            #expect(ended.count == 1)
        }
    }

    @Test func `a backup that fails removes nothing of one that has begun since`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT 1 AS a")
        let vault = try await Vault()
        let slow = SlowStore(vault.store)
        let first = Task { try await vault.maker(database.settings, slow).make().manifest }
        try await waitUntil("the first writes") { slow.isWaiting }
        try await Self.endHolder(database)
        // What a second one has written so far.
        try await vault.repository.store.write([1], to: "main/20260101T000000Z-00000000/data-1.dump.zst.age")
        slow.letGo()
        await #expect(throws: (any Error).self) { _ = try await first.value }
        let left = try await vault.repository.store.list("main/").map(\.name)
        #expect(left == ["main/20260101T000000Z-00000000/data-1.dump.zst.age"])
    }

    @Test(arguments: ["of its own", "of the backup before"])
    func `a backup one of whose parts is gone fails`(_ whose: String) async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT 1 AS a")
        let vault = try await Vault()
        let first = try await vault.maker(database.settings).make().manifest
        let old = try #require(first.parts.first { $0.kind == .data && !$0.tables.isEmpty })
        // The sequences come after all rows.
        let losing = WatchedStore(
            vault.store,
            committed: { name in
                guard name.contains("/sequences.sql") else { return }
                try vault.store.delete(whose == "of its own" ? name : old.object)
            })
        let error = await #expect(throws: BackupError.self) {
            _ = try await vault.maker(database.settings, losing).make()
        }
        #expect("\(String(describing: error))".contains("missing"))
        let manifests = try await vault.repository.manifests(of: "main").map(\.id)
        #expect(manifests == [first.id])
    }

    @Test func `a backup ends soon after its lock is lost`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT 1 AS a")
        let vault = try await Vault()
        let slow = SlowStore(vault.store)
        let backup = Task {
            try await vault.maker(database.settings, slow) { $0.lockCheck = .milliseconds(100) }.make()
        }
        try await waitUntil("it writes", limit: .seconds(120)) { slow.isWaiting }
        try await Self.endHolder(database)
        // The store takes nothing all the while.
        await #expect(throws: (any Error).self) { _ = try await backup.value }
        slow.letGo()
    }

    /// The last look comes right before what makes it a backup.
    @Test func `a backup whose lock is lost after the last part is none`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT 1 AS a")
        let vault = try await Vault()
        let stored = Gathered<String>()
        let mayGoOn = DispatchSemaphore(value: 0)
        let store = WatchedStore(
            vault.store,
            committed: { name in
                guard name.contains("/sequences.sql") else { return }
                stored.add([name])
                _ = mayGoOn.wait(timeout: .now() + 120)
            })
        let backup = Task {
            try await vault.maker(database.settings, store) { $0.lockCheck = .seconds(600) }.make()
        }
        try await waitUntil("the last part is stored", limit: .seconds(120)) { !stored.all.isEmpty }
        try await Self.endHolder(database)
        mayGoOn.signal()
        await #expect(throws: (any Error).self) { _ = try await backup.value }
        let manifests = try await vault.repository.manifests(of: "main")
        #expect(manifests.isEmpty)
    }

    @Test func `what another database has under the name is left alone`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.with { try LedgerSchema.install(on: $0) }
        let first = try await vault.maker(database.settings).make().manifest
        #expect(first.estate?.count == 64)
        // Of a backup of the first that runs.
        let running = "main/20260101T000000Z-00000000/data-1.dump.zst.age"
        try await vault.repository.store.write([1], to: running)
        let name = "o_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let other = database.settings.database(name)
        try await Connection.opened(other) { try await $0.with { try LedgerSchema.install(on: $0) } }
        let before = try await vault.repository.store.list("").map(\.name)
        for isNamed in [true, false] {
            // Where the object was removed, the backups tell.
            if !isNamed { try await vault.repository.store.delete("main/owner.json") }
            let error = await #expect(throws: BackupError.self) { _ = try await vault.maker(other).make() }
            #expect("\(try #require(error))".contains(database.name), "\(String(describing: error))")
            #expect(error?.hint?.contains("--adopt --confirm=main") == true)
        }
        let left = try await vault.repository.store.list("").map(\.name)
        #expect(left == before.filter { $0 != "main/owner.json" })
        // Its own may go on, and so may the other one that takes over.
        let second = try await vault.maker(database.settings).make().manifest
        let adopted = try await vault.maker(other) { $0.adopts = true }.make().manifest
        #expect(adopted.estate != second.estate)
        await #expect(throws: BackupError.self) { _ = try await vault.maker(database.settings).make() }
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
    }

    @Test func `an owner that cannot be read is somebody, and a database without a ledger is not the owner`()
        async throws
    {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.with { try LedgerSchema.install(on: $0) }
        _ = try await vault.maker(database.settings).make()
        let name = "o_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        for adopts in [false, true] {
            await #expect(throws: BackupError.self) {
                _ = try await vault.maker(database.settings.database(name)) { $0.adopts = adopts }.make()
            }
        }
        try await vault.repository.store.write(Array("garbage".utf8), to: "main/owner.json")
        let error = await #expect(throws: BackupError.self) { _ = try await vault.maker(database.settings).make() }
        guard case .foreign? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try await vault.repository.store.bytes(of: "main/owner.json") == Array("garbage".utf8))
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
    }

    @Test func `where a manifest cannot be read, nothing is removed that it may need`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT 1 AS a")
        let vault = try await Vault()
        var made: [Manifest] = []
        for _ in 0..<3 { made.append(try await vault.maker(database.settings).make().manifest) }
        let parts = Set(made[0].parts.map(\.object)).intersection(made[2].parts.map(\.object))
        #expect(!parts.isEmpty)
        try await vault.repository.store.write(
            Array("garbage".utf8), to: "main/\(made[2].id)/\(Manifest.name)")
        await #expect(throws: BackupError.self) {
            _ = try await vault.remove([made[0].id, made[1].id], on: database.settings)
        }
        let left = Set(try await vault.repository.store.list("main/").map(\.name))
        #expect(parts.isSubset(of: left))
    }

    /// The ledger comes back with the rest, so only the server and the OID tell a copy from the database.
    @Test func `a restored copy takes the name of its source only when it is told to`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.with { try LedgerSchema.install(on: $0) }
        var manifest = try await vault.maker(database.settings).make().manifest
        manifest.estate = nil
        manifest.access = nil
        try await vault.repository.store.write(try manifest.encoded(), to: "main/\(manifest.id)/\(Manifest.name)")
        try await vault.repository.store.delete("main/owner.json")
        let name = "o_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let restored = database.settings.database(name)
        try await Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring).restore(
            into: restored)
        // Neither the manifest nor an owner tells that this is a copy.
        _ = try await vault.maker(restored).make()
        for (settings, adopts) in [(database.settings, false), (database.settings, true), (restored, false)] {
            let maker = vault.maker(settings) { $0.adopts = adopts }
            if adopts {
                _ = try await maker.make()
                continue
            }
            let error = await #expect(throws: BackupError.self) { _ = try await maker.make() }
            guard case .foreign(_, _, _, isCopy: true)? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
    }

    @Test func `without the lock nothing is swept`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let running = "main/20260101T000000Z-00000000/data-1.dump.zst.age"
        try await vault.repository.store.write([1], to: running)
        let once = SharedQueue([()])
        let store = WatchedStore(
            vault.store,
            listed: {
                guard once.next() != nil else { return }
                let ended = DispatchSemaphore(value: 0)
                Task {
                    try? await Self.endHolder(database)
                    ended.signal()
                }
                ended.wait()
            })
        await #expect(throws: (any Error).self) { _ = try await vault.maker(database.settings, store).make() }
        let left = try await vault.repository.store.list("main/").map(\.name)
        #expect(left == [running])
    }
}

/// A store that tells what is done with it.
final class WatchedStore: ObjectStore, Sendable {
    private let inner: FolderStore
    private let committed: @Sendable (String) throws -> Void
    private let listed: @Sendable () -> Void

    private final class Writer: ObjectWriter {
        private let inner: any ObjectWriter
        private let committed: @Sendable () throws -> Void

        init(_ inner: any ObjectWriter, _ committed: @escaping @Sendable () throws -> Void) {
            self.inner = inner
            self.committed = committed
        }

        func write(_ bytes: UnsafeRawBufferPointer) throws { try inner.write(bytes) }
        func commit() throws {
            try inner.commit()
            try committed()
        }
        func discard() { inner.discard() }
    }

    init(
        _ inner: FolderStore, committed: @escaping @Sendable (String) throws -> Void = { _ in },
        listed: @escaping @Sendable () -> Void = {}
    ) {
        self.inner = inner
        self.committed = committed
        self.listed = listed
    }

    var place: String { inner.place }
    var freeBytes: Int? { inner.freeBytes }
    func write(_ name: String) throws -> any ObjectWriter {
        let committed = committed
        return Writer(try inner.write(name)) { try committed(name) }
    }
    func read(_ name: String) throws -> any ObjectReader { try inner.read(name) }
    func list(_ prefix: String) throws -> [StoredObject] {
        listed()
        return try inner.list(prefix)
    }
    func delete(_ name: String) throws { try inner.delete(name) }
    func clearUnfinished(_ prefix: String) throws -> Int { try inner.clearUnfinished(prefix) }
}

import Foundation
import HTTPClient
import Postgres
import Processes
import Storage
import TestSupport
import Testing

@testable import Backups

/// Repositories that do not answer, and what else goes on meanwhile.
@Suite(.heavy, .timeLimit(.minutes(4)))
struct HangingStoreTests {
    private static var impatient: BoundedStore.Limits {
        var limits = BoundedStore.Limits()
        limits.call = .seconds(2)
        limits.stall = .seconds(2)
        return limits
    }

    private func make(
        _ settings: ConnectionSettings, _ vault: Vault, _ repositories: [Repository]
    ) async throws -> BackupMaker.Result {
        var making = BackupMaker.Settings()
        making.recipients = [vault.recipient]
        making.isFull = true
        return try await BackupMaker(
            database: Database(settings), name: "main", repositories: repositories, settings: making
        ).make()
    }

    /// A store of a folder that hangs in one of its calls, as a folder on a mount does whose server is away.
    private final class HangingStore: ObjectStore {
        enum Call { case clear, list, free, write, push, commit, read, next }

        private let inner: FolderStore
        private let call: Call
        let released = StopFlag()
        let entered = Gathered<Bool>()
        /// Set from the time on at which the calls hang.
        let armed: StopFlag

        init(_ inner: FolderStore, in call: Call, from armed: StopFlag? = nil) {
            self.inner = inner
            self.call = call
            self.armed = armed ?? StopFlag()
            if armed == nil { self.armed.raise() }
        }

        func pass(_ call: Call) {
            guard call == self.call, armed.isRaised else { return }
            entered.add([true])
            while !released.sleep(for: .seconds(3600)) {}
        }

        private final class Writer: ObjectWriter {
            let inner: any ObjectWriter
            let store: HangingStore

            init(_ inner: any ObjectWriter, _ store: HangingStore) {
                self.inner = inner
                self.store = store
            }

            func write(_ bytes: UnsafeRawBufferPointer) throws {
                store.pass(.push)
                try inner.write(bytes)
            }

            func commit() throws {
                store.pass(.commit)
                try inner.commit()
            }

            func discard() { inner.discard() }
        }

        private final class Reader: ObjectReader {
            let inner: any ObjectReader
            let store: HangingStore

            init(_ inner: any ObjectReader, _ store: HangingStore) {
                self.inner = inner
                self.store = store
            }

            func next() throws -> [UInt8]? {
                store.pass(.next)
                return try inner.next()
            }
        }

        var place: String { inner.place }

        var freeBytes: Int? {
            pass(.free)
            return inner.freeBytes
        }

        func write(_ name: String) throws -> any ObjectWriter {
            pass(.write)
            return Writer(try inner.write(name), self)
        }

        func read(_ name: String) throws -> any ObjectReader {
            pass(.read)
            return Reader(try inner.read(name), self)
        }

        func list(_ prefix: String) throws -> [StoredObject] {
            pass(.list)
            return try inner.list(prefix)
        }

        func delete(_ name: String) throws { try inner.delete(name) }

        func clearUnfinished(_ prefix: String) throws -> Int {
            pass(.clear)
            return try inner.clearUnfinished(prefix)
        }
    }

    @Test(.database, arguments: [.clear, .list, .free, .write, .push, .commit] as [HangingStore.Call])
    private func aFolderThatHangsCostsTheBackupElsewhereNothing(call: HangingStore.Call) async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT i, md5(i::text) AS a FROM generate_series(1, 20000) i")
        let vault = try await Vault()
        let hanging = HangingStore(try await vault.other("away"), in: call)
        let began = ContinuousClock.now
        let away = Repository(hanging, limits: Self.impatient)
        let result = try await make(database.settings, vault, [away, vault.repository])
        #expect(ContinuousClock.now - began < .seconds(40))
        #expect(result.places.map(\.address) == [vault.store.place] && result.failed.map(\.place) == [hanging.place])
        let said = "\(try #require(result.failed.first).error)"
        #expect(said.contains(hanging.place) && said.contains("no answer within 2 s"), "\(said)")
        let found = try await vault.repository.verify([result.manifest], of: "main")
        #expect(found.problems.isEmpty && found.orphans.isEmpty && found.read > 0)
        try await waitUntil("what hangs is counted") { away.store.hung > 0 }
        hanging.released.raise()
        try await waitUntil("the threads come back") { away.store.hung == 0 }
    }

    @Test func whatIsGivenUpWhileItIsCommittedLeavesNothing() async throws {
        let vault = try await Vault()
        let hanging = HangingStore(vault.store, in: .commit)
        let store = BoundedStore(hanging)
        let writer = try store.writer(of: "main/1/part")
        let commit = Task { try await writer.commit() }
        try await waitUntil("it is committed") { !hanging.entered.all.isEmpty }
        commit.cancel()
        await #expect(throws: CancellationError.self) { try await commit.value }
        async let discarded: Void = writer.discard()
        hanging.released.raise()
        await discarded
        try await waitUntil("the thread comes back") { store.hung == 0 }
        #expect(try await vault.objects == [])
    }

    @Test(.database, arguments: [.list, .read, .next] as [HangingStore.Call])
    private func aFolderThatHangsIsNotReadForEver(call: HangingStore.Call) async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let manifest = try await make(database.settings, vault, [vault.repository]).manifest
        let hanging = HangingStore(vault.store, in: call)
        defer { hanging.released.raise() }
        let away = Repository(hanging, limits: Self.impatient)
        let restorer = Restorer(repository: away, manifest: manifest, settings: vault.restoring)
        await #expect(throws: StorageError.self) { _ = try await away.verify([manifest], of: "main") }
        if call != .list {
            let part = try #require(manifest.parts.first { $0.kind == .roles })
            await #expect(throws: StorageError.self) { _ = try await restorer.text(of: part) }
        }
        // A caller that is cancelled goes on at once, whatever the limit.
        let patient = Repository(hanging)
        let before = hanging.entered.all.count
        let work = Task { try await patient.verify([manifest], of: "main") }
        try await waitUntil("it hangs") { hanging.entered.all.count > before }
        let began = ContinuousClock.now
        work.cancel()
        await #expect(throws: CancellationError.self) { _ = try await work.value }
        #expect(ContinuousClock.now - began < .seconds(15))
    }

    @Test(.database) func aBackupIntoAFolderThatHangsEndsWhenItIsCancelled() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT i, md5(i::text) AS a FROM generate_series(1, 20000) i")
        let vault = try await Vault()
        let hanging = HangingStore(vault.store, in: .push)
        defer { hanging.released.raise() }
        let work = Task { try await make(database.settings, vault, [Repository(hanging)]) }
        try await waitUntil("a part is begun") {
            let names = FileManager.default.enumerator(atPath: vault.store.place)?.allObjects ?? []
            return names.contains { "\($0)".hasSuffix(".unfinished") }
        }
        let began = ContinuousClock.now
        work.cancel()
        await #expect(throws: (any Error).self) { _ = try await work.value }
        #expect(ContinuousClock.now - began < .seconds(30))
        let locked: Int = try await database.value(
            """
            SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND pid <> pg_backend_pid()
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            """)
        #expect(locked == 0)
    }

    /// The previous backup is sought while the dumps begin.
    @Test(.database) func aSearchForThePreviousBackupEndsWhenTheBackupIsCancelled() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 200) i")
        let vault = try await Vault()
        let hanging = HangingStore(vault.store, in: .list, from: StopFlag())
        defer { hanging.released.raise() }
        var making = BackupMaker.Settings()
        making.recipients = [vault.recipient]
        making.begun = { _ in hanging.armed.raise() }
        let maker = BackupMaker(
            database: Database(database.settings), name: "main", repositories: [Repository(hanging)], settings: making)
        let work = Task { try await maker.make() }
        try await waitUntil("it hangs") { hanging.entered.count > 0 }
        // The rows are read, and wait to be compared with the previous backup.
        try await waitUntil("the rows are read") {
            try await database.value(
                """
                SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()
                    AND application_name = 'reeve backup reader' AND state = 'idle in transaction'
                    AND query LIKE 'ROLLBACK TO SAVEPOINT%'
                """)
        }
        let began = ContinuousClock.now
        work.cancel()
        await #expect(throws: CancellationError.self) { _ = try await work.value }
        #expect(ContinuousClock.now - began < .seconds(60))
    }

    @Test func afterTooManyHungCallsFurtherOnesFailAtOnce() async throws {
        let vault = try await Vault()
        let hanging = HangingStore(vault.store, in: .list)
        defer { hanging.released.raise() }
        var limits = BoundedStore.Limits()
        limits.call = .milliseconds(200)
        limits.hung = 2
        let store = BoundedStore(hanging, limits: limits)
        // A call that has not come to its turn does not hang.
        while store.hung < 2 { await #expect(throws: StorageError.self) { _ = try await store.list("") } }
        limits.call = .seconds(600)
        let other = BoundedStore(hanging, limits: limits)
        for _ in 0..<3 {
            let error = await #expect(throws: StorageError.self) { _ = try await other.freeBytes() }
            #expect(error?.description == "\(vault.store.place) does not answer: 2 calls to it are still pending")
        }
        hanging.released.raise()
        try await waitUntil("they come back") { other.hung == 0 }
        _ = try await other.list("")
    }

    // MARK: Buckets

    private func bucket(_ endpoint: String, _ server: S3Server) throws -> S3Store {
        S3Store(
            try S3Location("s3://\(S3Server.bucket)/\(UUID().uuidString.lowercased())?endpoint=\(endpoint)"),
            S3Credentials(accessKey: server.accessKey, secretKey: server.secretKey))
    }

    /// One that is silent from the start, one that falls silent while parts are written, and one that only drips.
    @Test(.database, arguments: ["silent", "silent later", "drips"])
    func aBucketThatHangsCostsTheBackupElsewhereNothing(_ how: String) async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT i, md5(i::text) AS a FROM generate_series(1, 20000) i")
        let vault = try await Vault()
        let server = try S3Server.shared()
        let proxy = try S3FaultProxy(before: server) { request in
            switch how {
            case "silent": .silence
            case "drips": .drip
            default: request.method == "PUT" ? .silence : .none
            }
        }
        defer { proxy.close() }
        let away = Repository(try bucket(proxy.endpoint, server), limits: Self.impatient)
        let began = ContinuousClock.now
        let result = try await make(database.settings, vault, [away, vault.repository])
        #expect(ContinuousClock.now - began < .seconds(40))
        #expect(result.places.map(\.address) == [vault.store.place] && result.failed.map(\.place) == [away.store.place])
        // The requests are broken off, and so no thread stays.
        try await waitUntil("no thread stays") { away.store.hung == 0 }
    }
}

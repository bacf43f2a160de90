import Foundation
import HTTPClient
import Hashing
import Postgres
import Storage
import TestSupport
import Testing

@testable import Backups

/// Backups in slices, in several repositories, and in S3.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct RepositoriesTests {
    private static let rows = """
        CREATE TABLE public.log (id bigint PRIMARY KEY, at timestamptz, amount numeric, note text, data jsonb, raw bytea,
            "odd "" col" text, twice bigint GENERATED ALWAYS AS (id * 2) STORED);
        INSERT INTO public.log (id, at, amount, note, data, raw, "odd "" col")
            SELECT i, '2026-01-01'::timestamptz + i * interval '1 min', i / 7.0, E'line\\n\\t\\\\.' || i,
                jsonb_build_object('i', i, 'n', NULL), decode(md5(i::text), 'hex'), CASE WHEN i % 3 = 0 THEN NULL ELSE '\\N' END
            FROM generate_series(1, 6000) i;
        CREATE TABLE public.small (id integer); INSERT INTO public.small VALUES (1), (2);
        """

    /// So that a table of half a megabyte is large.
    private static func slicing(_ settings: inout BackupMaker.Settings) {
        settings.sizes = TableSlice.Sizes(large: 100_000, slice: 200_000)
    }

    /// The rows are hashed while they are dumped; where a dump lacks generated columns, by a query.
    @Test(.database, arguments: [true, false])
    func aLargeTableIsStoredInSlicesAndOnlyWhatChangedAgain(isHashedByQuery: Bool) async throws {
        let database = try TestDatabase.current
        try await database.execute(Self.rows)
        if !isHashedByQuery { try await database.execute("ALTER TABLE public.log ALTER COLUMN twice DROP EXPRESSION") }
        let vault = try await Vault()
        let first = try await vault.maker(database.settings, nil, Self.slicing).make().manifest
        let table = try #require(first.tables.first { $0.name == "log" })
        #expect(table.isOfCopy == (isHashedByQuery ? nil : true))
        let slices = first.parts.filter { $0.slice != nil }
        #expect(slices.count >= 3)
        #expect(slices.compactMap(\.slice?.rows).reduce(0, +) == 6000)
        let proof = try await vault.prove(first)
        #expect(proof.isProved, "\(proof.differences)")
        #expect(proof.notCompared?.contains { $0.contains("generated") } == false)
        // What is appended lies in the last slice.
        try await database.execute(
            "INSERT INTO public.log (id, note) SELECT i, 'new' FROM generate_series(6001, 6010) i")
        let second = try await vault.maker(database.settings, nil, Self.slicing).make().manifest
        let again = second.parts.filter { $0.slice != nil && $0.object.contains(second.id) }
        #expect(again.count == 1 && again.first?.slice?.endPage == nil)
        let other = try await vault.prove(second)
        #expect(other.isProved, "\(other.differences)")
        // An update moves rows to the end: the slice that they were in and the last one.
        try await database.execute("UPDATE public.log SET note = 'changed' WHERE id = 1")
        let third = try await vault.maker(database.settings, nil, Self.slicing).make().manifest
        #expect(third.parts.filter { $0.slice != nil && $0.object.contains(third.id) }.count == 2)
        // Another column: everything.
        try await database.execute("ALTER TABLE public.log ADD COLUMN more integer")
        let fourth = try await vault.maker(database.settings, nil, Self.slicing).make().manifest
        #expect(
            fourth.parts.filter { $0.kind == .data && $0.slice != nil }.allSatisfy { $0.object.contains(fourth.id) })
        let last = try await vault.prove(fourth)
        #expect(last.isProved, "\(last.differences)")
        // The proof compares the hash.
        let text = String(decoding: try JSONEncoder().encode(first), as: UTF8.self)
        let wrong = text.replacing(table.digest, with: String(repeating: "a", count: 32))
        let refuted = try await vault.prove(try JSONDecoder().decode(Manifest.self, from: Data(wrong.utf8)))
        #expect(refuted.differences.map(\.object) == ["public.log"])
    }

    @Test(.database) func aLargeTableOfOneSliceIsProved() async throws {
        let database = try TestDatabase.current
        try await database.execute(Self.rows)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings, nil) {
            $0.sizes = TableSlice.Sizes(large: 100_000, slice: 1 << 30)
        }.make().manifest
        #expect(manifest.parts.filter { $0.slice != nil }.count == 1)
        let proof = try await vault.prove(manifest)
        #expect(proof.isProved, "\(proof.differences)")
    }

    @Test(.database) func oneRepositoryThatFailsDoesNotLoseTheOther() async throws {
        let database = try TestDatabase.current
        try await database.execute(Self.rows)
        let vault = try await Vault()
        let other = try await vault.other("other")
        func make(_ stores: [any ObjectStore]) async throws -> BackupMaker.Result {
            var settings = BackupMaker.Settings()
            settings.recipients = [vault.recipient]
            settings.isFull = true
            settings.lockWait = .seconds(10)
            return try await BackupMaker(
                database: Database(database.settings), name: "main", repositories: stores.map { Repository($0) },
                settings: settings
            ).make()
        }
        let both = try await make([vault.store, other])
        #expect(both.places.map(\.address) == [vault.store.place, other.place] && both.failed.isEmpty)
        let names = try await vault.repository.store.list("").map(\.name)
        #expect(try await Repository(other).store.list("").map(\.name) == names)
        for bytes in [0, 1000, both.manifest.bytes - 10] {
            let full = FullStore(other, bytes: bytes)
            let one = try await make([vault.store, full])
            #expect(
                one.places.map(\.address) == [vault.store.place] && one.failed.map(\.place) == [other.place], "\(bytes)"
            )
            let found = try await vault.repository.verify([one.manifest], of: "main")
            #expect(found.problems.isEmpty && found.orphans.isEmpty)
            // What was good there is good still, and nothing of the other stays.
            #expect(try await Repository(other).store.list("").map(\.name) == names)
        }
        await #expect(throws: StorageError.self) {
            _ = try await make([FullStore(vault.store, bytes: 10), FullStore(other, bytes: 10)])
        }
        // Both again: what only one of them has is not referred to.
        let again = try await make([vault.store, other])
        for store in [vault.store, other] {
            let found = try await Repository(store).verify([again.manifest], of: "main")
            #expect(found.problems.isEmpty, "\(found.problems)")
        }
        let proof = try await RestoreTest(
            repository: Repository(other), manifest: again.manifest, settings: vault.restoring,
            folder: "\(vault.folder)/scratch"
        ).run()
        #expect(proof.isProved, "\(proof.differences)")
    }

    @Test(.database) func aFolderWithoutRoomIsLeftOut() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let error = await #expect(throws: BackupError.self) {
            _ = try await vault.maker(database.settings, Cramped(inner: vault.store)).make()
        }
        #expect(error?.description.contains("are needed") == true)
    }

    private struct Cramped: ObjectStore {
        let inner: FolderStore
        var place: String { inner.place }
        var freeBytes: Int? { 4096 }
        func write(_ name: String) throws -> any ObjectWriter { try inner.write(name) }
        func read(_ name: String) throws -> any ObjectReader { try inner.read(name) }
        func list(_ prefix: String) throws -> [StoredObject] { try inner.list(prefix) }
        func delete(_ name: String) throws { try inner.delete(name) }
        func clearUnfinished(_ prefix: String) throws -> Int { try inner.clearUnfinished(prefix) }
    }

    /// A whole backup and its proof over a bucket whose server fails now and then.
    @Test(.database) func aBackupInABucketThatFailsNowAndThenIsProved() async throws {
        let database = try TestDatabase.current
        try await database.execute(Self.rows)
        let vault = try await Vault()
        let server = try S3Server.shared()
        let faults: [S3FaultProxy.Fault] = [
            .status(503, code: "SlowDown"), .resetAfter, .resetBefore, .truncated,
            .errorInside200(code: "InternalError"),
            .twice, .status(500, code: "InternalError"),
        ]
        let proxy = try S3FaultProxy(before: server) {
            $0.number % 3 == 0 ? faults[$0.number / 3 % faults.count] : .none
        }
        defer { proxy.close() }
        var settings = S3Store.Settings()
        settings.retries = RetryPolicy(attempts: 8, first: .milliseconds(5), longest: .milliseconds(50))
        let prefix = UUID().uuidString.lowercased()
        let store = S3Store(
            try S3Location("s3://\(S3Server.bucket)/\(prefix)?endpoint=\(proxy.endpoint)"),
            S3Credentials(accessKey: server.accessKey, secretKey: server.secretKey), settings: settings)
        _ = try await Repository(store).initialize()
        let first = try await vault.maker(database.settings, store, Self.slicing).make().manifest
        try await database.execute("INSERT INTO public.small VALUES (3)")
        let second = try await vault.maker(database.settings, store, Self.slicing).make().manifest
        #expect(second.parts.contains { $0.object.contains(first.id) })
        let proof = try await RestoreTest(
            repository: Repository(store), manifest: second, settings: vault.restoring,
            folder: "\(vault.folder)/scratch"
        ).run()
        #expect(proof.isProved, "\(proof.differences)")
        let found = try await Repository(store).verify([first, second], of: "main", identity: vault.restoring.identity)
        #expect(found.problems.isEmpty && found.orphans.isEmpty && proxy.faults > 10)
    }

    @Test(.database) func verificationSamplesAndOpens() async throws {
        let database = try TestDatabase.current
        try await database.execute(Self.rows)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings, nil, Self.slicing).make().manifest
        let sample = try await vault.repository.verify([manifest], of: "main", share: 0.2)
        #expect(sample.parts == manifest.parts.count && sample.read < sample.parts && sample.read > 0)
        let other = try await Vault()
        let closed = try await vault.repository.verify([manifest], of: "main", identity: other.restoring.identity)
        #expect(closed.problems.count == manifest.parts.count)
        // A part that is missing is seen without being read.
        try await vault.repository.store.delete(try #require(manifest.parts.first { $0.slice != nil }).object)
        for _ in 0..<5 {
            let missing = try await vault.repository.verify([manifest], of: "main", share: 0.01)
            #expect(missing.problems.contains { $0.description.contains("missing") })
        }
    }

    @Test(.database) func severalRepositoriesAreVerifiedAndOneThatFailsIsAProblem() async throws {
        let vault = try await Vault()
        let manifest = try await vault.maker(try TestDatabase.current.settings).make().manifest
        try await vault.repository.store.write([1], to: "main/20260101T000000Z-0000000a/data-1.dump.zst.age")
        let empty = Repository(try await vault.other("empty"))
        let gone = Repository(UnusableStore("gone", .hung(place: "gone", calls: 1)))
        var verifier = BackupVerifier([gone, empty, vault.repository], of: "main")
        let all = try await verifier.verify()
        #expect(all.problems.map(\.description).map { $0.contains("gone cannot be read") } == [true])
        #expect(all.parts == manifest.parts.count && all.read == all.parts && all.unopened == all.parts)
        #expect(all.bytes == manifest.bytes && all.orphans == ["main/20260101T000000Z-0000000a/data-1.dump.zst.age"])
        verifier.selection = .one("latest")
        verifier.identity = vault.restoring.identity
        let one = try await verifier.verify()
        #expect(
            one.problems.count == 2 && one.problems.contains { "\($0)".contains("/empty does not contain this backup") }
        )
        #expect(one.read == manifest.parts.count && one.unopened == 0)
        var lacking = BackupVerifier([empty, vault.repository], of: "main")
        lacking.selection = .one("20200101T000000Z-00000000")
        await #expect(throws: BackupError.self) { try await lacking.verify() }
    }

    @Test(.database) func whatNoManifestNamesIsClearedUnlessOneCannotBeRead() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let first = try await vault.maker(database.settings).make().manifest
        _ = try await vault.prove(first)
        // As a change of keys leaves it that was killed, and a removal.
        for name in [
            "main/\(first.id)/roles.sql.0badcafe.zst.age", "main/20260101T000000Z-0000000a/data-1.dump.zst.age",
            "main/20260101T000000Z-0000000a/proof.json",
        ] {
            try await vault.repository.store.write([1], to: name)
        }
        _ = try await vault.maker(database.settings).make()
        let left = try await vault.repository.verify([first], of: "main")
        #expect(left.orphans.isEmpty && left.problems.isEmpty)
        #expect(try await Proof.read(first, in: vault.repository)?.isProved == true)
        try await vault.repository.store.write(Array("broken".utf8), to: first.prefix + "/manifest.json")
        let before = try await vault.repository.store.list("").map(\.name)
        _ = try await vault.maker(database.settings).make()
        #expect(Set(before).isSubset(of: try await vault.repository.store.list("").map(\.name)))
    }

    /// Whoever can write into a repository can give a manifest a checksum that fits.
    @Test(.database) func aManifestWhoseNumbersCannotBeCountedIsRefused() async throws {
        let database = try TestDatabase.current
        try await database.execute(Self.rows)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings, nil, Self.slicing).make().manifest
        let line = try #require(try manifest.encoded().split(separator: UInt8(ascii: "\n")).first)
        let name = "main/\(manifest.id)/\(Manifest.name)"
        func refused(_ change: (inout [String: Any]) -> Void) throws -> Bool {
            var object = try #require(try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any])
            change(&object)
            let body = Array(try JSONSerialization.data(withJSONObject: object))
            let bytes = body + Array("\n\(Digest.hex(Digest.of(body)))\n".utf8)
            do {
                let read = try Manifest.decode(bytes, object: name).manifest
                _ = (read.bytes, read.ownBytes, read.began)
                return false
            } catch is BackupError {
                return true
            }
        }
        #expect(try !refused { _ in })
        for number in [Int.min, -1, Int.max] {
            for list in ["parts", "tables"] {
                let refused = try refused { object in
                    var items = object[list] as? [[String: Any]] ?? []
                    for index in items.indices { items[index][list == "parts" ? "bytes" : "rows"] = number }
                    object[list] = items
                }
                #expect(refused, "\(list) \(number)")
            }
            if number < 0 { #expect(try refused { $0["databaseBytes"] = number }) }
        }
        for text in ["99999999999999999999", "1e400", "-9223372036854775809"] {
            let json = String(decoding: line, as: UTF8.self).replacing(
                /"databaseBytes":[0-9]+/, with: "\"databaseBytes\":\(text)")
            let bytes = Array("\(json)\n\(Digest.hex(Digest.of(Array(json.utf8))))\n".utf8)
            #expect(throws: BackupError.self) { try Manifest.decode(bytes, object: name) }
        }
        #expect(try !refused { $0["startedAt"] = "999999-01-01T00:00:00Z" })
    }
}

/// A place becomes a repository only if it has nothing of anybody else.
@Suite struct InitializationTests {
    @Test(arguments: [
        "a.txt", "a\tb.txt", "main/a.jpg", "main/photos/a.jpg", "main/photos/2026/a.jpg", "web/css/s.css",
        "main/20260101T000000Z-00000001/deep/a", "main/x/manifest.json",
    ])
    func `a folder with other people's files is refused, and nothing of it is removed`(_ name: String) async throws {
        let folder = "/tmp/reeve-init-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let path = "\(folder)/\(name)"
        try FileManager.default.createDirectory(
            atPath: URL(fileURLWithPath: path).deletingLastPathComponent().path, withIntermediateDirectories: true)
        try "x".write(toFile: path, atomically: true, encoding: .utf8)
        let repository = Repository(FolderStore(folder))
        await #expect(throws: StorageError.self) { try await repository.initialize() }
        #expect(FileManager.default.fileExists(atPath: path))
        #expect(Repository.orphans([StoredObject(name: name, bytes: 1)], []).isEmpty)
    }

    @Test func `what an earlier version has written is taken over`() async throws {
        let folder = "/tmp/reeve-init-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for name in ["main/20260101T000000Z-00000001/manifest.json", "main/owner.json", "audit.anchors/a/b"] {
            let path = "\(folder)/\(name)"
            try FileManager.default.createDirectory(
                atPath: URL(fileURLWithPath: path).deletingLastPathComponent().path, withIntermediateDirectories: true)
            try "x".write(toFile: path, atomically: true, encoding: .utf8)
        }
        #expect(try await Repository(FolderStore(folder)).initialize())
    }
}

@Suite struct DumpPlanTests {
    private func relation(_ name: String, _ bytes: Int, schema: String = "s") -> DatabaseContent.Relation {
        DatabaseContent.Relation(
            schema: schema, name: name, kind: "r", bytes: bytes, pages: bytes / 8192, isHeap: true, columns: [],
            storedColumns: ["a"], definition: "")
    }

    @Test(arguments: [1 << 20, 64 << 20, 66 << 20, 100 << 20, 5 << 30, 3 << 40])
    func slicesCoverATableOnceAndAreFew(bytes: Int) {
        let slices = TableSlice.slices(of: relation("t", bytes), server: 150_000)
        #expect(slices.count <= 256 && !slices.isEmpty)
        if bytes >= 64 << 20 {
            // What a changed row costs.
            let largest = slices.compactMap { slice in slice.end.map { ($0 - (slice.first ?? 0)) * 8192 } }.max() ?? 0
            #expect(largest <= max(32 << 20, bytes / 128))
            #expect(slices.first?.first == 0 && slices.last?.end == nil)
            for (one, next) in zip(slices, slices.dropFirst()) { #expect(one.end == next.first) }
        } else {
            #expect(slices.count == 1 && slices.first?.condition == nil)
        }
        #expect(TableSlice.slices(of: relation("t", bytes), server: 130_000).count == 1)
        // A single slice has no condition at all.
        if slices.count == 1 { #expect(slices[0].condition == nil) }
    }

    @Test func everyTableLiesInOnePart() {
        let tables =
            (0..<500).map { relation("t\($0)", 30 << 20) } + (0..<3).map { relation("big\($0)", 900 << 20) }
            + [relation("runs", 8192, schema: "reeve"), relation("small", 8192)]
        let plan = DumpPlan(tables, hasLargeObjects: true, server: 150_000)
        let named = plan.parts.flatMap(\.tables) + Set(plan.slices.map(\.relation.path))
        #expect(named.sorted() == tables.map(\.path).sorted())
        #expect(plan.parts.count < 20)
        // What the last part leaves out is what the others hold.
        let last = plan.parts.last
        #expect(last?.arguments.contains("--exclude-schema=reeve") == true)
        #expect(last?.arguments.contains { $0.contains("\"big0\"") } == true)
    }

    @Test(arguments: [
        // The number of tables, the size of each in MiB; how many are stored alone, and in how many parts the others.
        (100, 1, 0, 1), (100, 5, 0, 4), (100, 10, 0, 9), (100, 11, 100, 0), (100, 3, 0, 3), (250, 5, 250, 0),
        (1900, 1, 0, 9), (2000, 3, 0, 8), (8, 70, 8, 0),
    ])
    func aSmallTableSharesAPartWithFewOthers(count: Int, size: Int, alone: Int, parts: Int) {
        let tables = (0..<count).map { relation("t\(1000 + $0)", size << 20) }
        let plan = DumpPlan(tables, hasLargeObjects: false, server: 150_000)
        #expect(Set(plan.slices.map(\.relation)).count == alone)
        #expect(plan.parts.count { $0.kind == .data } == parts)
        #expect(plan.small.count == count - alone)
        // Sizes that change a little do not change how the tables are stored.
        let larger = tables.map { relation($0.name, $0.bytes + 1000) }
        #expect(
            DumpPlan(larger, hasLargeObjects: false, server: 150_000).parts.map(\.tables) == plan.parts.map(\.tables))
    }

    @Test(arguments: [
        // Relations, capacity, whether the snapshot has locked them; what the sessions may do.
        (2000, 16_000, true, true, 2, 2), (2000, 15_999, true, false, 2, 2), (2000, 8_399, true, false, 2, 2),
        (2000, 6_400, true, false, 2, 2), (2000, 6_399, true, false, 2, 1), (2000, 4_399, true, false, 1, 1),
        (2000, 3_999, false, false, 1, 1), (0, 12_800, true, true, 2, 2),
    ])
    func sessionsShareTheLockTable(
        relations: Int, capacity: Int, holdsLocks: Bool, locksAll: Bool, slots: Int, dumps: Int
    ) {
        let budget = LockBudget(
            relations: relations, capacity: capacity, holdsLocks: holdsLocks, jobs: 2, sessions: 8)
        #expect(budget.locksAll == locksAll && budget.slots == slots && budget.dumps == dumps)
        // What locks at the same time: the snapshot's session, the dumps, and the readers.
        if !locksAll, slots > 1 {
            #expect(relations * (1 + dumps) + slots * 200 <= capacity)
        }
    }

    @Test func patternsAreLiteralAndShortEnough() {
        let odd = relation("a.b*?|\"$", 1)
        #expect(DumpPlan.patterns([odd]) == ["\"s\".\"a.b*?|\"\"$\""])
        let many = (0..<3000).map { relation(String(repeating: "x", count: 60) + "\($0)", 1) }
        #expect(DumpPlan.patterns(many).allSatisfy { $0.utf8.count < 100_000 })
    }
}

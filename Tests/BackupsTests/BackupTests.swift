import Catalog
import Foundation
import Ledger
import Migrations
import Postgres
import Processes
import SQL
import Storage
import TestSupport
import Testing

@testable import Backups

@Suite(.heavy, .timeLimit(.minutes(8)))
struct BackupTests {
    private static let data = """
        CREATE TABLE public.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, total numeric, note json);
        INSERT INTO public.orders (total, note) SELECT i * 1.5, json_build_object('i', i) FROM generate_series(1, 2000) i;
        CREATE TABLE public."Odd ""Name" (a integer, "b c" text);
        INSERT INTO public."Odd ""Name" VALUES (1, 'x'), (2, NULL);
        CREATE SEQUENCE public.tickets; SELECT nextval('public.tickets'), nextval('public.tickets');
        SELECT lo_from_bytea(0, '\\x00ff42');
        CREATE TABLE public.parts (at date) PARTITION BY RANGE (at);
        CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
        INSERT INTO public.parts VALUES ('2024-05-06');
        """

    @Test(.database(DatabaseTemplate.systems)) func whatIsBackedUpIsProved() async throws {
        let database = try TestDatabase.current
        try await database.execute(Self.data)
        try await database.execute("ALTER DATABASE \(database.name) SET work_mem = '7MB'")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        #expect(manifest.tables.first { $0.name == "orders" }?.rows == 2000)
        let proof = try await vault.prove(
            manifest,
            checks: [
                SystemCheck("good", sql: "SELECT 1 WHERE false"),
                SystemCheck("none", sql: "SELECT id FROM orders WHERE total < 0"),
            ])
        #expect(proof.isProved, "\(proof.differences)")
        #expect(try await Proof.read(manifest, in: vault.repository) == proof)
        let refuted = try await vault.prove(
            manifest, checks: [SystemCheck("bad", sql: "SELECT 1"), SystemCheck("broken", sql: "SELECT nonsense")])
        // The second statement would never be looked at.
        await #expect(throws: SQLScriptError.self) {
            _ = try await vault.prove(
                manifest, checks: [SystemCheck("two", sql: "SELECT 1 WHERE false; SELECT 1")])
        }
        #expect(refuted.differences.map(\.object) == ["bad", "broken"])
        // Nothing of it stays, and nothing in the repository can be read without the key.
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(vault.folder)/scratch").isEmpty)
        for object in try await vault.repository.store.list("") where object.name.hasSuffix(".age") {
            let bytes = try Data(contentsOf: URL(fileURLWithPath: "\(vault.store.place)/\(object.name)"))
            #expect(bytes.starts(with: Data("age-encryption.org/v1".utf8)))
        }
        let verification = try await vault.repository.verify([manifest], of: "main")
        #expect(verification.problems.isEmpty && verification.orphans.isEmpty)
    }

    @Test(.database) func whatIsUnchangedIsNotDumpedAgain() async throws {
        let database = try TestDatabase.current
        try await database.execute(Self.data)
        let vault = try await Vault()
        let first = try await vault.maker(database.settings).make().manifest
        let second = try await vault.maker(database.settings).make().manifest
        #expect(second.ownBytes < first.bytes)
        #expect(second.parts.filter { $0.kind == .data }.allSatisfy { $0.object.contains(first.id) })
        let proof = try await vault.prove(second)
        #expect(proof.isProved, "\(proof.differences)")
        let full = try await vault.maker(database.settings) { $0.isFull = true }.make().manifest
        #expect(full.bytes == full.ownBytes)
        // The same rows under other columns are dumped again.
        try await database.execute("ALTER TABLE public.orders RENAME COLUMN total TO sum")
        let renamed = try await vault.maker(database.settings).make().manifest
        #expect(renamed.parts.filter { $0.kind == .data }.allSatisfy { $0.object.contains(renamed.id) })
        let again = try await vault.prove(renamed)
        #expect(again.isProved, "\(again.differences)")
    }

    @Test(.database) func whatIsNotKnownToRestoreIsNotReferredTo() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t AS SELECT 1 AS a")
        let vault = try await Vault()
        let first = try await vault.maker(database.settings).make().manifest
        try await vault.repository.store.write(Array("{".utf8), to: "\(first.prefix)/\(Proof.name)")
        let second = try await vault.maker(database.settings).make().manifest
        #expect(second.ownBytes == second.bytes)
        let third = try await vault.maker(database.settings).make().manifest
        #expect(third.ownBytes < third.bytes)
    }

    @Test(.database) func writersAndDDLBesideItMakeNoFalseAlarm() async throws {
        let database = try TestDatabase.current
        try await database.execute(Self.data)
        let vault = try await Vault()
        // Rows change all the time; tables at the start of each backup and whenever a part of it is done.
        let rows = Task {
            try await database.connection { connection in
                while !Task.isCancelled {
                    try await connection.with {
                        _ = try $0.execute(
                            """
                            INSERT INTO public.orders (total) VALUES (random()); DELETE FROM public.orders WHERE id % 7 = 3;
                            SELECT nextval('public.tickets')
                            """)
                    }
                }
            }
        }
        let changes = [
            "BEGIN; TRUNCATE public.\"Odd \"\"Name\"; INSERT INTO public.\"Odd \"\"Name\" VALUES (1), (2); COMMIT",
            "CREATE TABLE public.short (id serial PRIMARY KEY); INSERT INTO public.short DEFAULT VALUES; DROP TABLE public.short",
        ].map { sql in (sql, AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))) }
        let tables = changes.map { sql, signal in
            Task {
                try await database.connection { connection in
                    for await _ in signal.stream { try await connection.with { _ = try $0.execute(sql) } }
                }
            }
        }
        let tick: @Sendable () -> Void = { for (_, signal) in changes { signal.continuation.yield() } }
        let writers = [rows] + tables
        var proved = 0
        for _ in 0..<4 {
            let manifest: Manifest
            do {
                tick()
                manifest = try await vault.maker(database.settings).make { _, _ in tick() }.manifest
            } catch {
                // Locks were not to be had: no backup, and none of a state that never was.
                let isBusy =
                    (error as? BackupError).map { "\($0)".contains("created or dropped") }
                    ?? "\(error)".contains("LOCK TABLE")
                #expect(isBusy, "\(error)")
                continue
            }
            let proof = try await vault.prove(manifest)
            #expect(proof.isProved, "\(proof.differences)")
            proved += 1
        }
        #expect(proved > 0)
        for (_, signal) in changes { signal.continuation.finish() }
        for writer in writers {
            writer.cancel()
            _ = await writer.result
        }
        #expect(try await !vault.repository.manifests(of: "main").isEmpty)
    }

    @Test(.database) func everyFlippedBitIsFound() async throws {
        let database = try TestDatabase.current
        try await database.execute(Self.data)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        for object in try await vault.objects {
            let path = "\(vault.store.place)/\(object)"
            let original = try Data(contentsOf: URL(fileURLWithPath: path))
            for place in [0, original.count / 2, original.count - 2] {
                var damaged = original
                damaged[place] ^= 1 << UInt8.random(in: 0..<8)
                try damaged.write(to: URL(fileURLWithPath: path))
                let found = try await vault.repository.verify([manifest], of: "main")
                #expect(found.problems.count == 1, "\(object) at \(place)")
            }
            try original.write(to: URL(fileURLWithPath: path))
        }
        // A restore finds it too, whatever pg_restore makes of it.
        let part = try #require(manifest.parts.first { $0.kind == .data })
        let path = "\(vault.store.place)/\(part.object)"
        let original = try Data(contentsOf: URL(fileURLWithPath: path))
        var damaged = original
        damaged[original.count / 2] ^= 1
        try damaged.write(to: URL(fileURLWithPath: path))
        let proof = try await vault.prove(manifest)
        #expect(!proof.isProved && proof.differences.first?.kind == "part")
        try FileManager.default.removeItem(atPath: path)
        let missing = try await vault.repository.verify([manifest], of: "main")
        #expect(missing.problems.first?.description.contains("it is missing") == true)
    }

    @Test(.database) func aFullDiskLosesNothingThatWasGood() async throws {
        let database = try TestDatabase.current
        try await database.execute(Self.data)
        let vault = try await Vault()
        let good = try await vault.maker(database.settings).make().manifest
        for bytes in [0, 100, good.bytes / 4, good.bytes / 2, good.bytes - 10, good.bytes + 100] {
            let full = FullStore(vault.store, bytes: bytes)
            await #expect(throws: StorageError.self, "\(bytes)") {
                _ = try await vault.maker(database.settings, full) { $0.isFull = true }.make().manifest
            }
            #expect(try await vault.repository.manifests(of: "main").map(\.id) == [good.id])
            let verification = try await vault.repository.verify([good], of: "main")
            #expect(verification.problems.isEmpty && verification.orphans.isEmpty)
            #expect(try await vault.repository.store.clearUnfinished("") == 0)
        }
        _ = try await vault.maker(database.settings).make().manifest
    }

    /// The dumps of a database that run, as their command lines tell.
    private static func dumps(of database: String) -> [pid_t] {
        let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return processes.compactMap { pid_t($0) }.filter { pid in
            guard let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else { return false }
            let words = String(decoding: line, as: UTF8.self).split(separator: "\0").map(String.init)
            return words.first?.hasSuffix("/pg_dump") == true && words.contains { $0.contains(database) }
        }
    }

    @Test(.database, arguments: ["pg_dump is killed", "the backup is cancelled"])
    func aDumpThatIsBrokenOffIsAnErrorAndLeavesNothing(_ how: String) async throws {
        let database = try TestDatabase.current
        // More than pipes and zstd hold, so that pg_dump waits for the store.
        try await database.execute(
            """
            CREATE TABLE noise AS SELECT i, (SELECT string_agg(md5(random()::text || i || j), '') FROM generate_series(1, 30) j)
            FROM generate_series(1, 40000) i
            """)
        let vault = try await Vault()
        let slow = SlowStore(vault.store)
        let backup = Task { try await vault.maker(database.settings, slow).make().manifest }
        try await waitUntil("a dump waits for the store") {
            slow.isWaiting && !Self.dumps(of: database.name).isEmpty
        }
        if how == "pg_dump is killed" {
            for pid in Self.dumps(of: database.name) { kill(pid, SIGKILL) }
        } else {
            backup.cancel()
        }
        slow.letGo()
        switch await backup.result {
        case .success: Issue.record("there is a backup")
        case .failure(let error):
            if how == "pg_dump is killed" {
                #expect((error as? PipelineError)?.ending == .killed(signal: SIGKILL), "\(error)")
            }
        }
        #expect(Self.dumps(of: database.name).isEmpty)
        #expect(try await vault.objects.isEmpty)
        let manifest = try await vault.maker(database.settings).make().manifest
        let verification = try await vault.repository.verify([manifest], of: "main")
        #expect(verification.orphans.isEmpty && verification.problems.isEmpty)
    }

    @Test(.database) func whatMayNotBeIsRefusedBeforeItBegins() async throws {
        let database = try TestDatabase.current
        try await database.execute(Self.data)
        let vault = try await Vault()
        await #expect(throws: BackupError.self) {
            _ = try await vault.maker(database.settings) { $0.recipients = [] }.make().manifest
        }
        // Rows that policies hide would not be dumped.
        let role = "b_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            "CREATE ROLE \(role) LOGIN", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO \(role)",
            "ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY")
        var settings = database.settings
        settings.parameters["user"] = role
        let limited = vault.maker(settings)
        let error = await #expect(throws: BackupError.self) { _ = try await limited.make().manifest }
        #expect(error?.hint?.contains("BYPASSRLS") == true)
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
        // One at a time.
        try await database.connection { holder in
            let isHeld = try await holder.with { try LedgerLock.named("reeve backup", on: $0) }.acquire(
                on: holder, wait: .zero, waiting: { _ in })
            #expect(isHeld)
            let locked = await #expect(throws: BackupError.self) {
                _ = try await vault.maker(database.settings).make().manifest
            }
            #expect(locked?.description.contains("another backup") == true)
        }
        // A key that does not fit.
        let manifest = try await vault.maker(database.settings).make().manifest
        let other = try await Vault()
        await #expect(throws: BackupError.self) {
            _ = try await RestoreTest(
                repository: vault.repository, manifest: manifest, settings: other.restoring,
                folder: "\(vault.folder)/scratch"
            ).run()
        }
        #expect(try await Proof.read(manifest, in: vault.repository) == nil)
    }

    /// Whatever is changed in the restored database, the comparison says so.
    @Test(.database(DatabaseTemplate.systems)) func everyChangeOfARestoredDatabaseIsDetected() async throws {
        let database = try TestDatabase.current
        try await database.execute(Self.data)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let target = database.settings.database(name)
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
        do {
            try await restorer.restore(into: target)
            let comparison = Comparison(manifest: manifest, restorer: restorer, target: target)
            // Roles are the test cluster's, and other tests' too.
            let clean = try await comparison.differences().filter { $0.kind != "role" }
            #expect(clean == [])
            for (change, undo, kind) in [
                (
                    "UPDATE public.orders SET total = total + 1 WHERE id = 77",
                    "UPDATE public.orders SET total = total - 1 WHERE id = 77", "table"
                ),
                ("DELETE FROM public.parts", "INSERT INTO public.parts VALUES ('2024-05-06')", "table"),
                ("SELECT setval('public.tickets', 99)", "SELECT setval('public.tickets', 2)", "sequence"),
                ("SELECT lo_from_bytea(4711, '\\x01')", "SELECT lo_unlink(4711)", "large objects"),
                ("GRANT SELECT ON public.orders TO PUBLIC", "REVOKE SELECT ON public.orders FROM PUBLIC", "table"),
                (
                    "ALTER TABLE posters.batch_jobs DISABLE TRIGGER ALL",
                    "ALTER TABLE posters.batch_jobs ENABLE TRIGGER ALL", "trigger"
                ),
                ("CREATE POLICY p ON csvbatch.csv_batches", "DROP POLICY p ON csvbatch.csv_batches", "policy"),
                ("CREATE INDEX extra ON public.orders (total)", "DROP INDEX public.extra", "index"),
            ] {
                try await Connection.opened(target) { connection in
                    try await connection.with { _ = try $0.execute(change) }
                }
                let found = try await comparison.differences()
                #expect(found.contains { $0.kind == kind }, "\(change): \(found)")
                try await Connection.opened(target) { connection in
                    try await connection.with { _ = try $0.execute(undo) }
                }
            }
            let again = try await comparison.differences().filter { $0.kind != "role" }
            #expect(again == [])
        } catch {
            try? await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
            throw error
        }
        try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
    }
}

import Foundation
import Postgres
import SQL
import TestSupport
import Testing

@testable import Backups

/// Restores of whole backups of databases that are not simple.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct WholeRestoreTests {
    private let suffix = UUID().uuidString.prefix(8).lowercased()

    /// Lends an empty database beside the test's own.
    private func beside(_ body: (ConnectionSettings) async throws -> Void) async throws {
        let name = "whole_\(suffix)"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let result: Result<Void, any Error>
        do { result = .success(try await body(try TestDatabase.current.settings.database(name))) } catch {
            result = .failure(error)
        }
        try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
        try result.get()
    }

    private func value<T: PostgresDecodable & Sendable>(
        _ sql: String, in target: ConnectionSettings, as type: T.Type = T.self
    ) async throws -> T { try await Connection.opened(target) { try await $0.value(sql, as: type) } }

    @Test(.database) func `what the server refuses after the rows is listed, and the rest is restored`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            """
            CREATE FUNCTION public.moody(i integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$
                BEGIN
                    IF current_setting('my.mood', true) IS NULL THEN RAISE EXCEPTION 'not in the mood'; END IF;
                    RETURN i;
                END $$;
            CREATE TABLE public.t (id integer PRIMARY KEY, other integer UNIQUE);
            INSERT INTO public.t SELECT i, i FROM generate_series(1, 100) i;
            SET my.mood = 'good';
            CREATE INDEX t_moody ON public.t (public.moody(id));
            COMMENT ON INDEX public.t_moody IS 'depends on the index';
            CREATE MATERIALIZED VIEW public.m AS SELECT public.moody(id) AS id FROM public.t;
            CREATE INDEX m_id ON public.m (id);
            RESET my.mood;
            """)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        try await beside { target in
            let outcome = try await Restorer(
                repository: vault.repository, manifest: manifest, settings: vault.restoring
            ).restore(into: target)
            #expect(
                Set(outcome.missing.map(\.kind)) == ["index", "comment", "materialized view data"], "\(outcome.missing)"
            )
            #expect(
                outcome.missing.filter { $0.kind != "comment" }.allSatisfy { $0.reason.contains("not in the mood") })
            #expect(outcome.missing.first { $0.kind == "index" }?.object == "public t_moody")
            #expect(try await value("SELECT count(*) FROM public.t", in: target) == 100)
            #expect(
                try await value(
                    "SELECT count(*) FROM pg_constraint WHERE conrelid = 'public.t'::regclass AND contype <> 'n'",
                    in: target) == 2)
            #expect(try await value("SELECT count(*) FROM pg_indexes WHERE indexname = 'm_id'", in: target) == 1)
        }
        let proof = try await vault.prove(manifest)
        #expect(!proof.isProved)
        #expect(proof.differences.contains { $0.kind == "index" && $0.found.contains("not in the mood") })
        #expect(proof.differences.contains { $0.object == "public.m: populated" })
    }

    @Test(.database) func `a check that reads another table is restored`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            """
            CREATE TABLE public.z_known (id integer);
            INSERT INTO public.z_known SELECT generate_series(1, 9);
            CREATE FUNCTION public.is_known(i integer) RETURNS boolean LANGUAGE sql AS
                'SELECT EXISTS (SELECT FROM public.z_known k WHERE k.id = i)';
            CREATE TABLE public.a_first (id integer CHECK (public.is_known(id)));
            INSERT INTO public.a_first SELECT generate_series(1, 9);
            """)
        let vault = try await Vault()
        let proof = try await vault.prove(try await vault.maker(database.settings).make().manifest)
        #expect(proof.isProved, "\(proof.differences)")
    }

    @Test(.database, arguments: [false, true])
    func `partitions by hash of an enum are restored through their root`(isSliced: Bool) async throws {
        let database = try TestDatabase.current
        try await database.execute(
            """
            CREATE TYPE public.colour AS ENUM ('red', 'green', 'blue', 'grey', 'pink', 'teal');
            CREATE TABLE public.h (n integer, a public.colour, b public.colour[]) PARTITION BY HASH (a);
            CREATE TABLE public.h0 PARTITION OF public.h FOR VALUES WITH (MODULUS 2, REMAINDER 0);
            -- The same columns in another order.
            CREATE TABLE public.h1 (b public.colour[], gone integer, a public.colour, n integer);
            ALTER TABLE public.h1 DROP COLUMN gone;
            ALTER TABLE public.h ATTACH PARTITION public.h1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
            CREATE TABLE public.l (n integer, b public.colour[]) PARTITION BY HASH (b);
            CREATE TABLE public.l0 PARTITION OF public.l FOR VALUES WITH (MODULUS 2, REMAINDER 0);
            CREATE TABLE public.l1 PARTITION OF public.l FOR VALUES WITH (MODULUS 2, REMAINDER 1);
            INSERT INTO public.h SELECT i, c, ARRAY[c] FROM unnest(enum_range(NULL::public.colour)) c,
                generate_series(1, 500) i;
            INSERT INTO public.l SELECT n, b FROM public.h;
            """)
        let vault = try await Vault()
        let maker = vault.maker(database.settings) {
            if isSliced { $0.sizes = TableSlice.Sizes(large: 8192, slice: 16384) }
        }
        let manifest = try await maker.make().manifest
        #expect(manifest.parts.contains { $0.slice != nil } == isSliced)
        #expect(Set(manifest.tables.compactMap(\.root)) == ["public.h", "public.l"])
        let proof = try await vault.prove(manifest)
        #expect(proof.isProved, "\(proof.differences)")
        #expect(proof.notCompared?.contains { $0.contains("partition of public.h ") } == true)
        try await beside { target in
            var settings = vault.restoring
            settings.restoresAccess = true
            let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: settings)
            try await restorer.restore(into: target)
            func differences() async throws -> [String] {
                try await Comparison(manifest: manifest, restorer: restorer, target: target).differences()
                    .filter { $0.kind == "table" }.map(\.object)
            }
            #expect(try await differences() == [])
            try await Connection.opened(target) {
                try await $0.with { _ = try $0.execute("UPDATE public.h SET n = 0 WHERE n = 7 AND a = 'blue'") }
            }
            #expect(try await differences() == ["public.h"])
        }
    }

    /// Whatever the sizes of the partitions, their fingerprints are added.
    @Test(.database) func `large and small partitions by hash of an enum are compared together`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            """
            CREATE TYPE public.colour AS ENUM ('red', 'green', 'blue', 'grey', 'pink', 'teal', 'ochre', 'mauve');
            CREATE TABLE public.h (a public.colour, n int, pad text) PARTITION BY HASH (a);
            CREATE TABLE public.h0 PARTITION OF public.h FOR VALUES WITH (MODULUS 2, REMAINDER 0);
            CREATE TABLE public.h1 PARTITION OF public.h FOR VALUES WITH (MODULUS 2, REMAINDER 1);
            INSERT INTO public.h SELECT c, i, 'x' FROM unnest(enum_range(NULL::public.colour)) c, generate_series(1, 50) i;
            INSERT INTO public.h SELECT (SELECT a FROM public.h0 LIMIT 1), i, repeat('y', 300) FROM generate_series(1, 2000) i;
            """)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings) {
            $0.sizes = TableSlice.Sizes(large: 100_000, slice: 200_000)
        }.make().manifest
        #expect(Set(manifest.parts.filter { $0.slice != nil }.flatMap(\.tables)) == ["public.h0"])
        #expect(manifest.tables.filter { $0.root != nil }.allSatisfy { $0.isOfCopy == true })
        let proof = try await vault.prove(manifest)
        #expect(proof.isProved, "\(proof.differences)")
    }

    @Test(.database) func `tablespaces come back, or are replaced`() async throws {
        let database = try TestDatabase.current
        let (space, other) = ("fast_\(suffix)", "slow_\(suffix)")
        for name in [space, other] {
            try await TestCluster.runSQL("SET allow_in_place_tablespaces = on", "CREATE TABLESPACE \(name) LOCATION ''")
        }
        try await database.execute(
            """
            CREATE TABLE public.t (id integer PRIMARY KEY USING INDEX TABLESPACE \(space)) TABLESPACE \(space);
            INSERT INTO public.t SELECT generate_series(1, 10);
            CREATE MATERIALIZED VIEW public.m TABLESPACE \(space) AS SELECT id FROM public.t;
            CREATE INDEX m_id ON public.m (id) TABLESPACE \(space);
            CREATE INDEX t_id ON public.t (id);
            """)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        let proof = try await vault.prove(manifest)
        #expect(proof.isProved, "\(proof.differences)")
        #expect(proof.notCompared?.contains { $0.contains(space) } == false)
        func restored(_ mapping: [String: String]) async throws -> (String, [String]) {
            var settings = vault.restoring
            settings.tablespaces = mapping
            let restoring = settings
            var found = ("", [String]())
            try await beside { target in
                let outcome = try await Restorer(
                    repository: vault.repository, manifest: manifest, settings: restoring
                ).restore(into: target)
                #expect(outcome.missing == [])
                let spaces: String = try await value(
                    """
                    SELECT string_agg(c.relname || ' ' || coalesce(t.spcname, '-'), ',' ORDER BY c.relname)
                    FROM pg_class c LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace
                    WHERE c.relnamespace = 'public'::regnamespace
                    """, in: target)
                found = (spaces, outcome.notes)
            }
            return found
        }
        func all(in space: String) -> String { "m \(space),m_id \(space),t \(space),t_id -,t_pkey \(space)" }
        let same = try await restored([:])
        #expect(same.0 == all(in: space))
        let mapped = try await restored([space: other])
        #expect(mapped.0 == all(in: other))
        await #expect(throws: BackupError.self) { _ = try await restored([space: "none_\(suffix)"]) }
        try await TestCluster.runSQL("ALTER TABLESPACE \(space) RENAME TO gone_\(suffix)")
        let lacking = try await restored([:])
        #expect(lacking.0 == all(in: "-"))
        #expect(lacking.1.contains { $0.contains("no tablespace '\(space)'; 4 objects") }, "\(lacking.1)")
        try await database.execute("DROP MATERIALIZED VIEW public.m; DROP TABLE public.t")
        try await TestCluster.runSQL("DROP TABLESPACE gone_\(suffix)", "DROP TABLESPACE \(other)")
    }

    @Test(.database) func `a materialized view that is older than its query is no difference`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            """
            CREATE TABLE public.t (id integer);
            CREATE MATERIALIZED VIEW public.m AS SELECT id FROM public.t;
            INSERT INTO public.t VALUES (1);
            """)
        let vault = try await Vault()
        let proof = try await vault.prove(try await vault.maker(database.settings).make().manifest)
        #expect(proof.isProved, "\(proof.differences)")
    }

    @Test(.database) func `roles without passwords are named`() async throws {
        let database = try TestDatabase.current
        let (open, closed) = ("open_\(suffix)", "closed_\(suffix)")
        try await TestCluster.runSQL("CREATE ROLE \(open) LOGIN", "CREATE ROLE \(closed) LOGIN PASSWORD 'x'")
        let note = try await RolePasswords.note(on: [ExactText(open), ExactText(closed)], in: database.settings)
        try await TestCluster.runSQL("DROP ROLE \(open)", "DROP ROLE \(closed)")
        #expect(note?.contains(open) == true && note?.contains(closed) == false, "\(note ?? "")")
    }

    // MARK: Entries

    @Test(.database) func `a deadlock between two entries is not a failure`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE public.x (); CREATE TABLE public.y ()")
        // Each waits until the other has its lock, or is done.
        func lock(_ one: String, _ other: String) -> String {
            """
            LOCK TABLE public.\(one);
            DO $$ BEGIN FOR n IN 1..3000 LOOP
                EXIT WHEN obj_description('public.\(other)'::regclass) = 'done' OR EXISTS (
                    SELECT FROM pg_locks WHERE relation = 'public.\(other)'::regclass AND mode = 'AccessExclusiveLock'
                        AND granted);
                PERFORM pg_sleep(0.01);
            END LOOP; END $$;
            LOCK TABLE public.\(other); COMMENT ON TABLE public.\(one) IS 'done';
            """
        }
        let script = try ArchiveScript(
            Array(
                "SET row_security = off;\n-- TOC entry 1 (class 1 OID 1)\n\(lock("x", "y"))\n"
                    .appending("-- TOC entry 2 (class 1 OID 1)\n\(lock("y", "x"))\n").utf8), file: "s")
        let contents = try TableOfContents(Array("1; 2618 1 RULE public x r o\n2; 2618 1 RULE public y r o\n".utf8))
        let run = EntryRun(contents, script, owners: ["o"], into: database.settings, object: "s")
        #expect(try await run.run(jobs: 2) == [])
        let done: Int = try await database.value(
            "SELECT count(*) FROM pg_description WHERE description = 'done'", as: Int.self)
        #expect(done == 2)
        try await waitUntil("the deadlock is counted", limit: .seconds(60)) {
            try await database.value(
                "SELECT deadlocks > 0 FROM pg_stat_database WHERE datname = current_database()", as: Bool.self)
        }
    }

    @Test func `what depends on a failed entry fails, and the rest goes on`() throws {
        var listing =
            "1; 1259 1 INDEX public a o\n;\tdepends on: 900\n2; 0 0 COMMENT public INDEX a o\n;\tdepends on: 1\n"
        listing += "3; 0 0 INDEX ATTACH public b o\n;\tdepends on: 2\n4; 1259 1 INDEX public c o\n"
        let contents = try TableOfContents(Array(listing.utf8))
        var queue = EntryQueue(contents.entries)
        #expect(queue.next() == .entry(contents.entries[0]))
        #expect(queue.next() == .entry(contents.entries[3]))
        #expect(queue.next() == .later)
        queue.finish(contents.entries[0], failure: "no")
        queue.finish(contents.entries[3])
        #expect(queue.next() == .none)
        #expect(queue.failed.map(\.entry.id) == [1, 2, 3])
    }

    @Test func `entries are told apart by comments between statements`() throws {
        let text = """
            SET client_encoding = 'LATIN1';
            SELECT pg_catalog.set_config('search_path', '', false);
            SET default_tablespace = '';

            --
            -- TOC entry 10 (class 2606 OID 1)
            -- Name: x; Type: COMMENT

            COMMENT ON TABLE a IS 'text
            -- TOC entry 99 (class 1 OID 1)
            ; SET';

            SET default_tablespace = fast;

            -- TOC entry 11 (class 1259 OID 2)
            CREATE INDEX i ON a (b);
            ALTER INDEX i ALTER COLUMN 1 SET STATISTICS 5;
            """
        let script = try ArchiveScript(Array(text.utf8), file: "s")
        #expect(script.entries.map(\.id) == [10, 11])
        #expect(script.entries.map(\.statements.count) == [1, 2])
        #expect(script.entries[0].settings.contains("SET default_tablespace = ''"))
        #expect(script.entries[1].settings.contains("SET default_tablespace = fast"))
        #expect(!script.entries[0].sql.contains("client_encoding"))
        let placed = script.placed(["fast": "slow"])
        #expect(placed.entries[1].sql.contains(#"SET default_tablespace = "slow""#))
        #expect(script.placed(["fast": nil]).entries[1].sql.contains("SET default_tablespace = ''"))
    }

    @Test func `restored access is never wider than before`() {
        func access(_ limit: Int, _ grants: [DatabaseAccess.Grant]) -> DatabaseAccess {
            DatabaseAccess(limit: limit, grants: Set(grants), owner: "o", isTemplate: true)
        }
        func grant(
            _ who: DatabaseAccess.Grantee, _ what: DatabaseAccess.Privilege = .connect, _ isGrantable: Bool = false
        ) -> DatabaseAccess.Grant { DatabaseAccess.Grant(grantee: who, privilege: what, isGrantable: isGrantable) }
        let backup = access(-1, [grant(.everybody), grant(.role("a"), .create), grant(.role("b"), .connect, true)])
        let closed = access(5, [grant(.role("b"))])
        let open = access(-1, [grant(.everybody)])
        #expect(backup.narrowed(to: closed).grants == [])
        #expect(backup.narrowed(to: closed).limit == 5)
        #expect(backup.narrowed(to: open).grants == [grant(.everybody)])
        #expect(access(3, [grant(.role("c"))]).narrowed(to: open).grants == [grant(.role("c"))])
        #expect(open.withoutPublic(beyond: closed).grants == [])
        #expect(open.withoutPublic(beyond: backup).grants == [grant(.everybody)])
    }
}

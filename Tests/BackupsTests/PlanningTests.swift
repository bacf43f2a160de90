import Catalog
import Foundation
import Postgres
import Processes
import Telemetry
import TestSupport
import Testing

@testable import Backups

/// PostgreSQL runs code of a table's owner when a query on the table is planned; a backup and its test give it no
/// rights.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct PlanningTests {
    private let role = "evil_\(UUID().uuidString.prefix(8).lowercased())"
    private var marker: String { "/tmp/reeve-marker-\(role)" }

    /// A schema of a plain role, and functions that write a file where they have the rights of a superuser.
    private func prepare(_ database: TestDatabase) async throws {
        try await database.execute("CREATE ROLE \(role) LOGIN", "CREATE SCHEMA evil AUTHORIZATION \(role)")
        try await run(
            """
            CREATE FUNCTION evil.attack() RETURNS int LANGUAGE plpgsql AS $$
            BEGIN
                -- It may also wish to change what the session holds.
                PERFORM set_config('search_path', 'evil, pg_catalog', false), set_config('row_security', 'on', false);
                BEGIN
                    SET ROLE NONE;
                EXCEPTION WHEN OTHERS THEN NULL;
                END;
                IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
                    EXECUTE $q$COPY (SELECT 1) TO PROGRAM 'cat >\(marker)'$q$;
                END IF;
                RETURN 1;
            END $$;
            CREATE FUNCTION evil.one(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
            BEGIN RETURN evil.attack(); END $$;
            CREATE FUNCTION evil.mod(numeric, numeric) RETURNS numeric LANGUAGE plpgsql AS $$
            BEGIN RETURN evil.attack(); END $$;
            """, in: database)
    }

    private func run(_ sql: String, in database: TestDatabase) async throws {
        var settings = database.plainSettings
        settings.parameters["user"] = role
        try await Connection.opened(settings) { connection in
            try await connection.with { _ = try $0.execute(sql) }
        }
    }

    private var hasWon: Bool { FileManager.default.fileExists(atPath: marker) }

    private func remove(_ database: TestDatabase) async throws {
        try? FileManager.default.removeItem(atPath: marker)
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test(
        .database,
        arguments: [
            "CREATE INDEX ON evil.t (a) WHERE evil.one(1) = 1",
            "CREATE UNIQUE INDEX ON evil.t (a) WHERE evil.one(1) = 1",
            "CREATE INDEX ON evil.t ((a + evil.one(1)))",
            "CREATE STATISTICS evil.s ON (a + evil.one(1)), (a * 2) FROM evil.t",
            "ALTER TABLE evil.t ADD CHECK (evil.one(1) = 1)",
        ])
    func codeThatPlanningRunsHasNoRightsOfOurs(trap: String) async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        try await database.execute("ALTER DATABASE \(database.name) SET constraint_exclusion = on")
        try await run(
            """
            CREATE TABLE evil.t (gone int, a int, b text, c int GENERATED ALWAYS AS (a * 2) STORED);
            ALTER TABLE evil.t DROP COLUMN gone;
            INSERT INTO evil.t SELECT i, repeat('x', 500) || i FROM generate_series(1, 2000) i;
            CREATE TABLE evil.small (LIKE evil.t INCLUDING ALL); INSERT INTO evil.small (a, b) VALUES (1, 'b');
            \(trap);
            \(trap.replacing("evil.t", with: "evil.small").replacing("evil.s ", with: "evil.s2 "));
            """, in: database)
        let vault = try await Vault()
        // Large enough to be read in slices.
        let manifest = try await vault.maker(database.settings) { settings in
            settings.sizes = TableSlice.Sizes(large: 100_000, slice: 200_000)
        }.make().manifest
        #expect(!hasWon)
        // No query is planned on tables of roles that are not trusted.
        #expect(manifest.parts.count { $0.slice != nil } == 1)
        #expect(manifest.tables.allSatisfy { $0.isOfCopy == true })
        let proof = try await vault.prove(manifest)
        #expect(proof.isProved, "\(proof.differences)")
        #expect(!hasWon)
        try await remove(database)
    }

    /// The owner of a table has it read as he pleases, in vain: code of his is there from the beginning, or is made after
    /// the tables were listed. Or he wants no backup to be made.
    @Test(
        .database,
        arguments: [false, true],
        [
            "PERFORM set_config('extra_float_digits', '-12', false)", "RAISE EXCEPTION 'no'",
            "RAISE EXCEPTION 'no' USING ERRCODE = '57014'",
            "PERFORM pg_cancel_backend(pg_backend_pid())",
            """
            LOOP
                BEGIN
                    RAISE NOTICE 'patience'; PERFORM pg_sleep(0.1);
                EXCEPTION WHEN query_canceled THEN NULL;
                END;
            END LOOP
            """,
        ])
    func codeOfOwnersDoesNotChangeWhatIsRead(isLate: Bool, code: String) async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        try await run(
            """
            CREATE FUNCTION evil.trap() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
                IF current_setting('application_name') ~ '^reeve backup' THEN \(code); END IF;
                RETURN true;
            END $$;
            CREATE TABLE evil.t (id int, f float8);
            INSERT INTO evil.t SELECT i, i + 0.123456789012345 FROM generate_series(1, 8000) i;
            CREATE TABLE evil.small AS SELECT * FROM evil.t LIMIT 10;
            """, in: database)
        let traps = "CREATE INDEX ON evil.t (id) WHERE evil.trap(); CREATE INDEX ON evil.small (id) WHERE evil.trap()"
        if !isLate { try await run(traps, in: database) }
        let attempts = Gathered<String>()
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings) { settings in
            settings.sizes = TableSlice.Sizes(large: 100_000, slice: 200_000)
            settings.begun = { [self] id in
                attempts.add([id])
                guard isLate, attempts.count == 1 else { return }
                let ended = DispatchSemaphore(value: 0)
                Task {
                    try? await run(traps, in: database)
                    ended.signal()
                }
                ended.wait()
            }
        }.make().manifest
        #expect(attempts.count == 1)
        #expect(manifest.tables.allSatisfy { $0.isOfCopy == true })
        let left: Int = try await database.value(
            """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'reeve backup reader'
            """)
        #expect(left == 0)
        let name = "\(database.name)_again"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        var restoring = vault.restoring
        restoring.trust = .everybody
        try await Restorer(
            repository: vault.repository, manifest: manifest, settings: restoring
        ).restore(into: database.settings.database(name))
        let sum = "SELECT sum(hashfloat8(f)::numeric) FROM evil.t"
        let (expected, found): (String, String) = (
            try await database.value(sum),
            try await Connection.opened(database.settings.database(name)) { try await $0.value(sum) }
        )
        #expect(found == expected)
        try await TestCluster.runSQL("DROP DATABASE \(name)")
        let proof = try await vault.prove(manifest)
        #expect(proof.isProved, "\(proof.differences)")
        try await remove(database)
    }

    /// The constraint of a domain is code of its owner, and converting a constant to the domain runs it.
    @Test(.database) func tablesWhoseIndexesMayCheckDomainsAreReadByCopy() async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        try await run(
            """
            CREATE FUNCTION evil.one(t text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
            CREATE DOMAIN evil.dom AS text CHECK (evil.one(VALUE));
            CREATE TYPE evil.composite AS (a evil.dom); CREATE TYPE evil.kind AS ENUM ('a', 'b');
            CREATE TABLE evil.converted (a text); CREATE TABLE evil.filled (a text); CREATE TABLE evil.many (a text);
            CREATE TABLE evil.plain (a evil.kind, b evil.dom, c evil.composite);
            """, in: database)
        try await database.execute(
            """
            CREATE FUNCTION public.fill(anyelement, text) RETURNS text IMMUTABLE LANGUAGE plpgsql
                AS 'BEGIN RETURN (pg_catalog.jsonb_populate_record($1, $2::jsonb)).a; END'
            """)
        try await run(
            """
            CREATE INDEX ON evil.converted (a) WHERE 'x'::text::evil.dom = 'x';
            CREATE INDEX ON evil.filled (a) WHERE public.fill(NULL::evil.composite, '{"a": 1}') = '1';
            CREATE INDEX ON evil.many ((a || public.fill((ARRAY[NULL::evil.composite])[1], '{"a": 1}')));
            CREATE INDEX ON evil.plain ((lower(b)), a) WHERE a <> 'b'::evil.kind;
            """, in: database)
        let relations = try await database.with { try DatabaseContent.relations(trusting: [role], on: $0) }
        let readings = Dictionary(relations.map { ($0.path, $0.reading) }) { one, _ in one }
        #expect(
            readings == [
                "evil.converted": .copy, "evil.filled": .copy, "evil.many": .copy, "evil.plain": .direct,
            ])
        try await remove(database)
    }

    private struct Lines: LogSink {
        let lines = Gathered<String>()
        func write(_ line: LogLine) { lines.add([line.message]) }
    }

    @Test(.database, arguments: [false, true])
    func largeTablesAreStoredInSlicesIfTheirOwnersAreTrusted(isTrusted: Bool) async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        try await run(
            """
            CREATE TABLE evil.large (a int PRIMARY KEY, b text, c int GENERATED ALWAYS AS (a + 1) STORED);
            INSERT INTO evil.large SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 10000) i
            """, in: database)
        let vault = try await Vault()
        let said = Lines()
        var making = BackupMaker.Settings()
        making.recipients = [vault.recipient]
        making.trustedRoles = isTrusted ? [role] : []
        making.sizes.large = 1 << 20
        making.sizes.slice = 1 << 20
        let maker = BackupMaker(
            database: Database(database.settings), name: "main", repositories: [vault.repository], settings: making,
            logger: Logger(level: .info, sink: said))
        let manifest = try await maker.make().manifest
        let table = try #require(manifest.tables.first)
        #expect(table.rows == 10_000 && (table.isOfCopy == true) != isTrusted)
        #expect(said.lines.all.contains { $0.contains("trusted_roles") } != isTrusted, "\(said.lines.all)")
        #expect(try await vault.prove(manifest).isProved)
        // A second backup stores nothing of the table.
        let again = try await maker.make().manifest
        let slices = manifest.parts.filter { $0.kind == .data && !$0.tables.isEmpty }
        #expect(isTrusted ? slices.count > 1 : slices.count == 1, "\(manifest.parts.map(\.object))")
        #expect(slices.allSatisfy { slice in again.parts.contains { $0.object == slice.object } })
        try await remove(database)
    }

    @Test(.database) func whatItsOwnerCannotReadIsReadByCopyAlone() async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        try await run(
            """
            CREATE FUNCTION evil.later(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END $$;
            CREATE TABLE evil.parent (a int) PARTITION BY LIST (a);
            CREATE TABLE evil.part PARTITION OF evil.parent FOR VALUES IN (1);
            CREATE TABLE evil.policed (a int, b text, c int GENERATED ALWAYS AS (a + 1) STORED); ALTER TABLE evil.policed ENABLE ROW LEVEL SECURITY;
            ALTER TABLE evil.policed FORCE ROW LEVEL SECURITY;
            CREATE TABLE evil.revoked (a int, b text); REVOKE ALL ON evil.revoked FROM \(role);
            """, in: database)
        try await database.execute(
            "CREATE TABLE public.ours (a int, b text)", "INSERT INTO public.ours VALUES (1, E'a\\nb'), (2, NULL)",
            "INSERT INTO evil.policed (a, b) SELECT i, i FROM generate_series(1, 1000) i",
            "INSERT INTO evil.revoked VALUES (1, '')", "INSERT INTO evil.part VALUES (1)",
            "CREATE INDEX ON public.ours (a) WHERE evil.later(1) = 1",
            "ALTER TABLE evil.part OWNER TO CURRENT_USER", "CREATE TABLE public.plain (a int)")
        try await run(
            """
            CREATE OR REPLACE FUNCTION evil.later(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
            BEGIN RETURN evil.attack(); END $$;
            CREATE INDEX ON evil.revoked (a) WHERE evil.one(1) = 1;
            CREATE INDEX ON evil.policed (a) WHERE evil.one(1) = 1;
            CREATE INDEX ON evil.parent (a) WHERE evil.one(1) = 1;
            """, in: database)
        // A partition of ours is indexed with our rights, or is not: that is PostgreSQL's.
        try? FileManager.default.removeItem(atPath: marker)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        #expect(!hasWon)
        let copied = manifest.tables.filter { $0.isOfCopy == true }.map(\.name)
        #expect(copied == ["part", "policed", "revoked", "ours"])
        // The check has statistics gathered before.
        let proof = try await vault.prove(manifest, checks: [SystemCheck("none", sql: "SELECT 1 WHERE false")])
        #expect(proof.isProved, "\(proof.differences)")
        #expect(
            proof.notCompared?.first
                == "generated columns of evil.policed, because the table could be read only by COPY")
        #expect(proof.report(of: manifest).contains("Not compared: generated columns of evil.policed"))
        #expect(!hasWon)

        // What has not changed is not dumped again, and what has is.
        let second = try await vault.maker(database.settings).make().manifest
        #expect(second.tables == manifest.tables)
        #expect(!second.parts.contains { $0.kind == .data && $0.object.contains(second.id) })
        // INSERT and UPDATE would be planned on it.
        try await database.execute("TRUNCATE public.ours")
        let third = try await vault.maker(database.settings).make().manifest
        #expect(third.tables.first { $0.name == "ours" } != manifest.tables.first { $0.name == "ours" })
        #expect(third.parts.contains { $0.kind == .data && $0.object.contains(third.id) })
        try await database.execute("DROP TABLE public.ours")
        try await remove(database)
    }

    @Test func theSumOfRowsDependsOnThemAlone() {
        func sum(_ pieces: [String]) -> ContentFingerprint {
            var print = CopyFingerprint()
            for piece in pieces { Array(piece.utf8).withUnsafeBytes { print.add($0) } }
            return print.result
        }
        let one = sum(["1\ta\n2\tb\n"])
        #expect(one.rows == 2 && one.digest.count == 32)
        #expect(sum(["2\tb\n1\t", "a", "\n"]) == one)
        #expect(sum(["1\tb\n2\ta\n"]) != one)
        #expect(sum([]).rows == 0)
    }
}

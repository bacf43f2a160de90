import Foundation
import Ledger
import Postgres
import TestSupport
import Testing

@testable import Backups
@testable import Catalog

/// What others write into expressions with the functions that PostgreSQL brings, which no confinement of functions
/// holds.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct RiskyExpressionTests {
    private struct Attacker: Sendable {
        let role = "evil_\(UUID().uuidString.prefix(8).lowercased())"
        let marker = "/tmp/reeve-risky-\(UUID().uuidString.prefix(8))"

        /// Makes traps that a superuser who inserts, restores or reads sets off, and that the owner does not.
        func prepare(_ database: TestDatabase) async throws {
            try await database.execute(
                "CREATE ROLE \(role) LOGIN", "CREATE SCHEMA evil AUTHORIZATION \(role)",
                "CREATE SCHEMA ours", "CREATE TABLE ours.shared (id integer PRIMARY KEY, a text NOT NULL)",
                "GRANT USAGE ON SCHEMA ours TO \(role)", "GRANT ALL ON ours.shared TO \(role)")
            var settings = database.plainSettings
            settings.parameters["user"] = role
            try await Connection.opened(settings) { connection in
                try await connection.with { _ = try $0.execute(traps) }
            }
        }

        /// Writes the file when whoever runs it may. As its owner it is true without more.
        private var shot: String {
            "CASE WHEN current_user = '\(role)' THEN true ELSE "
                + "pg_catalog.query_to_xml('\(export("''"))', true, true, '') IS NOT NULL END"
        }

        /// Writes a large object into a file, as a superuser may. Not COPY, which PostgreSQL refuses there.
        private func export(_ quote: String) -> String {
            "SELECT pg_catalog.lo_export(oid, \(quote)\(marker)\(quote)) FROM pg_catalog.pg_largeobject_metadata LIMIT 1"
        }

        private var traps: String {
            """
            SELECT pg_catalog.lo_from_bytea(0, 'x');
            CREATE TABLE evil.checked (id integer PRIMARY KEY, a text CHECK (\(shot)));
            INSERT INTO evil.checked VALUES (1, 'x');
            CREATE TABLE evil.parent (id integer PRIMARY KEY, a text CHECK (\(shot)));
            CREATE TABLE evil.child () INHERITS (evil.parent); INSERT INTO evil.child VALUES (1, 'x');
            CREATE DOMAIN evil.word AS text CONSTRAINT shot CHECK (\(shot));
            CREATE TABLE evil.worded (id integer PRIMARY KEY, a evil.word); INSERT INTO evil.worded VALUES (1, 'x');
            CREATE TABLE evil.split (a evil.word) PARTITION BY LIST (a);
            CREATE TABLE evil.split_x PARTITION OF evil.split FOR VALUES IN ('x'); INSERT INTO evil.split VALUES ('x');
            CREATE TABLE evil.indexed (id integer PRIMARY KEY, a text);
            CREATE INDEX indexed_partly ON evil.indexed (id) WHERE a::evil.word IS NOT NULL;
            CREATE TABLE evil.given (id integer PRIMARY KEY, a boolean NOT NULL DEFAULT (\(shot)));
            CREATE TABLE evil.pointing (id integer PRIMARY KEY, p integer NOT NULL REFERENCES evil.parent);
            CREATE TABLE evil.exported (id integer PRIMARY KEY, a oid CHECK (pg_catalog.lo_export(a, '\(marker)') > 0));
            CREATE TABLE evil.harmless (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), a text CHECK (length(a) > 0));
            INSERT INTO evil.harmless (a) VALUES ('x');
            CREATE FUNCTION evil.react() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
            CREATE TRIGGER react BEFORE INSERT ON ours.shared FOR EACH ROW WHEN (\(shot)) EXECUTE FUNCTION evil.react();
            CREATE VIEW evil.seen AS SELECT 1 AS a WHERE \(shot);
            \(functions)
            """
        }

        /// Functions that confinement holds to their owner's rights, and that leave something behind for the session's.
        private var functions: String {
            """
            CREATE FUNCTION evil.declares(i integer) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN
                IF session_user = '\(role)' THEN RETURN true; END IF;
                EXECUTE pg_catalog.format(
                    'DECLARE %I CURSOR WITH HOLD FOR SELECT pg_catalog.query_to_xml(%L, true, true, %L)',
                    gen_random_uuid(), $q$\(export("'"))$q$, '');
                RETURN true; END $f$;
            CREATE TABLE evil.holding (a integer CHECK (evil.declares(a))); INSERT INTO evil.holding VALUES (1);
            CREATE DOMAIN evil.held AS integer CHECK (evil.declares(value));
            CREATE TABLE evil.domained (a evil.held); INSERT INTO evil.domained VALUES (1);
            CREATE FUNCTION evil.computes(i integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
                'BEGIN PERFORM evil.declares(i); RETURN i; END';
            CREATE TABLE evil.generated (a integer, b integer GENERATED ALWAYS AS (evil.computes(a)) STORED);
            INSERT INTO evil.generated VALUES (1);
            CREATE FUNCTION evil.meddles(name text) RETURNS integer LANGUAGE plpgsql AS $f$ BEGIN
                IF session_user = '\(role)' THEN RETURN 1; END IF;
                EXECUTE pg_catalog.format($q$ALTER TABLE evil.%I ADD CHECK (\(shot)) NOT VALID$q$, name);
                RETURN 1;
                EXCEPTION WHEN OTHERS THEN RETURN 1; END $f$;
            CREATE FUNCTION evil.meddled(i integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
                $f$ BEGIN RETURN evil.meddles('zz'); END $f$;
            CREATE TABLE evil.aa (a integer, b integer GENERATED ALWAYS AS (evil.meddled(a)) STORED);
            INSERT INTO evil.aa VALUES (1);
            CREATE TABLE evil.zz (a integer PRIMARY KEY); INSERT INTO evil.zz VALUES (1);
            CREATE TABLE evil.base (a integer PRIMARY KEY);
            CREATE TABLE evil.derived (PRIMARY KEY (a)) INHERITS (evil.base);
            CREATE FUNCTION evil.meddling() RETURNS trigger LANGUAGE plpgsql AS
                $f$ BEGIN PERFORM evil.meddles('derived'); RETURN new; END $f$;
            CREATE TRIGGER meddling BEFORE INSERT ON evil.base FOR EACH ROW EXECUTE FUNCTION evil.meddling();
            CREATE TABLE evil.ruled (a integer PRIMARY KEY);
            CREATE RULE also AS ON INSERT TO evil.ruled DO ALSO SELECT * FROM evil.seen;
            CREATE TABLE evil.led (a integer PRIMARY KEY);
            CREATE RULE also AS ON INSERT TO evil.led DO ALSO INSERT INTO evil.checked VALUES (new.a, 'y');
            """
        }

        var hasWon: Bool { FileManager.default.fileExists(atPath: marker) }

        func remove(_ database: TestDatabase) async throws {
            try? FileManager.default.removeItem(atPath: marker)
            try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
        }
    }

    @Test(.database, .server(has: .libxml)) func aRestoreEvaluatesNoneOfThem() async throws {
        let database = try TestDatabase.current
        let attacker = Attacker()
        try await attacker.prepare(database)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        let check = SystemCheck("hostile", schema: "evil", sql: "SELECT a FROM seen WHERE a = 2; ")
        // The view has a row for its owner alone: it is read by somebody else, who may not.
        let proof = try await vault.prove(manifest, checks: [check])
        #expect(proof.differences.allSatisfy { "\($0)".contains("hostile") }, "\(proof.differences)")
        // The test's own server may have run them: its account owns nothing, and all of it is gone.
        if let owner = try? FileManager.default.attributesOfItem(atPath: attacker.marker)[.ownerAccountName] as? String
        {
            #expect(owner == "nobody")
            try FileManager.default.removeItem(atPath: attacker.marker)
        }
        let target = "\(database.name)_restored"
        try await TestCluster.runSQL("CREATE DATABASE \(target) TEMPLATE template0")
        let refused = await #expect(throws: BackupError.self) {
            try await Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
                .restore(into: database.settings.database(target))
        }
        #expect(refused?.description.contains("contains code of the role '\(attacker.role)'") == true)
        #expect(!attacker.hasWon)
        // Without what is refused the rest is restored, and runs nothing.
        try await database.execute("DROP TABLE evil.generated, evil.aa")
        let manifest2 = try await vault.maker(database.settings).make().manifest
        try await TestCluster.runSQL(
            "DROP DATABASE \(target) WITH (FORCE)", "CREATE DATABASE \(target) TEMPLATE template0")
        var settings = vault.restoring
        settings.trust = .roles([attacker.role])
        let restorer = Restorer(repository: vault.repository, manifest: manifest2, settings: settings)
        try await restorer.restore(into: database.settings.database(target))
        #expect(!attacker.hasWon)
        // All constraints are there again.
        let sql = """
            SELECT string_agg(conname || pg_get_constraintdef(oid), E'\\n' ORDER BY conrelid::regclass::text, conname)
            FROM pg_constraint WHERE contype = 'c' AND connamespace = 'evil'::regnamespace
            """
        let before: String = try await database.value(sql)
        let after = try await Connection.opened(database.settings.database(target)) {
            try await $0.value(sql, as: String.self)
        }
        #expect(before == after && before.contains("query_to_xml"))
        let left = try await Connection.opened(database.settings.database(target)) {
            try await $0.value("SELECT count(*) FROM pg_namespace WHERE nspname ~ 'confinement'", as: Int.self)
        }
        #expect(left == 0)
        let guards = try await Connection.opened(database.settings.database(target)) {
            try await $0.value(
                "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname ~ 'confinement') + (SELECT count(*) FROM pg_event_trigger)",
                as: Int.self)
        }
        #expect(guards == 0)
        try await TestCluster.runSQL("DROP DATABASE \(target) WITH (FORCE)")
        try await attacker.remove(database)
    }

    @Test(.database) func aTrialWithLiveRowsLeavesThemAlone() async throws {
        let database = try TestDatabase.current
        let attacker = Attacker()
        try await attacker.prepare(database)
        let report = try await Connection.opened(database.settings) { connection in
            try await connection.with { connection in
                let reader = CatalogReader(.schemas(["evil", "ours"]))
                return try LiveTrial(reader, trusting: [attacker.role]).run(on: connection)
            }
        }
        #expect(!attacker.hasWon)
        #expect(report.failures.isEmpty, "\(report.failures)")
        let held = Set(report.held.map(\.description))
        #expect(held.contains("evil.harmless.harmless_a_check") && held.contains("evil.harmless.harmless_pkey"))
        let untried = Dictionary(grouping: report.untried, by: { $0.object.parent ?? "" })
        for table in ["checked", "parent", "indexed", "given", "exported", "shared", "ruled", "led"] {
            let reasons = untried[table]?.map(\.reason) ?? []
            #expect(
                !reasons.isEmpty && reasons.allSatisfy { $0.contains("with the rights of a superuser") },
                "\(table): \(reasons)")
        }
        try await attacker.remove(database)
    }

    /// What is confined takes it back, by itself, by an extension and by an event trigger.
    @Test(.database, .server(has: .extension("citext"))) func whatIsConfinedStaysSo() async throws {
        let database = try TestDatabase.current
        let attacker = Attacker()
        try await attacker.prepare(database)
        let role = attacker.role
        var settings = database.plainSettings
        settings.parameters["user"] = role
        try await database.execute(
            "GRANT CREATE ON DATABASE \(database.name) TO \(role)", "GRANT CREATE ON SCHEMA public TO \(role)")
        try await Connection.opened(settings) { connection in
            try await connection.with { connection in
                _ = try connection.execute(
                    """
                    CREATE EXTENSION citext SCHEMA evil;
                    CREATE FUNCTION evil.shoot() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                        IF current_user <> '\(role)' THEN
                            EXECUTE $q$COPY (SELECT 1) TO PROGRAM 'touch \(attacker.marker)'$q$;
                        END IF; END $$;
                    ALTER EXTENSION citext ADD FUNCTION evil.shoot();
                    CREATE FUNCTION evil.free() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                        EXECUTE 'ALTER EXTENSION citext DROP FUNCTION evil.shoot()';
                        EXECUTE 'ALTER FUNCTION evil.shoot() SECURITY INVOKER';
                        RETURN new; EXCEPTION WHEN OTHERS THEN RETURN new; END $$;
                    CREATE FUNCTION evil.shooting() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                        PERFORM evil.shoot(); RETURN new; END $$;
                    CREATE FUNCTION evil.unbound() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                        EXECUTE 'ALTER FUNCTION evil.shooting() SECURITY INVOKER'; RETURN new; END $$;
                    CREATE TABLE evil.aimed (id integer PRIMARY KEY, a text CHECK (length(a) > 0));
                    CREATE TRIGGER a1 BEFORE INSERT ON evil.aimed FOR EACH ROW EXECUTE FUNCTION evil.free();
                    CREATE TRIGGER a2 BEFORE INSERT ON evil.aimed FOR EACH ROW EXECUTE FUNCTION evil.unbound();
                    CREATE TRIGGER b BEFORE INSERT ON evil.aimed FOR EACH ROW EXECUTE FUNCTION evil.shooting();
                    CREATE FUNCTION evil.look() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                        PERFORM evil.shoot(); EXECUTE 'ALTER FUNCTION evil.look() SECURITY INVOKER'; END $$
                    """)
            }
        }
        // Made by a superuser, whose function another one owns.
        try await database.execute(
            "CREATE FUNCTION public.look() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
            "CREATE EVENT TRIGGER look ON ddl_command_start EXECUTE FUNCTION public.look()",
            "ALTER FUNCTION public.look() OWNER TO \(role)")
        try await Connection.opened(settings) { connection in
            try await connection.with { connection in
                _ = try connection.execute(
                    """
                    CREATE OR REPLACE FUNCTION public.look() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                        PERFORM evil.shoot();
                        IF pg_catalog.current_setting('evil.once', true) IS DISTINCT FROM 'x' THEN
                            PERFORM pg_catalog.set_config('evil.once', 'x', false);
                            EXECUTE 'ALTER FUNCTION public.look() SECURITY INVOKER';
                        END IF; EXCEPTION WHEN OTHERS THEN NULL; END $$
                    """)
            }
        }
        #expect(!attacker.hasWon)
        try await Connection.opened(database.settings) { connection in
            _ = try await connection.with { connection in
                try LedgerSchema.install(on: connection)
                let reader = CatalogReader(.schemas(["evil"]))
                return try LiveTrial(reader, trusting: [attacker.role]).run(on: connection)
            }
        }
        #expect(!attacker.hasWon)
        let enabled: String = try await Connection.opened(database.settings) {
            try await $0.value("SELECT evtenabled::text FROM pg_event_trigger WHERE evtname = 'look'")
        }
        #expect(enabled == "O")
        try await Connection.opened(database.settings) { connection in
            try await connection.with { _ = try $0.execute("UPDATE pg_event_trigger SET evtenabled = 'D'") }
        }
        try await database.execute("DROP EVENT TRIGGER look")
        try await attacker.remove(database)
    }

    @Test(.database) func aDatabaseDoesNotChooseTheRole() async throws {
        let database = try TestDatabase.current
        let attacker = Attacker()
        try await attacker.prepare(database)
        try await database.execute("ALTER DATABASE \(database.name) SET role = '\(attacker.role)'")
        for pooling in [Pooling.detected, .expected] {
            var settings = database.settings
            settings.pooling = pooling
            let role = try await Connection.opened(settings) { connection in
                try await connection.with { connection -> String in
                    try connection.resetSession()
                    return try connection.query("SELECT current_user::text").first?.get(0) ?? ""
                }
            }
            #expect(role == "postgres")
        }
        // What somebody asks for himself is his.
        var asked = database.settings
        asked.parameters["options"] = "-c role=\(attacker.role)"
        let role = try await Connection.opened(asked) {
            try await $0.value("SELECT current_user::text", as: String.self)
        }
        #expect(role == attacker.role)
        try await Connection.opened(database.settings) { connection in
            try await connection.with { _ = try $0.execute("ALTER DATABASE \(database.name) RESET role") }
        }
        try await attacker.remove(database)
    }

    /// Whoever may make a schema could have kept everybody from restoring.
    @Test(.database) func noNameIsTakenBeforehand() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE SCHEMA reeve_confinement", "CREATE TABLE reeve_confinement.t AS SELECT 1 AS a")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        #expect(try await vault.prove(manifest).isProved)
    }
}

import Catalog
import Foundation
import Postgres
import Processes
import SQL
import TestSupport
import Testing

@testable import Backups

/// What a plain role put into a database does not run with our rights, whether it is backed up, tested or restored.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct HostileBackupTests {
    /// A role of the test's own with a schema, and a function that tries to become more.
    private struct Attacker: Sendable {
        let role = "evil_\(UUID().uuidString.prefix(8).lowercased())"
        var marker: String { "/tmp/reeve-marker-\(role)" }

        func prepare(_ database: TestDatabase) async throws {
            try await database.execute("CREATE ROLE \(role) LOGIN", "CREATE SCHEMA evil AUTHORIZATION \(role)")
            try await run(
                """
                CREATE FUNCTION evil.attack() RETURNS void LANGUAGE plpgsql AS $$
                DECLARE
                    command text;
                BEGIN
                    FOREACH command IN ARRAY ARRAY['RESET ROLE', 'SET ROLE NONE', 'RESET SESSION AUTHORIZATION',
                        'ALTER FUNCTION evil.attack() SECURITY INVOKER', 'ALTER ROLE \(role) SUPERUSER',
                        'SET search_path = evil',
                        $c$COPY (SELECT 1) TO PROGRAM 'touch \(marker)'$c$]
                    LOOP
                        BEGIN
                            EXECUTE command;
                        EXCEPTION WHEN OTHERS THEN
                            NULL;
                        END;
                    END LOOP;
                END $$;
                -- What may not change anything itself calls what may.
                CREATE FUNCTION evil.yes(x text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
                BEGIN PERFORM evil.attack(); RETURN true; END $$;
                CREATE FUNCTION evil.same(x text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
                BEGIN PERFORM evil.attack(); RETURN x; END $$;
                """, in: database)
        }

        /// Runs statements as the attacker, on a connection of his own: SET ROLE could be taken back.
        func run(_ sql: String, in database: TestDatabase) async throws {
            var settings = database.plainSettings
            settings.parameters["user"] = role
            try await Connection.opened(settings) { connection in
                try await connection.with { _ = try $0.execute(sql) }
            }
        }

        /// Whether the attacker has got anywhere.
        func hasWon(_ database: TestDatabase) async throws -> Bool {
            let isSuper: Bool = try await database.value("SELECT rolsuper FROM pg_roles WHERE rolname = $1", [role])
            return isSuper || FileManager.default.fileExists(atPath: marker)
        }

        func remove(_ database: TestDatabase) async throws {
            try? FileManager.default.removeItem(atPath: marker)
            try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
        }
    }

    private static let traps = """
        CREATE TABLE evil.checked (a text CHECK (evil.yes(a)));
        INSERT INTO evil.checked VALUES ('x');
        CREATE DOMAIN evil.word AS text CHECK (evil.yes(VALUE));
        CREATE TABLE evil.worded (a evil.word); INSERT INTO evil.worded VALUES ('x');
        CREATE TABLE evil.made (a text, b text GENERATED ALWAYS AS (evil.same(a)) STORED);
        INSERT INTO evil.made VALUES ('x');
        CREATE TABLE evil.indexed (a text); INSERT INTO evil.indexed VALUES ('x');
        CREATE INDEX i ON evil.indexed (evil.same(a));
        CREATE INDEX j ON evil.indexed (a) WHERE evil.yes(a);
        CREATE MATERIALIZED VIEW evil.kept AS SELECT evil.same(a) FROM evil.indexed;
        CREATE TABLE evil.split (a evil.word) PARTITION BY LIST (a);
        CREATE TABLE evil.split_x PARTITION OF evil.split FOR VALUES IN ('x');
        INSERT INTO evil.split VALUES ('x');
        CREATE TABLE evil.spread (a text) PARTITION BY RANGE ((a || evil.same('c')));
        CREATE TABLE evil.spread_1 PARTITION OF evil.spread FOR VALUES FROM ('a') TO ('z');
        INSERT INTO evil.spread VALUES ('x');
        CREATE TYPE evil.kind AS ENUM ('x', 'y');
        CREATE FUNCTION evil.number(k evil.kind) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$
        BEGIN PERFORM evil.attack(); RETURN 1; END $$;
        CREATE CAST (evil.kind AS integer) WITH FUNCTION evil.number(evil.kind) AS IMPLICIT;
        CREATE TABLE evil.target (id integer PRIMARY KEY); INSERT INTO evil.target VALUES (1);
        CREATE TABLE evil.pointing (k evil.kind REFERENCES evil.target); INSERT INTO evil.pointing VALUES ('x');
        CREATE TABLE evil.late (a text); INSERT INTO evil.late VALUES ('x');
        ALTER TABLE evil.late ADD CONSTRAINT whole CHECK (evil.whole_is_well(late)) NOT VALID;
        CREATE TABLE evil.watched (a text DEFAULT evil.same('d'));
        CREATE FUNCTION evil.react() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM evil.attack(); RETURN new; END $$;
        CREATE TRIGGER react BEFORE INSERT ON evil.watched FOR EACH ROW EXECUTE FUNCTION evil.react();
        INSERT INTO evil.watched VALUES ('x');
        CREATE VIEW evil.seen AS SELECT evil.same(a) AS a FROM evil.indexed;
        """

    private func setTraps(_ attacker: Attacker, _ database: TestDatabase) async throws {
        try await attacker.prepare(database)
        let traps = Self.traps.replacing(
            "CREATE TABLE evil.late (a text);",
            with: """
                CREATE TABLE evil.late (a text);
                CREATE FUNCTION evil.whole_is_well(evil.late) RETURNS boolean LANGUAGE plpgsql AS $$
                BEGIN PERFORM evil.attack(); RETURN true; END $$;
                """)
        try await attacker.run(traps, in: database)
        // What only a superuser can make, with a function that is the attacker's.
        try await database.execute(
            """
            CREATE FUNCTION evil.look() RETURNS event_trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM evil.attack(); END $$
            """,
            "CREATE EVENT TRIGGER look ON ddl_command_end WHEN TAG IN ('CREATE DOMAIN', 'CREATE SCHEMA') "
                + "EXECUTE FUNCTION evil.look()",
            "ALTER FUNCTION evil.look() OWNER TO \(attacker.role)")
        #expect(try await !attacker.hasWon(database))
    }

    @Test(.database) func restoringABackupRunsNothingOfItAsSuperuser() async throws {
        let database = try TestDatabase.current
        let attacker = Attacker()
        try await setTraps(attacker, database)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        #expect(try await !attacker.hasWon(database))
        let proof = try await vault.prove(
            manifest, checks: [SystemCheck("hostile", schema: "evil", sql: "SELECT a FROM seen WHERE a = 'none'")])
        #expect(proof.isProved, "\(proof.differences)")
        #expect(!FileManager.default.fileExists(atPath: attacker.marker))

        let target = "\(database.name)_restored"
        try await TestCluster.runSQL("CREATE DATABASE \(target) TEMPLATE template0")
        let distrusting = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
        let refusal = await #expect(throws: BackupError.self) {
            try await distrusting.restore(into: database.settings.database(target))
        }
        guard case .foreignCode(_, attacker.role)? = refusal else {
            Issue.record("\(String(describing: refusal))")
            return
        }
        try await TestCluster.runSQL(
            "DROP DATABASE \(target) WITH (FORCE)", "CREATE DATABASE \(target) TEMPLATE template0")
        // Functions that are trusted run with their owner's rights all the same.
        var settings = vault.restoring
        settings.trust = .roles([attacker.role])
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: settings)
        try await restorer.restore(into: database.settings.database(target))
        #expect(try await !attacker.hasWon(database))
        // Nothing of the confinement stays.
        let left = try await Connection.opened(database.settings.database(target)) { connection in
            try await connection.with { connection in
                try connection.query(
                    """
                    SELECT (SELECT count(*) FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner
                            WHERE p.prosecdef AND r.rolname = $1)
                        + (SELECT count(*) FROM pg_namespace WHERE nspname = 'reeve_confinement')
                        + (SELECT count(*) FROM pg_event_trigger WHERE evtname = 'reeve_confinement')
                    """, [attacker.role]
                ).first?.get(0, as: Int.self)
            }
        }
        #expect(left == 0)
        try await TestCluster.runSQL("DROP DATABASE \(target) WITH (FORCE)")

        // One table into the database where the functions are, and are in use.
        try await database.execute("DROP TABLE evil.checked")
        var selection = PartialRestore.Selection()
        selection.tables = ["evil.checked"]
        let refused = await #expect(throws: BackupError.self) {
            _ = try await PartialRestore(distrusting, selection, folder: "\(vault.folder)/scratch", beside: nil)
                .restore(into: database.settings)
        }
        #expect(refused?.description.contains("contains code of the role '\(attacker.role)'") == true)
        _ = try await PartialRestore(restorer, selection, folder: "\(vault.folder)/scratch", beside: nil)
            .restore(into: database.settings)
        #expect(try await database.value("SELECT count(*) FROM evil.checked") == 1)
        #expect(try await !attacker.hasWon(database))
        #expect(try await confinedFunctions(of: attacker, in: database) == 0)
        // And two with a key between them, which is checked by a function of the attacker's.
        try await database.execute("DROP TABLE evil.pointing, evil.target")
        selection.tables = ["evil.pointing", "evil.target"]
        let leftOut = try await PartialRestore(restorer, selection, folder: "\(vault.folder)/scratch", beside: nil)
            .restore(into: database.settings)
        #expect(leftOut.isEmpty)
        #expect(try await database.value("SELECT count(*) FROM pg_constraint WHERE conname = 'pointing_k_fkey'") == 1)
        #expect(try await !attacker.hasWon(database))
        #expect(try await confinedFunctions(of: attacker, in: database) == 0)
        try await database.execute("DROP EVENT TRIGGER look")
        try await attacker.remove(database)
    }

    /// The functions of the attacker that still run with his rights wherever they are called from.
    private func confinedFunctions(of attacker: Attacker, in database: TestDatabase) async throws -> Int {
        try await database.value(
            "SELECT count(*) FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE p.prosecdef AND r.rolname = $1",
            [attacker.role])
    }

    @Test(.database) func namesAreNamesWhateverTheyAreMadeOf() async throws {
        let database = try TestDatabase.current
        let attacker = Attacker()
        try await attacker.prepare(database)
        var generator = SeededGenerator(42)
        let made = HostileNames.known + (0..<12).map { _ in HostileNames.name(&generator) }
        var seen: Set<[UInt8]> = []
        let names = made.filter { seen.insert(Array($0.utf8)).inserted }
        try await database.with { connection in
            // As it was done: a sequence whose name ends the quotes that were not doubled.
            for (number, name) in names.enumerated() {
                let schema = quoteIdentifier(number.isMultiple(of: 3) ? name : "s")
                try connection.execute("CREATE SCHEMA IF NOT EXISTS \(schema)")
                let table = "\(schema).\(quoteIdentifier(name))"
                try connection.execute(
                    "CREATE TABLE \(table) (\(quoteIdentifier(name)) text, \"plain\" integer CHECK (\"plain\" > 0))")
                try connection.execute("INSERT INTO \(table) VALUES (\(quoteLiteral(name)), 1)")
                try connection.execute("CREATE SEQUENCE \(schema).\(quoteIdentifier("q" + name.clipped(toBytes: 62)))")
                try connection.execute("CREATE INDEX ON \(table) (\(quoteIdentifier(name)))")
                try connection.execute("COMMENT ON TABLE \(table) IS \(quoteLiteral(name))")
            }
            try connection.execute(
                "CREATE SEQUENCE evil.\(quoteIdentifier("x\"\u{301}, evil.attack() t--"))")
        }
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings) { $0.sizes.large = 1 }.make().manifest
        #expect(try await !attacker.hasWon(database))
        #expect(manifest.tables.count == names.count)
        let proof = try await vault.prove(manifest)
        #expect(proof.isProved, "\(proof.differences)")
        let small = try await vault.maker(database.settings) { $0.isFull = true }.make().manifest
        let other = try await vault.prove(small)
        #expect(other.isProved, "\(other.differences)")
        #expect(try await !attacker.hasWon(database))
        try await attacker.remove(database)
    }

    /// Otherwise a role that may create schemas could make every backup one that cannot be restored.
    @Test(.database) func `a schema with the name of a record and objects in it is backed up`() async throws {
        let database = try TestDatabase.current
        let schema = "reeve_restore_0000000000abc"
        try await database.execute(
            "CREATE SCHEMA \(schema)", "CREATE TYPE \(schema).mood AS ENUM ('a', 'b')",
            "CREATE TABLE \(schema).hidden (a \(schema).mood)", "INSERT INTO \(schema).hidden VALUES ('a')",
            "CREATE TABLE public.t (a \(schema).mood)", "INSERT INTO public.t VALUES ('b')")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        #expect(manifest.tables.map(\.name) == ["t", "hidden"])
        let proof = try await vault.prove(manifest)
        #expect(proof.isProved, "\(proof.differences)")
    }
}

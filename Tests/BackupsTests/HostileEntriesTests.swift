import Catalog
import Foundation
import Postgres
import SQL
import TestSupport
import Testing

@testable import Backups

/// Objects that are named like the types of entries in an archive's table of contents.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct HostileEntriesTests {
    private func fetch(
        _ table: String, _ vault: Vault, _ manifest: Manifest, into target: ConnectionSettings, trusting: [String] = []
    ) async throws -> [String] {
        var settings = vault.restoring
        settings.trust = .roles(trusting)
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: settings)
        var selection = PartialRestore.Selection()
        selection.tables = [table]
        return try await PartialRestore(restorer, selection, folder: "\(vault.folder)/scratch", beside: nil)
            .restore(into: target)
    }

    /// A foreign key runs a function of its owner's where its types need one to be compared.
    @Test(.database) func aForeignKeyNamedAsAnEventTriggerIsRestoredAmongTheForeignKeys() async throws {
        let database = try TestDatabase.current
        let role = "evil_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute("CREATE ROLE \(role) LOGIN", "CREATE SCHEMA evil AUTHORIZATION \(role)")
        var settings = database.plainSettings
        settings.parameters["user"] = role
        try await Connection.opened(settings) { connection in
            try await connection.with { connection in
                _ = try connection.execute(
                    """
                    CREATE TYPE evil.kind AS ENUM ('x', 'y');
                    CREATE FUNCTION evil.number(k evil.kind) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$
                    BEGIN PERFORM evil.attack(); RETURN 1; END $$;
                    CREATE FUNCTION evil.attack() RETURNS void LANGUAGE plpgsql AS $$
                    BEGIN
                        EXECUTE 'ALTER ROLE \(role) SUPERUSER';
                    EXCEPTION WHEN OTHERS THEN NULL;
                    END $$;
                    CREATE CAST (evil.kind AS integer) WITH FUNCTION evil.number(evil.kind) AS IMPLICIT;
                    CREATE TABLE evil.target (id integer PRIMARY KEY);
                    INSERT INTO evil.target VALUES (1);
                    CREATE TABLE evil.pointing (k evil.kind CONSTRAINT "a EVENT TRIGGER b" REFERENCES evil.target);
                    INSERT INTO evil.pointing VALUES ('x');
                    """)
            }
        }
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        let target = "\(database.name)_restored"
        try await TestCluster.runSQL("CREATE DATABASE \(target) TEMPLATE template0")
        var restoring = vault.restoring
        restoring.trust = .roles([role])
        try await Restorer(repository: vault.repository, manifest: manifest, settings: restoring).restore(
            into: database.settings.database(target))
        let isSuper: Bool = try await database.value("SELECT rolsuper FROM pg_roles WHERE rolname = $1", [role])
        #expect(!isSuper)
        let keys = try await Connection.opened(database.settings.database(target).plain) {
            try await $0.value("SELECT count(*) FROM pg_constraint WHERE conname = 'a EVENT TRIGGER b'", as: Int.self)
        }
        #expect(keys == 1)
        try await TestCluster.runSQL("DROP DATABASE \(target) WITH (FORCE)")
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test(
        .database, arguments: ["SUBSCRIPTION", "x FK CONSTRAINT y", "a EVENT TRIGGER b", "TABLE DATA", " PUBLICATION"])
    func aTableIsFetchedWhollyWhateverItIsCalled(name: String) async throws {
        let database = try TestDatabase.current
        let table = "public.\(quoteIdentifier(name))"
        try await database.execute(
            "CREATE TABLE \(table) (id integer PRIMARY KEY, tenant text)", "INSERT INTO \(table) VALUES (1, 'a')",
            "CREATE INDEX by_tenant ON \(table) (tenant)", "ALTER TABLE \(table) ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON \(table) USING (tenant = current_user)", "GRANT SELECT ON \(table) TO PUBLIC",
            // Of the database's, and not of the table's.
            "CREATE PUBLICATION \(quoteIdentifier(name)) FOR TABLE \(table)",
            "COMMENT ON PUBLICATION \(quoteIdentifier(name)) IS 'of others'")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE \(table)")
        let notes = try await fetch("public.\(name)", vault, manifest, into: database.settings)
        #expect(notes.isEmpty, "\(notes)")
        let found: [Int] = try await database.with { connection in
            try [
                "SELECT count(*) FROM pg_index WHERE indrelid = $1::regclass",
                "SELECT count(*) FROM pg_policy WHERE polrelid = $1::regclass",
                "SELECT relrowsecurity::int FROM pg_class WHERE oid = $1::regclass",
                "SELECT count(*) FROM aclexplode((SELECT relacl FROM pg_class WHERE oid = $1::regclass)) WHERE grantee = 0",
            ].map { try connection.query($0, [table]).first?.get(0) ?? -1 }
        }
        #expect(found == [2, 1, 1, 1])
    }

    /// The notes on what a partial restore leaves out, and makes later, are left out and made later too.
    @Test(.database) func commentsGoWithWhatTheyAreAbout() async throws {
        let database = try TestDatabase.current
        let trigger = "t EVENT TRIGGER \(UUID().uuidString.prefix(8))"
        try await database.execute(
            "CREATE TABLE one (id integer PRIMARY KEY)", "INSERT INTO one VALUES (1)",
            #"CREATE TABLE two (id integer CONSTRAINT "a FK" REFERENCES one)"#, "INSERT INTO two VALUES (1)",
            #"COMMENT ON CONSTRAINT "a FK" ON two IS 'why'"#,
            "CREATE FUNCTION look() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
            "CREATE EVENT TRIGGER \(quoteIdentifier(trigger)) ON ddl_command_end EXECUTE FUNCTION look()",
            "COMMENT ON EVENT TRIGGER \(quoteIdentifier(trigger)) IS 'who'")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        let proof = try await vault.prove(manifest)
        #expect(proof.isProved, "\(proof.differences)")
        try await database.execute("DROP TABLE two")
        let notes = try await fetch("two", vault, manifest, into: database.settings)
        #expect(notes.isEmpty, "\(notes)")
        let comment: String = try await database.value(
            "SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 'a FK'")
        #expect(comment == "why")
        try await database.execute("DROP EVENT TRIGGER \(quoteIdentifier(trigger))")
    }

    @Test(.database) func whatHasComeOtherwiseIsSaid() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE one (id integer PRIMARY KEY)", "INSERT INTO one VALUES (1)")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        // A superuser's event trigger is not disabled during a restore. By its name, it fires last.
        let trigger = "z_grants_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            "DROP TABLE one",
            """
            CREATE FUNCTION grants() RETURNS event_trigger LANGUAGE plpgsql AS
                'BEGIN IF to_regclass(''public.one'') IS NOT NULL THEN GRANT SELECT ON public.one TO PUBLIC; END IF; END'
            """,
            "CREATE EVENT TRIGGER \(trigger) ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION grants()")
        let notes = try await fetch("one", vault, manifest, into: database.settings)
        #expect(notes.count == 1 && notes.first?.contains("table public.one: privileges of") == true, "\(notes)")
        try await database.execute("DROP EVENT TRIGGER \(trigger)")
    }

    /// A key that the server refuses is left out; a server that is gone has refused nothing.
    @Test(.database) func aConnectionThatIsLostIsNoKeyThatIsLeftOut() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE TABLE one (id integer PRIMARY KEY)", "INSERT INTO one VALUES (1)",
            "CREATE TABLE two (id integer REFERENCES one)", "INSERT INTO two VALUES (1)")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE two", "DELETE FROM one")
        let notes = try await fetch("two", vault, manifest, into: database.settings)
        #expect(notes.count == 1 && notes.first?.hasPrefix("left out: ALTER TABLE ONLY public.two") == true, "\(notes)")
        try await database.execute(
            "DROP TABLE two", "INSERT INTO one VALUES (1)",
            """
            CREATE FUNCTION leave() RETURNS event_trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF current_setting('application_name') LIKE '%reeve restore%' THEN
                    PERFORM pg_terminate_backend(pg_backend_pid());
                END IF;
            END $$
            """, "CREATE EVENT TRIGGER leave ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION leave()")
        let error = await #expect(throws: BackupError.self) {
            _ = try await fetch("two", vault, manifest, into: database.settings)
        }
        guard case .constraintsLeft(let missing, _, let cause as PostgresError) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(cause.sqlState == "57P01" || cause.kind == .connectionLost, "\(cause)")
        #expect(missing == ["two_id_fkey of public.two"])
        try await database.execute("DROP EVENT TRIGGER leave")
    }
}

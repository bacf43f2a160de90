import Catalog
import Foundation
import Postgres
import TestSupport
import Testing

@testable import Backups

/// Objects that are named like the types of entries in an archive's table of contents.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct HostileEntriesTests {
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
        try await Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring).restore(
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
}

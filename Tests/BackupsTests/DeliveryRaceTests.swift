import Foundation
import Postgres
import TestSupport
import Testing

@testable import Backups

/// Changes that an owner in the target makes while tables are restored into it by a superuser.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct DeliveryRaceTests {
    private let role = "owner_\(UUID().uuidString.prefix(8).lowercased())"

    private func asOwner(_ database: TestDatabase) -> ConnectionSettings {
        var settings = database.plainSettings
        settings.parameters["user"] = role
        return settings
    }

    private func restore(
        _ table: String, _ vault: Vault, _ manifest: Manifest, _ settings: Restorer.Settings? = nil
    ) -> PartialRestore {
        var selection = PartialRestore.Selection()
        selection.tables = [table]
        let restorer = Restorer(
            repository: vault.repository, manifest: manifest, settings: settings ?? vault.restoring)
        return PartialRestore(restorer, selection, folder: "\(vault.folder)/scratch", beside: nil)
    }

    /// `child` of a superuser refers to `parent` of the owner.
    private func prepare(_ database: TestDatabase) async throws {
        try await database.execute(
            "CREATE ROLE \(role) LOGIN", "GRANT CREATE ON DATABASE \(database.name) TO \(role)",
            "CREATE SCHEMA base AUTHORIZATION \(role)", "CREATE SCHEMA shop AUTHORIZATION \(role)",
            """
            SET ROLE \(role);
            CREATE TABLE base.parent (id integer PRIMARY KEY); INSERT INTO base.parent VALUES (1);
            CREATE TABLE base.log (who text);
            CREATE TABLE shop.child (id integer REFERENCES base.parent); INSERT INTO shop.child VALUES (1);
            RESET ROLE
            """)
    }

    /// Waits until the foreign key of `child` waits for the lock on `parent`.
    private func waitForKey(in database: TestDatabase) async throws {
        try await waitUntil("the key waits", limit: .seconds(120)) {
            try await database.value(
                "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'base.parent'::regclass")
        }
    }

    private func remove(_ database: TestDatabase) async throws {
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test func `an index that is made while a key waits for its table runs no code as a superuser`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await prepare(database)
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE shop.child")
        try await Connection.opened(asOwner(database)) { owner in
            try await owner.with { try $0.execute("BEGIN; LOCK TABLE base.parent IN SHARE MODE") }
            let restoring = Task { try await restore("shop.child", vault, manifest).restore(into: database.settings) }
            try await waitForKey(in: database)
            try await owner.with {
                try $0.execute(
                    """
                    CREATE FUNCTION base.note() RETURNS void LANGUAGE plpgsql AS
                        'BEGIN INSERT INTO base.log VALUES (current_user); END';
                    CREATE FUNCTION base.f(integer) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
                        'BEGIN PERFORM base.note(); RETURN true; END';
                    CREATE INDEX ON base.parent (id) WHERE base.f(1);
                    COMMIT
                    """)
            }
            #expect(try await restoring.value == [])
        }
        let others: Int = try await database.value("SELECT count(*) FROM base.log WHERE who <> $1", [role])
        #expect(others == 0)
        #expect(try await database.value("SELECT count(*) FROM pg_constraint WHERE contype = 'f'") == 1)
        try await remove(database)
    }

    @Test func `a table that takes the name of a restored one gets no constraint`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await prepare(database)
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE shop.child")
        try await Connection.opened(asOwner(database)) { owner in
            try await owner.with { try $0.execute("BEGIN; LOCK TABLE base.parent IN SHARE MODE") }
            var patient = vault.restoring
            patient.lockPatience.once = .milliseconds(300)
            let restore = restore("shop.child", vault, manifest, patient)
            let restoring = Task { try await restore.restore(into: database.settings) }
            try await waitForKey(in: database)
            // Once the attempt is given up, the schema's name is free.
            try await owner.with {
                try $0.execute(
                    "ALTER SCHEMA shop RENAME TO old; CREATE SCHEMA shop; CREATE TABLE shop.child (id int); COMMIT")
            }
            let error = await #expect(throws: BackupError.self) { try await restoring.value }
            guard case .notThoseRestored(["shop.child"], _)? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
        #expect(try await database.value("SELECT count(*) FROM pg_constraint WHERE contype = 'f'") == 0)
        try await remove(database)
    }

    @Test func `a schema keeps its name while rows are restored into it`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await prepare(database)
        try await database.execute(
            "CREATE TABLE shop.large AS SELECT i, md5(i::text) AS noise FROM generate_series(1, 1500000) i",
            "ALTER TABLE shop.large OWNER TO \(role)")
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE shop.large")
        let restoring = Task { try await restore("shop.large", vault, manifest).restore(into: database.settings) }
        try await waitUntil("rows come", limit: .seconds(120)) {
            try await database.value(
                """
                SELECT count(*) > 0 FROM pg_stat_progress_copy
                WHERE datname = current_database() AND tuples_processed > 1000
                """)
        }
        let error = await #expect(throws: PostgresError.self) {
            try await Connection.opened(asOwner(database)) { owner in
                try await owner.with { try $0.execute("SET lock_timeout = '100ms'; ALTER SCHEMA shop RENAME TO old") }
            }
        }
        #expect(error?.sqlState == "55P03")
        #expect(try await restoring.value == [])
        try await remove(database)
    }
}

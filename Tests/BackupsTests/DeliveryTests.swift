import Foundation
import Postgres
import Processes
import TestSupport
import Testing

@testable import Backups

/// Tables of a backup that come into a database that is in use: all of them or none, and masked where that is wanted.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct DeliveryTests {
    private func partial(
        _ vault: Vault, _ manifest: Manifest, _ settings: Restorer.Settings? = nil,
        _ choose: (inout PartialRestore.Selection) -> Void
    ) -> PartialRestore {
        let restorer = Restorer(
            repository: vault.repository, manifest: manifest, settings: settings ?? vault.restoring)
        var selection = PartialRestore.Selection()
        choose(&selection)
        return PartialRestore(restorer, selection, folder: "\(vault.folder)/scratch", beside: nil)
    }

    /// Programs of this process, by what their command lines hold.
    private static func children(_ program: String, _ argument: String) -> [pid_t] {
        let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return processes.compactMap { pid_t($0) }.filter { pid in
            guard let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else { return false }
            let words = String(decoding: line, as: UTF8.self).split(separator: "\0").map(String.init)
            return words.first?.hasSuffix("/\(program)") == true && words.contains { $0.contains(argument) }
        }
    }

    @Test(arguments: ["pg_dump", "pg_restore", "psql"])
    func `a program that is killed in the middle leaves nothing of the tables`(_ program: String) async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let schema = "s_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            "CREATE SCHEMA \(schema)",
            "CREATE TABLE \(schema).t AS SELECT i, md5(i::text) AS noise FROM generate_series(1, 1500000) i")
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP SCHEMA \(schema) CASCADE")
        let restore = partial(vault, manifest) { $0.schemas = [schema] }
        let restoring = Task { try await restore.restore(into: database.settings) }
        try await database.connection { connection in
            try await waitUntil("rows come", limit: .seconds(120)) {
                try await connection.value(
                    """
                    SELECT count(*) > 0 FROM pg_stat_progress_copy
                    WHERE datname = current_database() AND tuples_processed > 1000
                    """)
            }
        }
        // psql is known by its database, the others by the schema.
        let killed = Self.children(program, program == "psql" ? database.name : schema)
        for pid in killed { kill(pid, SIGKILL) }
        #expect(!killed.isEmpty)
        await #expect(throws: PipelineError.self) { _ = try await restoring.value }
        let left: Int = try await database.value("SELECT count(*) FROM pg_namespace WHERE nspname = $1", [schema])
        #expect(left == 0)
    }

    @Test func `tables and schemas come in one transaction`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute(
            """
            CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t AS SELECT 1 AS i; CREATE TABLE b.t AS SELECT 2 AS i;
            CREATE FUNCTION b.clash() RETURNS integer LANGUAGE sql AS 'SELECT 1'
            """)
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP SCHEMA a CASCADE", "DROP TABLE b.t")
        let restore = partial(vault, manifest) {
            $0.tables = ["a.t"]
            $0.schemas = ["b"]
        }
        await #expect(throws: PipelineError.self) { _ = try await restore.restore(into: database.settings) }
        let left: Int = try await database.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'a'")
        #expect(left == 0)
        try await database.execute("DROP SCHEMA b CASCADE")
        let notes = try await restore.restore(into: database.settings)
        let sum: Int = try await database.value("SELECT a.t.i + b.t.i + b.clash() FROM a.t, b.t")
        #expect(notes == [] && sum == 4, "\(notes)")
    }

    @Test func `triggers do not see what is masked`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute(
            """
            CREATE SCHEMA app; CREATE TABLE app.people (id integer PRIMARY KEY, email text);
            CREATE TABLE app.history (id integer, email text);
            INSERT INTO app.people SELECT i, 'p' || i || '@real.example' FROM generate_series(1, 5) i;
            CREATE FUNCTION app.remember() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN INSERT INTO app.history VALUES (OLD.id, OLD.email); RETURN NEW; END';
            CREATE TRIGGER remember AFTER UPDATE ON app.people FOR EACH ROW EXECUTE FUNCTION app.remember()
            """)
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP SCHEMA app CASCADE")
        var settings = vault.restoring
        settings.masking = MaskingRules(["app": ["people": ["email": .hash]]])
        let notes = try await partial(vault, manifest, settings) { $0.schemas = ["app"] }.restore(
            into: database.settings)
        #expect(notes == [])
        let counts: [Int] = try await database.value(
            """
            SELECT ARRAY[(SELECT count(*) FROM app.history), (SELECT count(*) FROM app.people),
                (SELECT count(*) FROM app.people WHERE email LIKE '%real%'),
                (SELECT count(*) FROM pg_trigger WHERE tgname = 'remember')]
            """)
        #expect(counts == [0, 5, 0, 1])
    }

    /// By the rules about the tables above them.
    @Test(arguments: [
        "CREATE TABLE app.people (id integer, email text) PARTITION BY LIST (id); "
            + "CREATE TABLE app.leaf PARTITION OF app.people DEFAULT",
        "CREATE TABLE app.people (id integer, email text); CREATE TABLE app.leaf () INHERITS (app.people)",
    ])
    func `a partition that comes alone is masked`(tables: String) async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute(
            "CREATE SCHEMA app", tables, "INSERT INTO app.leaf SELECT i, 'real' FROM generate_series(1, 5) i")
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE app.leaf")
        var settings = vault.restoring
        settings.masking = MaskingRules(["app": ["people": ["email": .hash]]])
        _ = try await partial(vault, manifest, settings) { $0.tables = ["app.leaf"] }.restore(into: database.settings)
        let rows: [Int] = try await database.value(
            "SELECT ARRAY[count(*), count(*) FILTER (WHERE email = 'real')] FROM app.leaf")
        #expect(rows == [5, 0])
    }

    @Test func `roles that are there stay as they are, however names are quoted`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let role = "r_\(UUID().uuidString.prefix(8).lowercased())"
        let odd = "R \"\(role)"
        try await TestCluster.runSQL("CREATE ROLE \(role) LOGIN", "CREATE ROLE \(quoteIdentifier(odd)) LOGIN")
        let manifest = try await vault.maker(database.settings).make().manifest
        try await TestCluster.runSQL("ALTER ROLE \(role) NOLOGIN", "ALTER ROLE \(quoteIdentifier(odd)) NOLOGIN")
        let name = "t_\(role)"
        try await TestCluster.runSQL(
            "CREATE DATABASE \(name)", "ALTER DATABASE \(name) SET quote_all_identifiers = on")
        var settings = vault.restoring
        settings.makesRoles = true
        try await Restorer(repository: vault.repository, manifest: manifest, settings: settings).restore(
            into: database.settings.database(name))
        let changed: Int = try await database.value(
            "SELECT count(*) FROM pg_roles WHERE rolname = ANY ($1) AND rolcanlogin", [[role, odd]])
        #expect(changed == 0)
        try await TestCluster.runSQL(
            "DROP DATABASE \(name) WITH (FORCE)", "DROP ROLE \(role)", "DROP ROLE \(quoteIdentifier(odd))")
    }
}

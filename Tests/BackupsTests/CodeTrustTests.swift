import Foundation
import Postgres
import Processes
import Telemetry
import TestSupport
import Testing

@testable import Backups

/// Tables whose rows run functions of their owners, brought back by a superuser.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct CodeTrustTests {
    private struct Owner {
        let role = "owner_\(UUID().uuidString.prefix(8).lowercased())"

        /// Runs SQL as the owner of the schema `s`.
        func run(_ sql: String, in database: TestDatabase) async throws {
            var settings = database.plainSettings
            settings.parameters["user"] = role
            try await Connection.opened(settings) { connection in
                try await connection.with { _ = try $0.execute(sql) }
            }
        }

        func prepare(_ database: TestDatabase) async throws {
            try await database.execute("CREATE ROLE \(role) LOGIN", "CREATE SCHEMA s AUTHORIZATION \(role)")
        }

        func remove(_ database: TestDatabase) async throws {
            try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
        }
    }

    private func fetch(
        _ table: String, _ vault: Vault, _ manifest: Manifest, into target: ConnectionSettings, trusting: [String] = []
    ) async throws -> [String] {
        var settings = vault.restoring
        settings.trust = .roles(trusting)
        var selection = PartialRestore.Selection()
        selection.tables = [table]
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: settings)
        return try await PartialRestore(restorer, selection, folder: "\(vault.folder)/scratch", beside: nil)
            .restore(into: target)
    }

    /// Whatever is set for the database, and whatever its tables are called.
    @Test func `all rows come, in the encoding of the database`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE TABLE \"tä\" (a text)", "INSERT INTO \"tä\" VALUES ('ö')",
            "ALTER DATABASE \(database.name) SET client_encoding = 'LATIN1'")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        #expect(try await vault.prove(manifest).isProved)
        try await database.execute("DROP TABLE \"tä\"")
        #expect(try await fetch("tä", vault, manifest, into: database.settings) == [])
        #expect(try await database.value("SELECT a FROM \"tä\"") == "ö")
    }

    @Test func `a generated column of a trusted role is computed, and nothing is said of the confinement`() async throws
    {
        let database = try TestDatabase.current
        let owner = Owner()
        try await owner.prepare(database)
        try await owner.run(
            """
            CREATE FUNCTION s.twice(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 2 * i; END';
            CREATE TABLE s.t (a int CHECK (s.twice(a) > 0), b int GENERATED ALWAYS AS (s.twice(a)) STORED);
            INSERT INTO s.t VALUES (1);
            """, in: database)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE s.t")
        let refused = await #expect(throws: BackupError.self) {
            try await fetch("s.t", vault, manifest, into: database.settings)
        }
        #expect(refused?.report.exitCode == .notPermitted)
        #expect(try await database.value("SELECT to_regclass('s.t') IS NULL"))
        #expect(try await fetch("s.t", vault, manifest, into: database.settings, trusting: [owner.role]) == [])
        #expect(try await database.value("SELECT b FROM s.t") == 2)
        try await owner.remove(database)
    }

    /// PostgreSQL evaluates what is constant when the table is made, the rest with its rows; the order of the operators
    /// in a negation, or a default argument, is in no expression.
    @Test(arguments: [
        "CREATE TABLE s.t (a int, b int GENERATED ALWAYS AS (s.f(1)) STORED)",
        "CREATE TABLE s.t (a int) PARTITION BY LIST ((a + s.f(1)))", "CREATE TABLE s.t (a int CHECK (s.f(a) > 0))",
        "CREATE TABLE s.t (a int)",
        """
        CREATE OPERATOR s.<<< (PROCEDURE = int4lt, LEFTARG = int, RIGHTARG = int);
        DROP FUNCTION s.f;
        CREATE TABLE s.t (a int, b boolean GENERATED ALWAYS AS (NOT (a OPERATOR(s.<<<) 0)) STORED)
        """,
    ])
    func `a backup with code of roles that are not trusted is refused before it is begun`(tables: String) async throws {
        let database = try TestDatabase.current
        let owner = Owner()
        try await owner.prepare(database)
        try await owner.run(
            """
            CREATE FUNCTION s.f(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN i; END'; \(tables);
            CREATE TABLE s.other (a int)
            """, in: database)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        let target = "\(database.name)_restored"
        try await TestCluster.runSQL("CREATE DATABASE \(target) TEMPLATE template0")
        func refused(_ restore: () async throws -> Void) async throws {
            let error = await #expect(throws: BackupError.self) { try await restore() }
            guard case .foreignCode(_, owner.role)? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(error?.report.exitCode == .notPermitted)
            #expect(error?.hint?.contains("--trust \(owner.role)") == true)
        }
        var settings = vault.restoring
        try await refused {
            try await Restorer(repository: vault.repository, manifest: manifest, settings: settings)
                .restore(into: database.settings.database(target))
        }
        // Nothing was made, and nobody was locked out.
        try await Connection.opened(database.settings.database(target)) { connection in
            let there: Int = try await connection.value(
                """
                SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 's')
                    + (SELECT count(*) FROM pg_database WHERE datname = current_database() AND datconnlimit = 0)
                """)
            #expect(there == 0)
        }
        settings.trust = .roles([owner.role])
        try await Restorer(repository: vault.repository, manifest: manifest, settings: settings)
            .restore(into: database.settings.database(target))
        try await TestCluster.runSQL("DROP DATABASE \(target) WITH (FORCE)")
        // Through a scratch server, also of a table of somebody else's.
        try await database.execute("DROP TABLE s.other")
        try await refused { _ = try await fetch("s.other", vault, manifest, into: database.settings) }
        #expect(try await fetch("s.other", vault, manifest, into: database.settings, trusting: [owner.role]) == [])
        try await owner.remove(database)
    }

    @Test func `a missing owner is not taken for a role whose name is the end of the owner's name`() async throws {
        let database = try TestDatabase.current
        let role = "\(Owner().role) postgres"
        try await database.execute(
            "CREATE ROLE \"\(role)\"", "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "ALTER FUNCTION public.f() OWNER TO \"\(role)\"", "CREATE TABLE public.t (a int)")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP FUNCTION public.f()", "DROP TABLE public.t", "DROP ROLE \"\(role)\"")
        let error = await #expect(throws: BackupError.self) {
            try await fetch("public.t", vault, manifest, into: database.settings)
        }
        guard case .foreignCode(_, role)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    /// The session of the role runs statements that come from the scratch server.
    @Test func `a plain role that fetches a table runs no code of others either`() async throws {
        let database = try TestDatabase.current
        let (owner, plain) = (Owner(), Owner())
        try await owner.prepare(database)
        try await owner.run("CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", in: database)
        try await database.execute("CREATE ROLE \(plain.role) LOGIN", "CREATE TABLE public.t (a int)")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE public.t")
        var settings = database.settings
        settings.parameters["user"] = plain.role
        let asPlain = settings
        let error = await #expect(throws: BackupError.self) {
            try await fetch("public.t", vault, manifest, into: asPlain)
        }
        if case .foreignCode(_, owner.role)? = error {} else { Issue.record("\(String(describing: error))") }
        try await owner.remove(database)
        try await plain.remove(database)
    }

    /// It belongs to an account that has nothing else, and is gone with its folder.
    @Test func `the server of a restore test runs apart and does not outlive it`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        let seen = Gathered<String>()
        async let proof = vault.prove(manifest)
        try await waitUntil("the server runs") {
            seen.add(Self.servers(below: vault.folder))
            return !seen.all.isEmpty
        }
        _ = try await proof
        #expect(Set(seen.all) == [geteuid() == 0 ? "nobody" : NSUserName()])
        try await waitUntil("the server is gone", limit: .seconds(5)) { Self.servers(below: vault.folder).isEmpty }
    }

    /// A folder of root's, which the server's account cannot empty, stays in the way for a while, or for good.
    @Test(.enabled("only root changes the account") { geteuid() == 0 }, arguments: [false, true])
    func `restored rows that cannot be removed are removed later, or it is said`(isForGood: Bool) async throws {
        final class Lines: LogSink {
            let all = Gathered<LogLine>()
            func write(_ line: LogLine) { all.add([line]) }
        }
        let database = try TestDatabase.current
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        let lines = Lines()
        async let proof = vault.prove(manifest, logger: Logger(sink: lines))
        let scratch = "\(vault.folder)/scratch"
        func servers() -> [String] { (try? FileManager.default.contentsOfDirectory(atPath: scratch)) ?? [] }
        try await waitUntil("the server runs") { !Self.servers(below: vault.folder).isEmpty }
        let data = "\(scratch)/\(try #require(servers().first))/cluster/data"
        try FileManager.default.createDirectory(atPath: "\(data)/block/inner", withIntermediateDirectories: true)
        if !isForGood {
            try await waitUntil("all else is gone") {
                (try? FileManager.default.contentsOfDirectory(atPath: data)) == ["block"]
            }
            try FileManager.default.removeItem(atPath: "\(data)/block")
        }
        #expect(try await proof.isProved)
        let warnings = lines.all.all.filter { $0.level == .warning }
        if isForGood {
            let folders = warnings.flatMap { $0.fields.filter { $0.key == "folder" }.map(\.value) }
            #expect(folders == servers().map { "\(scratch)/\($0)" } && folders.count == 1)
        } else {
            #expect(warnings.isEmpty && servers().isEmpty)
        }
    }

    @Test func `only the folders of processes that have ended are removed before a server is made`() async throws {
        let vault = try await Vault()
        let manifest = try await vault.maker(try TestDatabase.current.settings).make().manifest
        let folder = "\(vault.folder)/scratch"
        let (running, ended) = ("restore-\(getpid())-1", "restore-\(pid_t.max)-1")
        for name in [running, ended] {
            try FileManager.default.createDirectory(atPath: "\(folder)/\(name)", withIntermediateDirectories: true)
        }
        let server = ScratchServer(manifest: manifest, folder: folder, beside: nil, logger: .silent)
        // More than there is room for, so that it ends there.
        let error = await #expect(throws: BackupError.self) { try await server.with(roomFor: .max) { _, _ in } }
        if case .noRoom? = error {} else { Issue.record("\(String(describing: error))") }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [running])
    }

    /// The accounts of the servers whose data lie below a folder.
    private static func servers(below folder: String) -> [String] {
        let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return processes.filter { Int($0) != nil }.compactMap { pid in
            guard let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else { return nil }
            let words = String(decoding: line, as: UTF8.self).split(separator: "\0").map(String.init)
            guard words.first?.hasSuffix("/postgres") == true, words.contains(where: { $0.hasPrefix(folder) }) else {
                return nil
            }
            return try? FileManager.default.attributesOfItem(atPath: "/proc/\(pid)")[.ownerAccountName] as? String
        }
    }

    /// The backup's table has no such constraint; the parent that is there now has one.
    @Test func `a constraint that a parent in the target brings is looked at`() async throws {
        let database = try TestDatabase.current
        let owner = Owner()
        try await owner.prepare(database)
        try await owner.run(
            "CREATE TABLE s.parent (a int); CREATE TABLE s.child () INHERITS (s.parent); INSERT INTO s.child VALUES (1)",
            in: database)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        try await owner.run(
            """
            DROP TABLE s.child;
            ALTER TABLE s.parent ADD CHECK (lo_export(4711, '/tmp/reeve-inherited') > 0) NOT VALID
            """, in: database)
        let error = await #expect(throws: PipelineError.self) {
            try await fetch("s.child", vault, manifest, into: database.settings, trusting: [owner.role])
        }
        #expect(
            error?.errorOutput.contains("would run with the rights of a superuser") == true,
            "\(error?.errorOutput ?? "")")
        #expect(try await database.value("SELECT to_regclass('s.child') IS NULL"))
        try await owner.remove(database)
    }

    /// What its definition names is in the target, or is made there at the right moment, by somebody who is not
    /// trusted.
    @Test(arguments: [
        ("CREATE TABLE s.t (a int, b int GENERATED ALWAYS AS (s.f(a)) STORED)", "DROP FUNCTION s.f(int)"),
        ("CREATE TABLE s.t (a int) PARTITION BY LIST ((s.f(a)))", "DROP FUNCTION s.f(int)"),
        ("CREATE TABLE s.top (a int); CREATE TABLE s.t () INHERITS (s.top)", "SELECT 1"),
        // With a cast from text, which has no schema.
        (
            """
            CREATE DOMAIN s.d AS text;
            CREATE TABLE s.t (a int, b text GENERATED ALWAYS AS ((('x'::text)::s.d)::text) STORED)
            """, "DROP DOMAIN s.d"
        ),
        (
            """
            CREATE OPERATOR s.<<< (PROCEDURE = int4lt, LEFTARG = int, RIGHTARG = int);
            CREATE TABLE s.t (a int, b boolean GENERATED ALWAYS AS (a OPERATOR(s.<<<) 0) STORED)
            """, "DROP OPERATOR s.<<< (int, int)"
        ),
    ])
    func `a table whose definition uses others' schemas is refused`(tables: String, change: String) async throws {
        let database = try TestDatabase.current
        let owner = Owner()
        try await owner.prepare(database)
        // In the backup it is a superuser's.
        try await database.execute(
            "CREATE FUNCTION s.f(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN i; END'",
            "GRANT EXECUTE ON FUNCTION s.f(int) TO PUBLIC", tables)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE s.t", change)
        let error = await #expect(throws: BackupError.self) {
            try await fetch("s.t", vault, manifest, into: database.settings)
        }
        guard case .openSchema("s.t", "s", owner.role)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try await database.value("SELECT to_regclass('s.t') IS NULL"))
        try await owner.remove(database)
    }

    /// A table that is made by hand, after all other checks.
    @Test(arguments: [
        (
            "CREATE TABLE s.t (a int, b int GENERATED ALWAYS AS (s.f(a)) STORED)", "s.t", "the generated column b",
            "s.t: the generated column b calls a function of the role"
        ),
        (
            """
            CREATE TABLE s.top (a int) PARTITION BY LIST (s.f(a));
            CREATE TABLE s.middle PARTITION OF s.top DEFAULT PARTITION BY LIST (a);
            CREATE TABLE s.t PARTITION OF s.middle DEFAULT
            """, "s.top", "the partition key", "s.top: the partition key calls a function of the role"
        ),
        (
            "CREATE TABLE s.t () INHERITS (s.theirs)", "", "",
            "t is a child of theirs, which is there and belongs to the role"
        ),
    ])
    func `a table that would run others' code is refused where it is made and before its rows come`(
        sql: String, table: String, what: String, said: String
    ) async throws {
        let database = try TestDatabase.current
        let owner = Owner()
        try await owner.prepare(database)
        try await owner.run(
            """
            CREATE FUNCTION s.f(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN i; END';
            CREATE TABLE s.theirs (a int)
            """, in: database)
        func make(trusting: [String]) async throws {
            try await database.with { connection in
                try connection.transaction {
                    try connection.execute(sql)
                    try connection.execute(CodeTrust.roles(trusting).guarding(["s.t"]))
                }
            }
        }
        let error = await #expect(throws: PostgresError.self) { try await make(trusting: []) }
        #expect(error?.sqlState == "42501")
        #expect(error?.message.contains("\(said) \(owner.role)") == true, "\(error as Any)")
        try await make(trusting: [owner.role])
        let refused: String
        do {
            try await CodeTrust.roles([]).check(in: database.settings)
            refused = ""
        } catch BackupError.untrusted(let path, let expression, owner.role) {
            refused = "\(path) \(expression)"
        }
        #expect(refused == (table.isEmpty ? "" : "\(table) \(what)"))
        // Of tables that get no rows nothing is run.
        try await CodeTrust.roles([]).check(in: database.settings, tables: [FetchedTable(schema: "s", name: "theirs")])
        try await CodeTrust.roles([owner.role]).check(in: database.settings)
        try await owner.remove(database)
    }

    /// The restore waits for whoever is changing a function. Meanwhile a schema is made that was not there when the
    /// target was looked at, with a function that fits better than the one of the backup.
    @Test(arguments: ["s.t", "s"])
    func `a schema that is made while the restore waits is not used`(wanted: String) async throws {
        let database = try TestDatabase.current
        let owner = Owner()
        try await database.execute(
            "CREATE ROLE \(owner.role) LOGIN", "GRANT CREATE ON DATABASE \(database.name) TO \(owner.role)",
            "CREATE SCHEMA s",
            "CREATE FUNCTION s.g(anyelement) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'x'::text $$",
            "CREATE TABLE s.t (a int, b text GENERATED ALWAYS AS (s.g('x'::text)) STORED)")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP SCHEMA s CASCADE")
        try await owner.run(
            """
            CREATE SCHEMA m; CREATE SEQUENCE m.calls;
            CREATE FUNCTION m.f() RETURNS int LANGUAGE sql AS 'SELECT 1'
            """, in: database)
        var asOwner = database.plainSettings
        asOwner.parameters["user"] = owner.role
        let error = try await Connection.opened(asOwner) { changing in
            try await changing.with { try $0.execute("BEGIN; ALTER FUNCTION m.f() COST 5") }
            let restoring = Task {
                var selection = PartialRestore.Selection()
                if wanted == "s" { selection.schemas = [wanted] } else { selection.tables = [wanted] }
                let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
                return try await PartialRestore(restorer, selection, folder: "\(vault.folder)/scratch", beside: nil)
                    .restore(into: database.settings)
            }
            try await waitUntil("the restore waits") {
                try await database.value(
                    """
                    SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
                    WHERE NOT l.granted AND l.locktype = 'transactionid' AND a.datname = current_database()
                    """)
            }
            try await owner.run(
                """
                CREATE SCHEMA s;
                CREATE FUNCTION s.g(text) RETURNS text IMMUTABLE LANGUAGE plpgsql
                    AS $$ BEGIN PERFORM pg_catalog.nextval('m.calls'); RETURN 'x'; END $$
                """, in: database)
            try await changing.with { try $0.execute("COMMIT") }
            return await #expect(throws: PipelineError.self) { try await restoring.value }
        }
        #expect(error?.errorOutput.contains("the role \(owner.role), which is not trusted") == true)
        #expect(try await database.value("SELECT is_called FROM m.calls") == false)
        #expect(try await database.value("SELECT to_regclass('s.t') IS NULL"))
        try await owner.remove(database)
    }

    /// What pg_dump leaves out of a backup is there already: in a schema that no backup has, or in an extension.
    @Test(arguments: [
        "CREATE SCHEMA reeve_restore_aaaaaaaaaaaaa; "
            + "CREATE FUNCTION reeve_restore_aaaaaaaaaaaaa.g(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1'",
        "CREATE EXTENSION citext SCHEMA public; "
            + "CREATE FUNCTION public.g(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1'; "
            + "ALTER EXTENSION citext ADD FUNCTION public.g(text)",
        "CREATE OPERATOR public.<<< (PROCEDURE = int4lt, LEFTARG = int, RIGHTARG = int)",
        "CREATE DOMAIN public.d AS int", "CREATE CONVERSION public.c FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
        // Only a superuser can create these.
        "CREATE OPERATOR FAMILY public.f USING btree; ALTER OPERATOR FAMILY public.f USING btree OWNER TO %owner%",
        "CREATE OPERATOR CLASS public.c FOR TYPE int USING btree AS FUNCTION 1 btint4cmp(int, int); "
            + "ALTER OPERATOR CLASS public.c USING btree OWNER TO %owner%",
        "CREATE LANGUAGE l HANDLER plpgsql_call_handler; ALTER LANGUAGE l OWNER TO %owner%",
    ])
    func `a target that holds others' code is refused`(code: String) async throws {
        if code.contains("citext"), try await !ServerFeature.extension("citext").isThere(for: code) { return }
        let database = try TestDatabase.current
        let owner = Owner()
        try await owner.prepare(database)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        let name = "\(database.name)_restored"
        try await TestCluster.runSQL("CREATE DATABASE \(name) TEMPLATE template0 OWNER \(owner.role)")
        var settings = database.plainSettings.database(name)
        if !code.contains("%owner%") { settings.parameters["user"] = owner.role }
        try await Connection.opened(settings) { connection in
            try await connection.with { _ = try $0.execute(code.replacing("%owner%", with: owner.role)) }
        }
        let error = await #expect(throws: BackupError.self) {
            try await Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
                .restore(into: database.settings.database(name))
        }
        #expect("\(try #require(error))".contains("the target contains code of the role '\(owner.role)'"))
        #expect(error?.report.exitCode == .notPermitted)
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
        try await owner.remove(database)
    }

    /// A foreign key that is checked by a function, which sets what the statements after it are read by.
    @Test func `what a constraint's function sets ends with its session`() async throws {
        let database = try TestDatabase.current
        let owner = Owner()
        try await owner.prepare(database)
        try await owner.run(
            #"""
            CREATE TYPE s.kind AS ENUM ('x');
            CREATE FUNCTION s.number(k s.kind) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
                PERFORM pg_catalog.set_config('standard_conforming_strings', 'off', false); RETURN 1; END $$;
            CREATE CAST (s.kind AS int) WITH FUNCTION s.number(s.kind) AS IMPLICIT;
            CREATE TABLE s.target (id int PRIMARY KEY); INSERT INTO s.target VALUES (1);
            CREATE TABLE s.pointing (k s.kind CONSTRAINT key REFERENCES s.target); INSERT INTO s.pointing VALUES ('x');
            COMMENT ON CONSTRAINT key ON s.pointing IS E'a\\''; CREATE TABLE s.won (); --';
            """#, in: database)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        let target = "\(database.name)_restored"
        try await TestCluster.runSQL("CREATE DATABASE \(target) TEMPLATE template0")
        var settings = vault.restoring
        settings.trust = .roles([owner.role])
        try await Restorer(repository: vault.repository, manifest: manifest, settings: settings).restore(
            into: database.settings.database(target))
        try await Connection.opened(database.settings.database(target)) { connection in
            let won: Bool = try await connection.value("SELECT to_regclass('s.won') IS NOT NULL")
            let comment: String = try await connection.value(
                "SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 'key'")
            #expect(!won && comment == #"a\'; CREATE TABLE s.won (); --"#)
        }
        try await TestCluster.runSQL("DROP DATABASE \(target) WITH (FORCE)")
        try await database.execute("DROP TABLE s.pointing")
        #expect(
            try await fetch("s.pointing", vault, manifest, into: database.settings, trusting: [owner.role]) == [])
        #expect(try await database.value("SELECT to_regclass('s.won') IS NULL"))
        try await owner.remove(database)
    }
}

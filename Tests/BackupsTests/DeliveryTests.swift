import Foundation
import Postgres
import Processes
import SQL
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

    @Test
    func `a table comes back although there is no room here for its rows, which are needed here only to mask them`()
        async throws
    {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute(
            "CREATE TABLE public.small AS SELECT 1 AS a",
            "CREATE TABLE public.large AS SELECT i, sha512(i::text::bytea) FROM generate_series(1, 200000) i")
        let made = try await vault.maker(database.settings) {
            $0.sizes = TableSlice.Sizes(large: 1_000_000, slice: 4_000_000)
        }.make().manifest
        try await database.execute("DROP TABLE public.small, public.large")
        var object = try #require(
            try JSONSerialization.jsonObject(with: JSONEncoder().encode(made)) as? [String: Any])
        // 8 TiB.
        object["databaseBytes"] = 1 << 43
        let manifest = try JSONDecoder().decode(
            Manifest.self, from: JSONSerialization.data(withJSONObject: object))
        let bytes = ["small", "large"].map { manifest.estimatedBytes(of: [FetchedTable(schema: "public", name: $0)]) }
        #expect(bytes[0] < 16 << 30 && bytes[1] > 7 << 40 && bytes[0] + bytes[1] <= 1 << 43 + 2, "\(bytes)")
        #expect(manifest.estimatedBytes(of: []) == 0)
        _ = try await partial(vault, manifest) { $0.tables = ["small"] }.restore(into: database.settings)
        #expect(try await database.value("SELECT count(*) FROM public.small", as: Int.self) == 1)
        var masked = vault.restoring
        masked.masking = MaskingRules(["public": ["large": ["i": .null]]])
        let error = await #expect(throws: BackupError.self) {
            _ = try await partial(vault, manifest, masked) { $0.tables = ["large"] }.restore(into: database.settings)
        }
        guard case .noRoom("\(vault.folder)/scratch", _, bytes[1]) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        _ = try await partial(vault, manifest) { $0.tables = ["large"] }.restore(into: database.settings)
        #expect(
            try await database.value("SELECT count(*) || ' ' || sum(i) FROM public.large") == "200000 20000100000")
    }

    @Test func `a restored table has the privileges of the backup, not the default privileges of the target`()
        async throws
    {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let role = "reader_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE TABLE public.secret (id integer)", "CREATE TABLE public.open (id integer)",
            "GRANT SELECT ON public.open TO \(role)")
        let manifest = try await vault.maker(database.settings).make().manifest
        let privileges = """
            SELECT array_agg(has_table_privilege($1, c.oid, p) ORDER BY relname, p)
            FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT']) p WHERE relname IN ('open', 'secret')
            """
        try await database.execute(
            "DROP TABLE public.secret, public.open", "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO \(role)")
        let notes = try await partial(vault, manifest) { $0.tables = ["secret", "open"] }
            .restore(into: database.settings)
        #expect(notes == [])
        #expect(try await database.value(privileges, [role]) == [false, true, false, false])

        // The same for a whole restore, into an empty database.
        let name = "\(database.name)_empty"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let target = database.settings.database(name)
        try await Connection.opened(target) { connection in
            try await connection.with {
                try $0.execute("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO \(role)")
            }
        }
        try await Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
            .restore(into: target)
        let found: [Bool] = try await Connection.opened(target.plain) { connection in
            try await connection.with { try $0.query(privileges, [role]).first?.get(0) ?? [] }
        }
        #expect(found == [false, true, false, false])
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func `a schema that is created for its tables has its owner, comment and privileges again`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let role = "owner_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE ROLE \(role)_2", "CREATE SCHEMA \"O'ne\" AUTHORIZATION \(role)",
            "CREATE TABLE \"O'ne\".t (a integer)", "COMMENT ON SCHEMA \"O'ne\" IS 'the shop''s'",
            "GRANT USAGE ON SCHEMA \"O'ne\" TO PUBLIC", "GRANT ALL ON SCHEMA \"O'ne\" TO \(role)_2 WITH GRANT OPTION",
            "REVOKE CREATE ON SCHEMA \"O'ne\" FROM \(role)", "CREATE SCHEMA two AUTHORIZATION \(role)",
            "CREATE TABLE two.t (a integer)")
        let manifest = try await vault.maker(database.settings).make().manifest
        let state = """
            SELECT array_agg(concat_ws(' ', nspname, nspowner::regrole, obj_description(oid, 'pg_namespace'),
                (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(nspacl) a)) ORDER BY nspname)
            FROM pg_namespace WHERE nspname IN ('O''ne', 'two')
            """
        let before: [String] = try await database.value(state)
        try await database.execute("DROP SCHEMA \"O'ne\", two CASCADE")
        let restore = partial(vault, manifest) {
            $0.schemas = ["O'ne"]
            $0.tables = ["two.t"]
        }
        #expect(try await restore.restore(into: database.settings) == [])
        #expect(try await database.value(state) == before)

        // A role that is missing is named before anything is created.
        try await database.execute(
            "DROP SCHEMA \"O'ne\", two CASCADE", "DROP OWNED BY \(role)_2", "DROP ROLE \(role)_2")
        let error = await #expect(throws: BackupError.self) { try await restore.restore(into: database.settings) }
        guard case .targetLacks(["the role \(role)_2"])? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func `a role that cannot give a schema to its owner keeps it, and says so`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let role = "plain_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            "CREATE ROLE \(role) LOGIN", "CREATE ROLE \(role)_owner",
            "GRANT CREATE ON DATABASE \(database.name) TO \(role)",
            "CREATE SCHEMA s AUTHORIZATION \(role)_owner", "CREATE TABLE s.t (a integer)",
            "ALTER TABLE s.t OWNER TO \(role)")
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP SCHEMA s CASCADE")
        var settings = database.plainSettings
        settings.parameters["user"] = role
        let notes = try await partial(vault, manifest) { $0.schemas = ["s"] }.restore(into: settings)
        #expect(notes == ["schema s: the owner is the restoring role, but in the backup it is \(role)_owner"])
        #expect(
            try await database.value("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 's'") == role)
        try await database.execute(
            "DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)", "DROP OWNED BY \(role)_owner",
            "DROP ROLE \(role)_owner")
    }

    @Test func `a schema comes back in a database of another encoding`() async throws {
        let database = try TestDatabase.current
        let name = "\(database.name)_latin"
        try await TestCluster.runSQL(
            "CREATE DATABASE \(name) TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
        let settings = database.settings.database(name)
        // A role whose name has no equivalent in that encoding.
        let role = "\(database.name)e\u{301}"
        try await TestCluster.runSQL("CREATE ROLE \(quoteIdentifier(role))")
        let vault = try await Vault()
        let state = """
            SELECT array_agg(nspname || ': ' || obj_description(oid, 'pg_namespace')) FROM pg_namespace
            WHERE nspname LIKE 'gr%'
            """
        try await Connection.opened(settings) { connection in
            try await connection.with {
                try $0.execute(
                    "CREATE SCHEMA gross; COMMENT ON SCHEMA gross IS 'die Größe'; CREATE TABLE gross.t AS SELECT 'ä' AS a"
                )
            }
        }
        let manifest = try await vault.maker(settings).make().manifest
        try await Connection.opened(settings) { connection in
            try await connection.with { try $0.execute("DROP SCHEMA gross CASCADE") }
        }
        let notes = try await partial(vault, manifest) { $0.schemas = ["gross"] }.restore(into: settings)
        #expect(notes == [])
        let found: [String] = try await Connection.opened(settings) { connection in
            try await connection.with { try $0.query(state).first?.get(0) ?? [] }
        }
        #expect(found == ["gross: die Größe"])
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)", "DROP ROLE \(quoteIdentifier(role))")
    }

    /// Programs of this process, by what their command lines hold.
    private static func children(_ program: String, _ argument: String) -> [pid_t] {
        let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return processes.compactMap { pid_t($0) }.filter { pid in
            guard let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else { return false }
            let words = String(decoding: line, as: UTF8.self).split(separator: "\0").map(String.init)
            let name = words.first?.split(separator: "/").last
            return name == Substring(program) && words.contains { $0.contains(argument) }
        }
    }

    @Test(arguments: ["age", "pg_restore", "psql"])
    func `a program that is killed in the middle leaves nothing of the tables`(_ program: String) async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let schema = "s_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            "CREATE SCHEMA \(schema)",
            "CREATE TABLE \(schema).t AS SELECT i, md5(i::text) AS noise FROM generate_series(1, 1500000) i")
        let manifest = try await vault.maker(database.settings) {
            // Of a table in slices pg_restore reads nothing.
            if program == "pg_restore" { $0.sizes.large = 1 << 40 }
        }.make().manifest
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
        let mark = ["age": vault.folder, "pg_restore": schema][program] ?? database.name
        let killed = Self.children(program, mark)
        for pid in killed { kill(pid, SIGKILL) }
        #expect(!killed.isEmpty)
        let error = await #expect(throws: (any Error).self) { _ = try await restoring.value }
        #expect(error is PipelineError || error is BackupError, "\(String(describing: error))")
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

    @Test func `constraints that were never checked come without a note, and lost keys of other tables are named`()
        async throws
    {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute(
            """
            CREATE TABLE public.ord (id integer PRIMARY KEY); INSERT INTO public.ord VALUES (1);
            CREATE TABLE public.line (o integer REFERENCES public.ord); INSERT INTO public.line VALUES (1);
            ALTER TABLE public.ord ADD CONSTRAINT pos CHECK (id > 0) NOT VALID
            """)
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE public.ord CASCADE")
        let notes = try await partial(vault, manifest) { $0.tables = ["public.ord"] }.restore(into: database.settings)
        #expect(notes.count == 1 && notes[0].contains("line_o_fkey"), "\(notes)")
        let checks: Int = try await database.value("SELECT count(*) FROM pg_constraint WHERE conname = 'pos'")
        let records: Int = try await database.value(
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'reeve\\_%'")
        #expect(checks == 1 && records == 0)
        // Elsewhere the constraint is left out, and named as what it is.
        let moved = try await partial(vault, manifest) {
            $0.tables = ["public.ord"]
            $0.intoSchema = "rescue"
        }.restore(into: database.settings)
        #expect(moved.count == 1 && moved[0].contains("CONSTRAINT pos CHECK"), "\(moved)")
    }

    @Test func `a lock that is held leaves a key for another try`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let role = "coder_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            """
            CREATE ROLE \(role); CREATE SCHEMA code AUTHORIZATION \(role);
            CREATE FUNCTION code.f() RETURNS integer LANGUAGE sql AS 'SELECT 1';
            ALTER FUNCTION code.f() OWNER TO \(role);
            CREATE TABLE public.cust (id integer PRIMARY KEY); INSERT INTO public.cust VALUES (1);
            CREATE TABLE public.ord (id integer PRIMARY KEY, c integer REFERENCES public.cust);
            COMMENT ON CONSTRAINT ord_c_fkey ON public.ord IS 'whose it is'; INSERT INTO public.ord VALUES (1, 1)
            """)
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE public.ord")
        var settings = vault.restoring
        settings.trust = .roles([role])
        settings.lockPatience = .init(once: .milliseconds(200), pause: .milliseconds(50), whole: .milliseconds(600))
        let restore = partial(vault, manifest, settings) { $0.tables = ["public.ord"] }
        var selection = PartialRestore.Selection()
        selection.tables = ["public.ord"]
        try await database.connection { writer in
            try await writer.with { try $0.execute("BEGIN; INSERT INTO public.cust VALUES (2)") }
            let error = await #expect(throws: BackupError.self) {
                _ = try await restore.restore(into: database.settings)
            }
            let said = "\(try #require(error))"
            #expect(said.contains("ord_c_fkey of public.ord") && said.contains("55P03"), "\(said)")
            try await writer.with { try $0.execute("ROLLBACK") }
        }
        // The record of the restore is none of the database's content.
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let copy = database.settings.database(name)
        let later = try await vault.maker(database.settings).make().manifest
        try await Restorer(repository: vault.repository, manifest: later, settings: settings).restore(into: copy)
        let copied = try await Connection.opened(copy) {
            try await $0.value("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'reeve\\_restore%'", as: Int.self)
        }
        #expect(copied == 0)
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")

        let record = try await UnfinishedRestore.find(in: database.settings, of: selection)
        #expect(record.backup == manifest.id && record.missingNames == ["ord_c_fkey of public.ord"])
        // A constraint calls functions too.
        let distrusted = await #expect(throws: BackupError.self) {
            _ = try await partial(vault, manifest) { $0.tables = ["public.ord"] }
                .makeConstraints(record, in: database.settings)
        }
        #expect(distrusted?.report.exitCode == .notPermitted)
        let findings = try await restore.makeConstraints(record, in: database.settings)
        let comments: Int = try await database.value(
            "SELECT count(*) FROM pg_constraint WHERE conname = 'ord_c_fkey' AND obj_description(oid) = 'whose it is'")
        #expect(findings == [] && comments == 1)
        await #expect(throws: BackupError.self) {
            _ = try await UnfinishedRestore.find(in: database.settings, of: selection)
        }
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    /// An administrator ends the session, or cancels its statement.
    @Test(arguments: ["pg_terminate_backend", "pg_cancel_backend"])
    func `a key whose making is ended is left for another try`(ending: String) async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute(
            """
            CREATE TABLE public.cust (id integer PRIMARY KEY);
            CREATE TABLE public.ord (id integer, c integer REFERENCES public.cust)
            """)
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE public.ord")
        var selection = PartialRestore.Selection()
        selection.tables = ["public.ord"]
        let restore = partial(vault, manifest) { $0 = selection }
        try await database.connection { writer in
            try await writer.with { try $0.execute("BEGIN; INSERT INTO public.cust VALUES (1)") }
            let restoring = Task { try await restore.restore(into: database.settings) }
            try await waitUntil("the key waits", limit: .seconds(120)) {
                try await database.value(
                    """
                    SELECT count(\(ending)(pid)) > 0 FROM pg_stat_activity WHERE datname = current_database()
                        AND query LIKE 'LOCK TABLE%public.cust%' AND cardinality(pg_blocking_pids(pid)) > 0
                    """)
            }
            let error = await #expect(throws: BackupError.self) { _ = try await restoring.value }
            guard case .constraintsLeft(["ord_c_fkey of public.ord"], [], _)? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            try await writer.with { try $0.execute("ROLLBACK") }
        }
        let record = try await UnfinishedRestore.find(in: database.settings, of: selection)
        #expect(try await restore.makeConstraints(record, in: database.settings) == [])
        #expect(try await database.value("SELECT count(*) FROM pg_constraint WHERE conname = 'ord_c_fkey'") == 1)
    }

    @Test func `a restore that is finished leaves the records of others`() async throws {
        let database = try TestDatabase.current
        var records: [UnfinishedRestore] = []
        for name in ["a", "b"] {
            var selection = PartialRestore.Selection()
            selection.tables = [name]
            records.append(UnfinishedRestore(backup: "b", selection, tables: [], constraints: []))
        }
        for record in records { try await database.execute("BEGIN", record.script(), "COMMIT") }
        let making = ConstraintMaking(target: database.settings, patience: .init())
        #expect(try await making.make([], records[0]) == [])
        let left = try await database.with { try UnfinishedRestore.all(on: $0).map(\.schema) }
        #expect(left == [records[1].schema])
    }

    /// The target has a role whose name only looks the same.
    @Test func `a table of a role that the target lacks is refused`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let name = "lost_\(UUID().uuidString.prefix(8).lowercased())"
        let (role, similar) = ("\(name)e\u{301}", "\(name)\u{e9}")
        // On the server of all tests, the role would come back with the backups of other tests.
        try await OwnServer.with { source in
            try await Connection.opened(source) { connection in
                try await connection.with { connection in
                    try connection.execute("CREATE ROLE \(role); CREATE TABLE public.t (a integer)")
                    try connection.execute("ALTER TABLE public.t OWNER TO \(role)")
                }
            }
            let manifest = try await vault.maker(source).make().manifest
            try await database.execute("CREATE ROLE \(similar)")
            let error = await #expect(throws: BackupError.self) {
                _ = try await partial(vault, manifest) { $0.tables = ["public.t"] }.restore(into: database.settings)
            }
            if case .targetLacks(["the role \(role)"])? = error {} else { Issue.record("\(String(describing: error))") }
            try await database.execute("DROP ROLE \(similar)")
        }
    }

    @Test func `a parent comes with its children, each with its own rows`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute(
            """
            CREATE TABLE public.parent (a integer); CREATE TABLE public.child () INHERITS (public.parent);
            INSERT INTO public.parent VALUES (1); INSERT INTO public.child VALUES (2), (3)
            """)
        let manifest = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE public.parent CASCADE")
        let notes = try await partial(vault, manifest) { $0.tables = ["parent", "child"] }
            .restore(into: database.settings)
        let counts: [Int] = try await database.value(
            "SELECT ARRAY[(SELECT count(*) FROM ONLY public.parent), (SELECT count(*) FROM public.child)]")
        #expect(notes == [] && counts == [1, 2], "\(notes) \(counts)")
    }

    @Test func `a record of somebody else's, or of other tables, is not gone by`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute("CREATE TABLE public.t (a integer)")
        let oid: Int = try await database.value("SELECT 'public.t'::regclass::oid::int8")
        var selection = PartialRestore.Selection()
        selection.tables = ["t"]
        let table = FetchedTable(schema: "public", name: "t")
        let key = LateConstraints.Constraint(table: table, name: "k", statement: "SELECT 1")
        let record = UnfinishedRestore(backup: "b", selection, tables: [table], constraints: [key])
        let role = "other_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute("BEGIN", record.script(), "COMMIT")
        #expect(try await UnfinishedRestore.find(in: database.settings, of: selection).tables.map(\.oid) == [oid])
        try await database.execute("CREATE ROLE \(role)", "ALTER SCHEMA \(record.schema) OWNER TO \(role)")
        func refusal() async -> String {
            do {
                return try await UnfinishedRestore.find(in: database.settings, of: selection).schema
            } catch {
                return "\(error)"
            }
        }
        #expect(await refusal().contains("no record"))
        try await database.execute(
            "ALTER SCHEMA \(record.schema) OWNER TO CURRENT_USER", "DROP ROLE \(role)", "DROP TABLE public.t",
            "CREATE TABLE public.t (a integer)")
        #expect(await refusal().contains("the objects that were restored as public.t are no longer in the target"))
        _ = vault
    }

    /// Either the server's session ends, or psql is gone and the session still waits.
    @Test(arguments: [true, false])
    func `what became of a lost COMMIT is looked up, and told as unknown while the server works`(
        sessionEnds: Bool
    ) async throws {
        let vault = try await Vault()
        var options = EmbeddedCluster.Options(stateFolder: "\(vault.folder)/cluster")
        // COMMIT waits for a standby that never comes, where a database says so.
        options.settings = [
            "synchronous_standby_names": "nobody", "synchronous_commit": "local", "max_wal_senders": "2",
        ]
        let cluster = try await EmbeddedCluster.acquire(options, logger: .silent)
        let (source, postgres) = (cluster.settings(database: "source"), cluster.settings(database: "postgres"))
        let name = "target_\(UUID().uuidString.prefix(8).lowercased())"
        func run(_ settings: ConnectionSettings, _ statements: String...) async throws {
            try await Connection.opened(settings) { connection in
                try await connection.with { for sql in statements { try $0.execute(sql) } }
            }
        }
        try await run(postgres, "CREATE DATABASE source", "CREATE DATABASE \(name)")
        try await run(
            source,
            """
            CREATE TABLE public.a (id integer PRIMARY KEY); INSERT INTO public.a VALUES (1);
            CREATE TABLE public.b (id integer REFERENCES public.a); INSERT INTO public.b VALUES (1)
            """)
        let manifest = try await vault.maker(source).make().manifest
        try await run(postgres, "ALTER DATABASE \(name) SET synchronous_commit = on")
        var impatient = cluster.settings(database: name)
        if !sessionEnds { impatient.outcomeTimeout = .milliseconds(500) }
        let target = impatient
        let restore = partial(vault, manifest) { $0.tables = ["a", "b"] }
        let restoring = Task { try await restore.restore(into: target) }
        try await Connection.opened(postgres) { connection in
            try await waitUntil("psql commits", limit: .seconds(120)) {
                try await connection.value(
                    "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = $1",
                    [name], as: Bool.self)
            }
            if !sessionEnds {
                for pid in Self.children("psql", name) { kill(pid, SIGKILL) }
                let error = await #expect(throws: BackupError.self) { _ = try await restoring.value }
                if case .outcomeUnknown? = error {} else { Issue.record("told as \(String(describing: error))") }
            }
            try await connection.with { connection in
                _ = try connection.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
                _ = try connection.query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
                _ = try connection.query("SELECT pg_reload_conf()")
            }
        }
        if sessionEnds {
            let findings = try await restoring.value
            let keys = try await Connection.opened(target) {
                try await $0.value("SELECT count(*) FROM pg_constraint WHERE conname = 'b_id_fkey'", as: Int.self)
            }
            #expect(findings == [] && keys == 1)
        }
        await cluster.destroy()
    }

    @Test func `whether a COMMIT took effect is told, or that it is not known`() async throws {
        let database = try TestDatabase.current
        let record = UnfinishedRestore(backup: "b", PartialRestore.Selection(), tables: [], constraints: [])
        var patient = database.settings
        patient.outcomeTimeout = .seconds(1)
        let target = patient
        @Sendable func outcome() async -> String { "\(await record.outcome(in: target))" }
        #expect(await outcome() == "notCommitted")
        // One that waits for its client keeps no locks.
        try await Connection.opened(database.settings.named(record.schema)) { connection in
            try await connection.with { _ = try $0.execute("BEGIN; SELECT 1") }
            #expect(await outcome() == "notCommitted")
            let left: Int = try await database.value(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", [record.schema])
            #expect(left == 0)
        }
        try await Connection.opened(database.settings.named(record.schema)) { connection in
            async let working: Void = connection.with { _ = try $0.query("SELECT pg_sleep(3)") }
            try await waitUntil("it works") {
                try await database.value(
                    "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = $1 AND state = 'active'",
                    [record.schema])
            }
            #expect(await outcome().hasPrefix("unknown"))
            try await working
        }
        try await database.execute("BEGIN", record.script(), "COMMIT")
        #expect(await outcome() == "committed")
    }

    @Test func `what is committed just before the session is looked for is seen`() async throws {
        let database = try TestDatabase.current
        let record = UnfinishedRestore(backup: "b", PartialRestore.Selection(), tables: [], constraints: [])
        let script = try record.script()
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        // By a session without the record's name, as if the one with it had ended.
        proxy.arm(onText: "SELECT count(*) > 0 FROM pg_stat_activity") { _ in
            let done = DispatchSemaphore(value: 0)
            Task.detached {
                try? await database.execute("BEGIN", script, "COMMIT")
                done.signal()
            }
            done.wait()
            return .none
        }
        #expect("\(await record.outcome(in: proxy.settings(database.settings)))" == "committed")
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

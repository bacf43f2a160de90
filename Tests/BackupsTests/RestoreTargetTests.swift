import Foundation
import Postgres
import Processes
import SQL
import Storage
import TestSupport
import Testing

@testable import Backups

/// What a restore asks of its target, and where a restore test goes without server programs.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct RestoreTargetTests {
    /// The manifest with something else in it.
    private func changed(_ manifest: Manifest, _ change: (inout [String: Any]) -> Void) throws -> Manifest {
        let data = try JSONEncoder().encode(manifest)
        var object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        change(&object)
        return try JSONDecoder().decode(Manifest.self, from: JSONSerialization.data(withJSONObject: object))
    }

    @Test(.database) func whatTheTargetLacksIsNamedBeforeTheFirstByte() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let role = "lost_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE ROLE \(role)")
        try await database.execute("CREATE TABLE t (a integer)", "ALTER TABLE t OWNER TO \(role)")
        let made = try await vault.maker(database.settings).make().manifest
        #expect(made.neededRoles.contains(role) && made.extensions["plpgsql"] != nil)
        try await database.execute("DROP TABLE t", "DROP ROLE \(role)")
        let manifest = try changed(made) { object in
            var extensions = object["extensions"] as? [String: String] ?? [:]
            extensions["no_such_extension"] = "1.0"
            object["extensions"] = extensions
            object["server"] = 990_000
        }
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
        let error = await #expect(throws: BackupError.self) { try await restorer.restore(into: database.settings) }
        let text = "\(try #require(error))"
        #expect(text.contains(role) && text.contains("no_such_extension") && text.contains("PostgreSQL 99"), "\(text)")
        let relations: Int = try await database.value("SELECT count(*) FROM pg_class WHERE relname = 't'")
        let limit: Int = try await database.value(
            "SELECT datconnlimit FROM pg_database WHERE datname = current_database()")
        #expect(relations == 0 && limit == -1)
        // Made on demand, it is in order.
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name) CONNECTION LIMIT 17")
        let target = database.settings.database(name)
        var settings = vault.restoring
        settings.makesRoles = true
        try await Restorer(repository: vault.repository, manifest: made, settings: settings).restore(into: target)
        let after = try await Connection.opened(target) {
            try await $0.value("SELECT datconnlimit FROM pg_database WHERE datname = current_database()", as: Int.self)
        }
        #expect(after == 17)
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)", "DROP ROLE \(role)")
    }

    @Test(.database) func `a setting that the server does not take is named before the first byte`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let role = "lost_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute("CREATE TABLE public.t (a integer)")
        let made = try await vault.maker(database.settings).make().manifest
        try await database.execute("DROP TABLE public.t")
        let manifest = try changed(made) { object in
            object["settings"] = [
                "ALTER DATABASE %database% SET work_mem TO '16MB'",
                "ALTER DATABASE %database% SET vacuum_cleanup_index_scale_factor TO '0.1'",
                "ALTER DATABASE %database% SET statement_timeout TO 'soon'",
                "ALTER ROLE \(role) IN DATABASE %database% SET work_mem TO '8MB'",
                "ALTER ROLE postgres IN DATABASE %database% SET lock_timeout TO 'soon'",
            ]
        }
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
        let error = await #expect(throws: BackupError.self) { try await restorer.restore(into: database.settings) }
        guard case .targetLacks(let what) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let words = [
            "the role \(role)", "support for the backup's value of the setting vacuum_cleanup_index_scale_factor",
            "support for the backup's value of the setting statement_timeout",
            "support for the backup's value of the setting lock_timeout",
        ]
        #expect(what.count == words.count && zip(what, words).allSatisfy { $0.hasPrefix($1) }, "\(what)")
        let state: String = try await database.value(
            """
            SELECT concat_ws(' ', to_regclass('public.t'), datconnlimit, (SELECT setconfig::text FROM pg_db_role_setting
                WHERE setdatabase = d.oid)) FROM pg_database d WHERE datname = current_database()
            """)
        #expect(state == "-1")
    }

    /// The target's code is checked after that: the session could create more code after the check.
    @Test(.database) func aSessionInTheTargetIsSaid() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        try await owned { role, _, target in
            let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
            let said = try await Connection.opened(target) { session -> String in
                try await session.with {
                    _ = try $0.execute("CREATE DOMAIN public.d AS int; ALTER DOMAIN public.d OWNER TO \(role)")
                }
                do {
                    try await restorer.restore(into: target)
                    return ""
                } catch {
                    return "\(error)"
                }
            }
            #expect(said.contains("a session is connected to"), "\(said)")
        }
    }

    /// Whether a session is in the way of the next restore, or a statement that opens the database fails.
    @Test(.database) func `a database that a restore has left closed is not opened by one that fails`() async throws {
        let database = try TestDatabase.current
        func limit(_ name: String) async throws -> Int {
            try await database.value("SELECT datconnlimit FROM pg_database WHERE datname = $1", [name])
        }
        @Sendable func guarded(
            _ target: ConnectionSettings, _ access: DatabaseAccess? = nil, _ fill: () async throws -> Void = {}
        ) async throws {
            try await RestoreGuard(target, restoring: "b", access).closed(fill, last: {})
        }
        try await owned { _, name, target in
            await #expect(throws: CancellationError.self) {
                try await guarded(target) { throw CancellationError() }
            }
            try await Connection.opened(target) { _ in
                let error = await #expect(throws: PostgresError.self) {
                    try await guarded(target)
                }
                #expect(error?.kind == .misuse)
            }
            #expect(try await limit(name) == 0)
            let gone = DatabaseAccess(limit: 23, grants: [], owner: "gone_\(name)")
            let error = await #expect(throws: PostgresError.self) {
                try await guarded(target, gone)
            }
            #expect(error?.sqlState == "42704")
            #expect(try await limit(name) == 0)
        }
    }

    /// Who owns a database may set its limit, and whether it is a template.
    @Test(.database) func theTargetsOwnerDoesNotGetInBeforeItIsDone() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute("CREATE TABLE t AS SELECT 1 AS a")
        let manifest = try await vault.maker(database.settings).make().manifest
        let role = "owner_\(UUID().uuidString.prefix(8).lowercased())"
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL(
            "CREATE ROLE \(role) LOGIN CREATEDB", "CREATE DATABASE \(name) OWNER \(role) CONNECTION LIMIT 7",
            "ALTER DATABASE \(name) IS_TEMPLATE true")
        let target = database.settings.database(name)
        func asOwner(of name: String) -> ConnectionSettings {
            var settings = database.settings.database(name)
            settings.parameters["user"] = role
            return settings
        }
        let (owner, inside) = (asOwner(of: "postgres"), asOwner(of: name))
        let tries = Gathered<Bool>()
        let trying = Task {
            while !Task.isCancelled {
                try? await Connection.opened(owner) { connection in
                    try await connection.with { _ = try $0.execute("ALTER DATABASE \(name) CONNECTION LIMIT -1") }
                }
                tries.add([(try? await Connection.opened(inside) { _ in true }) ?? false])
            }
        }
        var watching = vault.restoring
        watching.beforeOpening = { _ in
            let before = tries.all.count
            try await waitUntil("the owner tries") { tries.all.count >= before + 3 }
            #expect(!tries.all[before...].contains(true))
        }
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: watching)
        func state() async throws -> String {
            try await Connection.opened(database.settings) {
                try await $0.value(
                    """
                    SELECT concat_ws(' ', pg_get_userbyid(datdba), datconnlimit, datistemplate)
                    FROM pg_database WHERE datname = '\(name)'
                    """, as: String.self)
            }
        }
        try await waitUntil("the owner tries") { !tries.all.isEmpty }
        // What ends the owner's sessions is not what is tried here.
        var done = false
        while !done {
            do {
                try await restorer.restore(into: target)
                done = true
            } catch let error as PostgresError where error.kind == .misuse {}
        }
        trying.cancel()
        await trying.value
        let opened = try await state()
        #expect(opened.hasPrefix("\(role) ") && opened.hasSuffix(" t"), "\(opened)")
        try await TestCluster.runSQL(
            "ALTER DATABASE \(name) IS_TEMPLATE false", "DROP DATABASE \(name) WITH (FORCE)",
            "CREATE DATABASE \(name) OWNER \(role) CONNECTION LIMIT 7 IS_TEMPLATE true")
        // After an error it stays closed, and the error says how to open it.
        struct Refusal: Error {}
        var failing = vault.restoring
        failing.beforeOpening = { _ in throw Refusal() }
        let error = await #expect(throws: BackupError.self) {
            try await Restorer(repository: vault.repository, manifest: manifest, settings: failing).restore(
                into: target)
        }
        let closed = try await state()
        #expect(closed == "postgres 0 f")
        let hint = try #require(error?.hint)
        #expect(hint.contains("ALTER DATABASE \"\(name)\" OWNER TO \"\(role)\""), "\(hint)")
        #expect(hint.contains("CONNECTION LIMIT 7") && hint.contains("IS_TEMPLATE true"), "\(hint)")
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)", "DROP ROLE \(role)")
    }

    @Test(.database) func `a whole restore is masked by a superuser only`() async throws {
        let vault = try await Vault()
        let manifest = try await vault.maker(TestDatabase.current.settings).make().manifest
        try await owned { role, name, target in
            try await TestCluster.runSQL("ALTER ROLE \(role) LOGIN")
            var (asOwner, settings) = (target, vault.restoring)
            asOwner.parameters["user"] = role
            settings.masking = MaskingRules(["public": ["t": ["a": .null]]])
            let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: settings)
            let restoring = asOwner
            let error = await #expect(throws: BackupError.self) { try await restorer.restore(into: restoring) }
            guard case .maskingInPublic(name)? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(error?.report.exitCode == .notPermitted)
        }
    }

    /// A session that connected before the database was closed, and is not in pg_stat_activity until it wakes.
    @Test(.database) func `a session that is still starting does not get in`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute("CREATE TABLE public.t AS SELECT 1 AS a", "GRANT SELECT ON public.t TO PUBLIC")
        let manifest = try await vault.maker(database.settings).make().manifest
        try await owned { role, name, target in
            try await TestCluster.runSQL("ALTER ROLE \(role) LOGIN")
            var triesLeft = 10
            while true {
                triesLeft -= 1
                let sleeper = try await sleeper(role, target)
                defer { sleeper.signal(SIGKILL) }
                var settings = vault.restoring
                settings.beforeOpening = { _ in
                    // Until after it would have woken.
                    try await waitUntil("it is gone") { sleeper.ending != nil }
                }
                do {
                    try await Restorer(repository: vault.repository, manifest: manifest, settings: settings)
                        .restore(into: target)
                    return
                } catch let error as PostgresError {
                    // Any signal wakes it, also that of a DROP DATABASE in another test. Then it is an ordinary
                    // session.
                    let isAwake: Bool = try await database.value(
                        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = $1 AND query ~ '^SELECT pg_sleep'",
                        [name])
                    guard isAwake, triesLeft > 0 else { throw error }
                    try await TestCluster.runSQL(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '\(name)'")
                    try await waitUntil("it is gone") { sleeper.ending != nil }
                }
            }
        }
    }

    /// Starts a session that sleeps before it is in pg_stat_activity.
    private func sleeper(_ role: String, _ target: ConnectionSettings) async throws -> ChildProcess {
        let parameters = target.parameters
        let (database, name) = (try TestDatabase.current, parameters["dbname"] ?? "")
        let sleeper = try ChildProcess(
            Command(
                "psql",
                [
                    "-X", "-h", parameters["host"] ?? "", "-p", parameters["port"] ?? "", "-U", role, "-d", name,
                    "-c", "SELECT pg_sleep(600)",
                ], environment: ChildEnvironment.fixed().merging(["PGOPTIONS": "-c post_auth_delay=600"]) { $1 }))
        try await waitUntil("it sleeps") {
            try await database.value(
                """
                SELECT count(*) > 0 FROM pg_locks l JOIN pg_database d ON d.oid = l.objid
                WHERE l.classid = 'pg_database'::regclass AND d.datname = $1
                """, [name])
        }
        return sleeper
    }

    /// Lends a database of a role's own.
    private func owned(
        _ more: String = "", _ body: (_ role: String, _ name: String, _ target: ConnectionSettings) async throws -> Void
    ) async throws {
        let database = try TestDatabase.current
        let role = "owner_\(UUID().uuidString.prefix(8).lowercased())"
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE ROLE \(role)", "CREATE DATABASE \(name) OWNER \(role) \(more)")
        let result: Result<Void, any Error>
        do { result = .success(try await body(role, name, database.settings.database(name))) } catch {
            result = .failure(error)
        }
        let others: [String] = try await database.with {
            try $0.query("SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)", [name]).map {
                try $0.get(0)
            }
        }
        for one in others { try await TestCluster.runSQL("DROP DATABASE \(quoteIdentifier(one)) WITH (FORCE)") }
        try await database.execute("DROP OWNED BY \(role) CASCADE")
        try await TestCluster.runSQL("DROP ROLE \(role)")
        try result.get()
    }

    @Test(.database) func `a restore that fails leaves nothing confined, and no half database to open`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await owned { role, name, target in
            try await database.execute(
                """
                CREATE SCHEMA s AUTHORIZATION \(role); SET ROLE \(role); SET search_path = s;
                CREATE FUNCTION s.k(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1';
                -- A restore has an empty search path.
                CREATE FUNCTION s.h(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN k($1); END';
                CREATE TABLE s.c (id integer PRIMARY KEY, price integer CHECK (price >= 0),
                    twice integer GENERATED ALWAYS AS (s.h(id)) STORED);
                CREATE FUNCTION s.f() RETURNS text LANGUAGE sql AS 'SELECT current_user::text';
                INSERT INTO s.c VALUES (1, 99); RESET ROLE; RESET search_path
                """)
            let manifest = try await vault.maker(database.settings).make().manifest
            var settings = vault.restoring
            settings.trust = .roles([role])
            let error = await #expect(throws: BackupError.self) {
                try await Restorer(repository: vault.repository, manifest: manifest, settings: settings).restore(
                    into: target)
            }
            let hint = try #require(error?.hint)
            #expect(hint.contains("drop the database") && !hint.contains("ALTER DATABASE"), "\(hint)")
            let found = try await Connection.opened(target) {
                try await $0.value(
                    """
                    SELECT concat_ws(' ', (SELECT pg_get_constraintdef(oid) FROM pg_constraint
                            WHERE conname = 'c_price_check'), (SELECT prosecdef FROM pg_proc WHERE proname = 'f'),
                        (SELECT count(*) FROM pg_event_trigger),
                        (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'reeve%'))
                    """, as: String.self)
            }
            #expect(found == "CHECK ((price >= 0)) f 0 0")
        }
    }

    @Test(.database) func `what a database was is not forgotten when its restore is killed`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        func state(_ name: String) async throws -> String {
            try await database.value(
                """
                SELECT concat_ws(' ', pg_get_userbyid(datdba), datconnlimit, datistemplate, (SELECT count(*)
                    FROM pg_db_role_setting s WHERE s.setdatabase = d.oid)) FROM pg_database d WHERE datname = $1
                """, [name])
        }
        func kill(_ target: ConnectionSettings) async throws {
            await #expect(throws: CancellationError.self) {
                try await RestoreGuard(target, restoring: manifest.id).closed {
                    throw CancellationError()
                } last: {
                }
            }
        }
        for replaces in [false, true] {
            try await owned("CONNECTION LIMIT 7 IS_TEMPLATE true") { role, name, target in
                try await kill(target)
                #expect(try await state(name) == "postgres 0 f 1")
                // It contains a part of a backup, and a backup of it would look whole.
                let error = await #expect(throws: BackupError.self) { _ = try await vault.maker(target).make() }
                guard case .beingRestored(backup: manifest.id)? = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
                // Once more, for that must not take what is closed for what was.
                try await kill(target)
                let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
                if replaces {
                    var earlier = manifest
                    earlier.access = nil
                    _ = try await Replacement(of: target, like: earlier).replace {
                        try await restorer.restore(into: $0)
                    }
                    #expect(try await state(name) == "\(role) 7 f 0")
                } else {
                    try await restorer.restore(into: target)
                    #expect(try await state(name) == "\(role) 7 t 0")
                    try await TestCluster.runSQL("ALTER DATABASE \(name) IS_TEMPLATE false")
                }
            }
        }
        #expect(DatabaseSetting("ALTER DATABASE %database% SET \"Reeve.restoring\" TO '10 -1 keep x'") == nil)
    }

    @Test(.database) func `the limit of applications' statements does not limit a restore`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute(
            """
            CREATE TABLE public.a (id integer PRIMARY KEY); INSERT INTO public.a SELECT generate_series(1, 200000);
            CREATE TABLE public.b (id integer REFERENCES public.a);
            SET session_replication_role = replica;
            INSERT INTO public.b SELECT 1 + i % 200000 FROM generate_series(1, 2000000) i
            """)
        let manifest = try await vault.maker(database.settings).make().manifest
        try await owned { _, name, target in
            try await TestCluster.runSQL("ALTER DATABASE \(name) SET statement_timeout = '150ms'")
            let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
            try await restorer.restore(into: target)
            let keys = try await Connection.opened(target) {
                try await $0.value("SELECT count(*) FROM pg_constraint WHERE contype = 'f'", as: Int.self)
            }
            #expect(keys == 1)
        }
    }

    @Test(
        .database,
        arguments: [
            ("LOCK TABLE held IN ACCESS EXCLUSIVE MODE", "public.held"), ("DROP SCHEMA mine", "schema mine"),
            ("ALTER SCHEMA mine RENAME TO yours", "schema mine"),
        ])
    func whoHoldsATableOrASchemaIsSaidInTime(_ statement: String, _ object: String) async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let role = "holder_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            "CREATE TABLE held (a integer)", "CREATE ROLE \(role)", "CREATE SCHEMA mine AUTHORIZATION \(role)")
        try await database.connection { holder in
            try await holder.with { try $0.execute("BEGIN; \(statement)") }
            let pid = await holder.serverProcess
            let making = Task {
                try await vault.maker(database.settings, nil) { $0.tableWait = .milliseconds(300) }.make().manifest
            }
            let late = Task {
                try await Task.sleep(for: .seconds(30))
                making.cancel()
            }
            let error = await #expect(throws: BackupError.self) { _ = try await making.value }
            late.cancel()
            let text = error.map { "\($0)" } ?? ""
            #expect(
                text.contains("process \(pid) of ") && text.contains("it is locked or requested by")
                    && text.contains(object),
                "\(text)")
            try await holder.with { try $0.execute("ROLLBACK") }
        }
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test(.database, .timeLimit(.minutes(4))) func whoHoldsWhatPgDumpWaitsForIsSaidInTime() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute("CREATE MATERIALIZED VIEW waiting AS SELECT 1 AS a")
        try await database.connection { holder in
            // Its definition is read by name, which waits; the lock on it cannot be taken beforehand.
            try await holder.with { try $0.execute("BEGIN; ALTER MATERIALIZED VIEW waiting RENAME TO renamed") }
            let pid = await holder.serverProcess
            let error = await #expect(throws: BackupError.self) {
                _ = try await vault.maker(database.settings, nil) {
                    $0.tableWait = .milliseconds(300)
                    $0.tableWatch = .milliseconds(50)
                }.make().manifest
            }
            let text = error.map { "\($0)" } ?? ""
            #expect(text.contains("process \(pid) of ") && text.contains("public.waiting"), "\(text)")
            try await holder.with { try $0.execute("ROLLBACK") }
        }
        let objects = try await vault.repository.store.list("main/")
        #expect(objects.allSatisfy { $0.name.hasSuffix("owner.json") }, "\(objects)")
    }

    @Test(.database) func withoutServerProgramsAScratchDatabaseServes() async throws {
        guard try await TestCluster.isOldestServer(for: "withoutServerProgramsAScratchDatabaseServes") else { return }
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS a")
        let made = try await vault.maker(database.settings).make().manifest
        // Of a version that is not installed here, but that is restored by what is.
        let manifest = try changed(made) { $0["server"] = 140_000 }
        func test(beside: ConnectionSettings?) async throws -> Proof {
            try await RestoreTest(
                repository: vault.repository, manifest: manifest, settings: vault.restoring,
                folder: "\(vault.folder)/scratch", beside: beside
            ).run()
        }
        let proof = try await test(beside: database.settings)
        // The test cluster's roles come and go with other tests.
        #expect(proof.differences.filter { $0.kind != "role" } == [], "\(proof.differences)")
        await #expect(throws: BackupError.self) { _ = try await test(beside: nil) }
    }

    @Test(.database) func `a scratch database runs no code of roles that are not trusted`() async throws {
        guard try await TestCluster.isOldestServer(for: "a scratch database runs no code") else { return }
        let database = try TestDatabase.current
        let vault = try await Vault()
        let role = "owner_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "ALTER FUNCTION public.f() OWNER TO \(role)")
        let manifest = try changed(try await vault.maker(database.settings).make().manifest) { $0["server"] = 140_000 }
        let test = try RestoreTest(
            repository: vault.repository, manifest: manifest, settings: vault.restoring,
            folder: "\(vault.folder)/scratch", beside: database.settings)
        let error = await #expect(throws: BackupError.self) { _ = try await test.run() }
        if case .foreignCode(_, role)? = error {} else { Issue.record("\(String(describing: error))") }
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func statementsAboutRolesAreKnown() {
        #expect(RoleStatement("CREATE ROLE a")?.roles == ["a"])
        #expect(RoleStatement("ALTER ROLE \"odd \"\" one\" WITH LOGIN")?.roles == ["odd \" one"])
        #expect(RoleStatement("CREATE ROLE \"a\"")?.roles == ["a"])
        #expect(RoleStatement("ALTER ROLE a SET search_path TO 'x'")?.roles == ["a"])
        #expect(RoleStatement("GRANT \"a b\" TO c WITH ADMIN OPTION GRANTED BY postgres")?.roles == ["a b", "c"])
        #expect(RoleStatement("SET client_encoding = 'UTF8'") == nil)
        #expect(RoleStatement("GRANT a TO c")?.isAbout(["a"]) == false)
        #expect(RoleStatement("GRANT a TO c")?.isAbout(["a", "c"]) == true)
        let script = [
            "SET client_encoding = 'UTF8'", "CREATE ROLE a", "ALTER ROLE a WITH LOGIN", "GRANT pg_monitor TO \"b c\"",
            "GRANT a TO d", "ALTER ROLE a SET work_mem TO '1MB'",
        ]
        #expect(RoleStatement.uncreated(in: script) == ["b c", "d"])
    }

    @Test func aThrottleLetsPassWhatItMay() {
        let throttle = Throttle(1_000_000)
        let began = ContinuousClock.now
        for _ in 0..<5 { throttle.pass(50_000) }
        #expect(ContinuousClock.now - began >= .milliseconds(240))
    }
}

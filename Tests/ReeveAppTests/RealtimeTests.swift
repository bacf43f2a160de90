import Foundation
import Postgres
import Reporting
import Synchronization
import Telemetry
import TestSupport
import Testing

@testable import Kernel
@testable import MonitoringFeature
@testable import ReeveApp

/// Whether subscribers hear the changes that systems announce.
@Suite(.database, .timeLimit(.minutes(4)))
struct RealtimeTests {
    private static let declared = """
        name: app
        realtime:
          channels: {job_updates: jobs, step_updates: [steps]}
          publications: {live: [jobs, steps]}
        """

    /// A system whose triggers and publication are as its system.yaml says.
    private func make(_ yaml: String = declared) async throws -> MigrationFixture {
        let fixture = try MigrationFixture()
        try fixture.write("system.yaml", yaml)
        try await TestDatabase.current.execute(
            """
            CREATE SCHEMA app;
            CREATE TABLE app.jobs (id integer PRIMARY KEY);
            CREATE TABLE app.steps (id integer PRIMARY KEY);
            CREATE FUNCTION app.tell() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_notify('job_updates', ''); RETURN NULL; END $$;
            CREATE FUNCTION app.tell_argument() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_notify(TG_ARGV[0], ''); RETURN NULL; END $$;
            CREATE TRIGGER tell_insert AFTER INSERT ON app.jobs FOR EACH ROW EXECUTE FUNCTION app.tell();
            CREATE TRIGGER tell_update AFTER UPDATE ON app.jobs FOR EACH ROW EXECUTE FUNCTION app.tell();
            CREATE TRIGGER tell AFTER INSERT ON app.steps FOR EACH ROW EXECUTE FUNCTION app.tell_argument('step_updates');
            CREATE PUBLICATION live FOR TABLE app.jobs, app.steps;
            """)
        return fixture
    }

    private func open(
        _ fixture: MigrationFixture, url: ConnectionSettings? = nil, direct: ConnectionSettings? = nil
    ) async throws -> OpenDatabase {
        var environment = [
            "DATABASE_URL": try (url ?? TestDatabase.current.settings).uri, "REEVE_SYSTEMS": fixture.folder,
        ]
        if let direct { environment["REEVE_DATABASE_DIRECT_URL"] = direct.uri }
        let configuration = try FeatureList.reeve.configuration(path: nil, environment: environment)
        let estate = Estate(configuration: configuration, features: .reeve, logger: .silent)
        return try await estate.open(configuration.databases[0])
    }

    private func state(_ fixture: MigrationFixture) async throws -> RealtimeState {
        let open = try await open(fixture)
        let state = try await RealtimeState.read(open)
        await open.database.pool.close()
        return state
    }

    @Test func `what is as declared is ready, and the message says what was tried`() async throws {
        let fixture = try await make()
        #expect(try await state(fixture) == RealtimeState(notes: ["notifications arrive", "2 tables published"]))
        try fixture.write("system.yaml", "name: app\n")
        #expect(try await state(fixture).message == "the systems announce no changes")
        // Nothing is listened for, if nothing is notified.
        try fixture.write("system.yaml", "name: app\nrealtime: {publications: {live: steps}}\n")
        #expect(try await state(fixture).message == "1 table published")
    }

    @Test func `a table that is not in its publication is named, and the remedy helps`() async throws {
        let (fixture, database) = (try await make(), try TestDatabase.current)
        try await database.execute("ALTER PUBLICATION live DROP TABLE app.steps")
        let found = try await state(fixture)
        #expect(found.problems.map(\.message) == ["app.steps is not in the publication live"])
        #expect(found.notes == ["notifications arrive", "1 table published"])
        let mend = try #require(found.problems.first?.mend)
        #expect(mend == #"as its owner: ALTER PUBLICATION "live" ADD TABLE "app"."steps""#)
        try await database.execute(mend.replacing("as its owner: ", with: ""))
        #expect(try await state(fixture).problems.isEmpty)
    }

    @Test func `a publication may hold tables in other ways, and one that is not there is only told`() async throws {
        let (fixture, database) = (try await make(), try TestDatabase.current)
        try await database.execute("DROP PUBLICATION live")
        #expect(try await state(fixture).message == "notifications arrive; there is no publication live")
        try await database.execute("CREATE PUBLICATION live FOR ALL TABLES WITH (publish = 'insert')")
        #expect(
            try await state(fixture).message
                == "notifications arrive; 2 tables published; live does not publish all changes")
        // A partition is published with its root, and a table that is not there yet is the migrations' business.
        try await database.execute(
            """
            DROP PUBLICATION live; DROP TABLE app.steps;
            CREATE TABLE app.all_steps (id integer) PARTITION BY RANGE (id);
            CREATE PUBLICATION live FOR TABLE app.jobs, app.all_steps
            """)
        #expect(try await state(fixture).message == "notifications arrive; 1 table published")
        try await database.execute(
            """
            CREATE TABLE app.steps PARTITION OF app.all_steps FOR VALUES FROM (1) TO (9);
            CREATE TRIGGER tell AFTER INSERT ON app.steps FOR EACH ROW EXECUTE FUNCTION app.tell_argument('step_updates')
            """)
        #expect(try await state(fixture).message == "notifications arrive; 2 tables published")
        let version = try await database.value("SELECT current_setting('server_version_num')::int", as: Int.self)
        if version >= 150_000 {
            try await database.execute("DROP PUBLICATION live; CREATE PUBLICATION live FOR TABLES IN SCHEMA app")
            #expect(try await state(fixture).message == "notifications arrive; 2 tables published")
        }
    }

    @Test func `triggers that are disabled or gone are named`() async throws {
        let (fixture, database) = (try await make(), try TestDatabase.current)
        try await database.execute(
            "ALTER TABLE app.jobs DISABLE TRIGGER tell_update", "DROP TRIGGER tell ON app.steps")
        let found = try await state(fixture)
        #expect(
            found.problems.map(\.message) == [
                "the trigger tell_update of app.jobs, which notifies job_updates, is disabled",
                "no trigger of app.steps notifies step_updates",
            ])
        try await database.execute(try #require(found.problems.first?.mend))
        #expect(try await state(fixture).problems.map(\.message) == ["no trigger of app.steps notifies step_updates"])
    }

    @Test func `each event that is declared must be announced, on that channel and no other`() async throws {
        let (fixture, database) = (try await make(), try TestDatabase.current)
        try fixture.write(
            "system.yaml",
            "name: app\nrealtime: {channels: {job_updates: {jobs: [insert, update]}, job: {jobs: [delete]}}}\n")
        try await database.execute(
            """
            DROP TRIGGER tell_update ON app.jobs;
            DROP TRIGGER tell_insert ON app.jobs;
            CREATE OR REPLACE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON app.jobs
                FOR EACH ROW EXECUTE FUNCTION app.tell_argument('first', 'job_updates');
            CREATE TRIGGER own AFTER DELETE ON app.jobs FOR EACH ROW EXECUTE FUNCTION app.tell_argument('job', 'x');
            CREATE TRIGGER other AFTER UPDATE ON app.jobs FOR EACH ROW EXECUTE FUNCTION app.tell_argument('job_updates');
            ALTER TABLE app.jobs DISABLE TRIGGER other
            """)
        // One that is disabled does no harm if another announces the same.
        #expect(try await state(fixture).problems == [])
        try await database.execute(
            """
            CREATE OR REPLACE TRIGGER tell AFTER UPDATE ON app.jobs
                FOR EACH ROW EXECUTE FUNCTION app.tell_argument('first', 'job_updates', 'last');
            ALTER TABLE app.jobs DISABLE TRIGGER own
            """, "DROP TRIGGER other ON app.jobs")
        #expect(
            try await state(fixture).problems.map(\.message) == [
                "the trigger own of app.jobs, which notifies job, is disabled",
                "no trigger of app.jobs notifies job_updates of inserts",
            ])
    }

    @Test func `a notification that does not arrive is a problem, whatever else arrives meanwhile`() async throws {
        let (fixture, database) = (try await make(), try TestDatabase.current)
        let name = "\(database.name)_other"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        // The two addresses lead to different databases, where the same channel has other messages.
        let other = database.settings.database(name)
        let open = try await open(fixture, direct: other)
        let done = Mutex(false)
        async let chatter: Void = Connection.opened(other) { connection in
            while !done.withLock({ $0 }) {
                try await connection.with { _ = try $0.query("SELECT pg_notify($1, 'x')", [RealtimeState.channel]) }
                try await Task.sleep(for: .milliseconds(20))
            }
        }
        let state = try await RealtimeState.read(open)
        done.withLock { $0 = true }
        try await chatter
        await open.database.pool.close()
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
        #expect(state.problems.map(\.message) == ["a notification did not arrive within 5 s"])
        #expect(state.notes == ["2 tables published"])
    }

    @Test func `messages of others on the channel do not matter, and nothing stays behind`() async throws {
        let (fixture, database) = (try await make(), try TestDatabase.current)
        let done = Mutex(false)
        async let chatter: Void = database.connection { connection in
            while !done.withLock({ $0 }) {
                try await connection.with { _ = try $0.query("SELECT pg_notify($1, 'x')", [RealtimeState.channel]) }
            }
        }
        for _ in 0..<5 { #expect(try await state(fixture).problems.isEmpty) }
        done.withLock { $0 = true }
        try await chatter
        try await waitUntil("no session listens") {
            try await database.value(
                """
                SELECT count(*) = 0 FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'reeve realtime'
                """)
        }
    }

    @Test func `behind a pooler it says that it did not try`() async throws {
        let (fixture, database) = (try await make(), try TestDatabase.current)
        let proxy = try FaultProxy(before: database.settings, posesAsPooler: true)
        defer { proxy.close() }
        let open = try await open(fixture, url: proxy.settings(database.settings))
        let state = try await RealtimeState.read(open)
        await open.database.pool.close()
        #expect(
            state
                == RealtimeState(notes: [
                    "2 tables published", "notifications were not tried, because that requires a direct connection",
                ]))
    }

    /// Puts a function of the test in the place of `pg_notify`. PostgreSQL finds its own function by its OID, so that
    /// replacing its body would change nothing.
    private func breakNotifications(_ body: String) async throws {
        try await TestDatabase.current.execute(
            """
            SET allow_system_table_mods = on;
            ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO pg_notify_of_postgres;
            CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS
                $$ BEGIN \(body) END $$
            """)
    }

    private func mendNotifications() async throws {
        try await TestDatabase.current.execute(
            """
            SET allow_system_table_mods = on;
            DROP FUNCTION pg_catalog.pg_notify(text, text);
            ALTER FUNCTION pg_catalog.pg_notify_of_postgres(text, text) RENAME TO pg_notify
            """)
    }

    @Test func `a full queue of notifications is a problem`() async throws {
        let fixture = try await make()
        try await breakNotifications(
            "RAISE EXCEPTION 'too many notifications in the NOTIFY queue' USING ERRCODE = 'program_limit_exceeded';")
        #expect(try await state(fixture).problems.map(\.message) == ["the server's queue of notifications is full"])
        try await mendNotifications()
        #expect(try await state(fixture).problems.isEmpty)
    }

    @Test func `where nothing is streamed, that is told and is no problem`() async throws {
        let folder = "\(TestCluster.stateFolder)/r\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        var options = EmbeddedCluster.Options(stateFolder: folder)
        options.settings = ["wal_level": "replica", "fsync": "off"]
        options.programFolders = ProcessInfo.processInfo.environment["REEVE_TEST_SERVER"].map { [$0] }
        let cluster = try await EmbeddedCluster.acquire(options)
        let fixture = try await make()
        try await Connection.opened(cluster.settings()) { connection in
            try await connection.with {
                _ = try $0.execute(
                    """
                    CREATE SCHEMA app; CREATE TABLE app.jobs (); CREATE TABLE app.steps ();
                    CREATE PUBLICATION live FOR TABLE app.jobs, app.steps
                    """)
            }
        }
        try fixture.write("system.yaml", "name: app\nrealtime: {publications: {live: [jobs, steps]}}\n")
        let open = try await open(fixture, url: cluster.settings())
        let state = try await RealtimeState.read(open)
        await open.database.pool.close()
        #expect(
            state
                == RealtimeState(notes: [
                    "2 tables published", "nothing is streamed from publications, because wal_level is replica",
                ]))
    }

    @Test func `mistakes in the section are told with their lines`() throws {
        func mistake(_ yaml: String) throws -> String {
            let fixture = try MigrationFixture()
            try fixture.write("system.yaml", "name: app\n\(yaml)\n")
            do {
                _ = try SystemFile(folder: fixture.folder, sections: [RealtimeSection.section.key])
                return ""
            } catch let error as ConfigurationError {
                let hint = error.hint.map { " (\($0))" } ?? ""
                return error.description.replacing("\(fixture.folder)/system.yaml:", with: "") + hint
            }
        }
        #expect(try mistake("realtime: [a]") == "2: 'realtime' must be a map with channels and publications")
        #expect(
            try mistake("realtime:\n  chanels: {a: b}")
                == "3: unknown key 'realtime.chanels' (did you mean 'channels')")
        #expect(
            try mistake("realtime:\n  channels: [a]")
                == "3: 'realtime.channels' must be a map of names, each with one table or a list of tables")
        #expect(try mistake("realtime:\n  publications: {a: [b, '']}") == "3: 'a' is empty")
        #expect(
            try mistake("realtime:\n  channels:\n    a: {b: [insert, updates]}")
                == "4: 'updates' is not an event of the table 'b' (the events are insert, delete, update)")
    }

    // MARK: The service

    private static let systems = ["REEVE_SYSTEMS": "videogen,csvbatch", "REEVE_TASKS_MIGRATE_ENABLED": "true"]

    @Test(.database(.systems)) func `the service is not ready while a table is not published, and says which`()
        async throws
    {
        let database = try TestDatabase.current
        let served = try Served(database.settings, Self.systems)
        try await waitUntil("it is ready") { served.get("/readyz")?.status == 200 }
        try await waitUntil("it tells") {
            served.get("/readyz?verbose")?.body.contains("[+]realtime/main notifications arrive; 4 tables published\n")
                == true
        }
        try await database.execute("ALTER PUBLICATION supabase_realtime DROP TABLE csvbatch.csv_row_jobs")
        try await waitUntil("it says which") {
            served.get("/readyz?verbose")?.body.contains(
                "[-]realtime/main csvbatch.csv_row_jobs is not in the publication supabase_realtime; "
                    + "notifications arrive; 3 tables published\n") == true
        }
        #expect(served.get("/readyz")?.status == 503)
        #expect(served.get("/readyz?verbose")?.body.contains("[+]schema/main up to date") == true)
        let doctor = try await ReeveBinary.run(
            ["doctor", "--only", "realtime"], on: database.settings, environment: Self.systems)
        #expect(doctor.ending == .exited(3) && doctor.output.contains("ALTER PUBLICATION"), "\(doctor)")
        // Where nobody subscribes, it is enough to tell.
        let lenient = try Served(database.settings, Self.systems.merging(["REEVE_REALTIME_REQUIRED": "no"]) { $1 })
        try await waitUntil("the other one is ready") { lenient.get("/readyz")?.status == 200 }
        #expect(
            lenient.get("/readyz?verbose")?.body.contains("[+]realtime/main csvbatch.csv_row_jobs is not in") == true)
        try await database.execute("ALTER PUBLICATION supabase_realtime ADD TABLE csvbatch.csv_row_jobs")
        try await waitUntil("it is ready again") { served.get("/readyz")?.status == 200 }
        for one in [served, lenient] {
            one.reeve.signal(SIGTERM)
            #expect(try await one.reeve.end() == 0)
        }
    }

    @Test(.database(.systems)) func `the service is not ready while notifications do not arrive, and recovers`()
        async throws
    {
        let database = try TestDatabase.current
        let served = try Served(database.settings, Self.systems)
        try await waitUntil("it is ready") { served.get("/readyz")?.status == 200 }
        try await breakNotifications("")
        try await waitUntil("it says so") {
            served.get("/readyz?verbose")?.body.contains(
                "[-]realtime/main a notification did not arrive within 5 s; 4 tables published\n") == true
        }
        #expect(served.get("/readyz")?.status == 503)
        try await mendNotifications()
        try await waitUntil("it is ready again") { served.get("/readyz")?.status == 200 }
        served.reeve.signal(SIGTERM)
        #expect(try await served.reeve.end() == 0)
    }

    @Test(.database(.systems)) func `while notifications hang, it answers and the other checks go on`() async throws {
        let database = try TestDatabase.current
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        let served = try Served(
            database.settings,
            Self.systems.merging(["REEVE_DATABASE_DIRECT_URL": proxy.settings(database.settings).uri]) { $1 })
        try await waitUntil("it is ready") { served.get("/readyz")?.status == 200 }
        let page = Mutex("")
        proxy.arm(onText: #"LISTEN "reeve_realtime""#, afterForwarding: true) { _ in
            // The probe waits for the server's answer now, which never arrives.
            page.withLock { $0 = served.get("/readyz?verbose")?.body ?? "nothing" }
            return .mute
        }
        try await waitUntil("it is not ready") { served.get("/readyz")?.status == 503 }
        #expect(page.withLock { $0 }.hasSuffix("ready\n"))
        let body = served.get("/readyz?verbose")?.body ?? ""
        #expect(body.contains("[-]realtime/main "), "\(body)")
        #expect(body.contains("[+]schema/main up to date") && body.contains("[+]database/main answers"), "\(body)")
        for secret in ["postgres", database.name, "/tmp"] { #expect(!body.contains(secret), "\(body)") }
        try await waitUntil("it is ready again") { served.get("/readyz")?.status == 200 }
        served.reeve.signal(SIGTERM)
        #expect(try await served.reeve.end() == 0)
    }
}

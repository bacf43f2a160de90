import AdminHTTP
import Foundation
import Ledger
import Postgres
import Processes
import Synchronization
import TestSupport
import Testing

@testable import Kernel
@testable import ReeveApp

/// A service that cannot work says so, and ends where waiting does not help.
@Suite(.database, .timeLimit(.minutes(3)))
struct ServiceFaultTests {
    /// A ledger as a newer program leaves it.
    private func makeLedgerNewer(_ database: TestDatabase) async throws {
        try await database.execute("UPDATE reeve.ledger SET version = version + 1000")
    }

    private func environment(_ more: [String: String] = [:]) -> [String: String] {
        ["REEVE_SYSTEMS": "publisher", "REEVE_TASKS_MIGRATE_ENABLED": "true"].merging(more) { $1 }
    }

    @Test func `a ledger that is too new ends it, with the error's status and all that it serves beside`() async throws
    {
        let database = try TestDatabase.current
        let installed = try await ReeveBinary.run(
            ["migrate", "up", "--system", "publisher"], on: database.settings)
        #expect(installed.succeeded, "\(installed.errorOutput)")
        try await makeLedgerNewer(database)
        let name = "\(database.name)_two"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let file = "/tmp/reeve-two-\(UUID().uuidString.prefix(8)).yaml"
        let yaml = """
            databases:
              good:
                url: "\(database.settings.database(name).uri)"
              newer:
                url: "\(database.settings.uri)"
            tasks:
              analyze:
                every: 1s
            """
        try yaml.write(toFile: file, atomically: true, encoding: .utf8)
        let served = try Served(nil, ["REEVE_CONFIG": file])
        #expect(try await served.reeve.end(limit: .seconds(40)) == 1, "\(served.reeve.output)")
        #expect(served.reeve.output.contains("the service failed and is stopping"), "\(served.reeve.output)")
        #expect(served.reeve.output.contains("this program supports versions up to"))
        #expect(!FileManager.default.fileExists(atPath: served.socket))
        try await Connection.opened(database.settings.database(name)) { connection in
            // A server's process ends a moment after its client; autovacuum's are nobody's.
            try await waitUntil("nothing of it is connected") {
                try await connection.value(
                    """
                    SELECT count(*) FROM pg_catalog.pg_stat_activity
                    WHERE datname = pg_catalog.current_database() AND backend_type = 'client backend'
                    """) == 1
            }
        }
        try? FileManager.default.removeItem(atPath: file)
        try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
    }

    @Test func `one that becomes too new meanwhile ends it as well`() async throws {
        let database = try TestDatabase.current
        let served = try Served(database.settings, environment())
        try await waitUntil("it is ready") { served.get("/readyz")?.status == 200 }
        try await makeLedgerNewer(database)
        #expect(try await served.reeve.end(limit: .seconds(40)) == 1)
        #expect(served.reeve.output.contains("the service failed and is stopping"))
    }

    @Test func `that it cannot go on is said at once, however long what runs may take`() async throws {
        let database = try TestDatabase.current
        let system = try MigrationFixture(["0001_slow.up.sql": "SELECT pg_sleep(600);"])
        let served = try Served(
            database.settings, environment(["REEVE_SYSTEMS": system.folder, "REEVE_DRAIN": "3s"]))
        try await waitUntil("it sleeps") {
            try await database.value(
                """
                SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database()
                AND state = 'active' AND query LIKE '%pg_sleep(600)%' AND pid <> pg_catalog.pg_backend_pid()
                """) == 1
        }
        try await makeLedgerNewer(database)
        try await waitUntil("it says so", limit: .seconds(40)) {
            served.get("/readyz?verbose")?.body.contains("[-]service has failed") == true
                && served.reeve.output.contains("the service failed and is stopping")
        }
        #expect(!served.reeve.hasEnded)
        #expect(try await served.reeve.end(limit: .seconds(30)) == 1, "\(served.reeve.output)")
        #expect(served.reeve.output.contains("cancelling work that did not end in time"))
    }

    @Test func `a schema that is another's ends it with status 4`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE SCHEMA reeve", "CREATE FUNCTION reeve.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        let served = try Served(database.settings, environment())
        #expect(try await served.reeve.end(limit: .seconds(40)) == 4, "\(served.reeve.output)")
    }

    @Test func `a ledger that another holds is waited for, and that is said`() async throws {
        let database = try TestDatabase.current
        let installed = try await ReeveBinary.run(["migrate", "up", "--system", "publisher"], on: database.settings)
        #expect(installed.succeeded)
        let served: Served = try await database.connection { holder in
            try await holder.with { try $0.execute("BEGIN; LOCK TABLE reeve.ledger IN ACCESS EXCLUSIVE MODE") }
            let served = try Served(database.settings, environment())
            try await waitUntil("it says that it waits") {
                served.get("/readyz?verbose")?.body.contains("[-]ledger/main waiting for the ledger") == true
            }
            #expect(served.get("/livez")?.status == 200)
            // The log comes after what the page says.
            try await waitUntil("the log says who may hold it") {
                served.reeve.output.contains("another process may hold a lock on it")
            }
            try await holder.with { try $0.execute("ROLLBACK") }
            return served
        }
        try await waitUntil("it is ready") { served.get("/readyz")?.status == 200 }
        #expect(served.get("/readyz?verbose")?.body.contains("[+]ledger/main version") == true)
        served.reeve.signal(SIGHUP)
        #expect(try await served.reeve.end() == 0)
    }

    @Test func `a look that hangs is not ready, and hides nothing else`() async throws {
        let database = try TestDatabase.current
        let served = try Served(database.settings, environment())
        try await waitUntil("it is ready") { served.get("/readyz")?.status == 200 }
        try await database.connection { holder in
            try await holder.with { try $0.execute("BEGIN; LOCK TABLE reeve.migrations IN ACCESS EXCLUSIVE MODE") }
            try await waitUntil("it says that it has no answer", limit: .seconds(60)) {
                served.get("/readyz?verbose")?.body.contains("[-]schema/main has not answered for ") == true
            }
            #expect(served.get("/readyz?verbose")?.body.contains("[+]database/main answers") == true)
            // The database is closed, and the look that waits is left as it is.
            try await TestCluster.runSQL("ALTER DATABASE \(database.name) ALLOW_CONNECTIONS false")
            try await holder.with { connection in
                _ = try connection.query(
                    """
                    SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
                    WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()
                        AND wait_event_type IS DISTINCT FROM 'Lock'
                    """)
            }
            try await waitUntil("it notices that the database is away") {
                served.get("/readyz?verbose")?.body.contains("[-]database/main") == true
            }
            #expect(served.get("/metrics")?.body.contains("reeve_database_up{database=\"main\"} 0") == true)
            try await holder.with { try $0.execute("ROLLBACK") }
        }
        try await TestCluster.runSQL("ALTER DATABASE \(database.name) ALLOW_CONNECTIONS true")
        try await waitUntil("it is ready again") { served.get("/readyz")?.status == 200 }
        served.reeve.signal(SIGTERM)
        #expect(try await served.reeve.end() == 0)
    }

    @Test func `what nobody has looked at for long is not ready`() {
        let passed = Mutex(Duration.zero)
        let start = ContinuousClock.now
        let readiness = Readiness { start + passed.withLock { $0 } }
        readiness.set("a", true, "stays")
        readiness.set("b", true, "answers", lasts: .seconds(30))
        passed.withLock { $0 = .seconds(30) }
        #expect(readiness.answer(verbose: false).status == 200)
        passed.withLock { $0 = .seconds(31) }
        #expect(readiness.answer(verbose: false).status == 503)
        #expect(!readiness.isGood("b") && readiness.isGood("a"))
        let said = String(decoding: readiness.answer(verbose: true).body, as: UTF8.self)
        #expect(said.contains("[-]b not checked for 31 s; last result: answers\n"), "\(said)")
    }

    @Test(arguments: ["connect_timeout", "tasks.analyze.timeout", "backup.call_limit", "backup.stall_limit"])
    func `a limit that leaves no time is refused`(key: String) async throws {
        let variable = SettingKey.environmentName(key.split(separator: ".").map(String.init))
        for (value, isTaken) in [("0s", false), ("0", false), ("0ms", false), ("1ms", true), ("1h", true)] {
            let outcome = try await ReeveBinary.run(["config", "check"], environment: [variable: value])
            #expect(outcome.succeeded == isTaken, "\(value): \(outcome.errorOutput)")
            if !isTaken {
                #expect(outcome.errorOutput.contains("'\(value)' is not a duration from 1ms to 3650d"))
            }
        }
    }

    @Test func `a difference between the clocks is told in words`() {
        #expect(DatabaseService.words(onDifference: -4.9) == "the host's clock agrees with the database's clock")
        #expect(DatabaseService.words(onDifference: 60).contains("60 s ahead of the database's"))
        #expect(DatabaseService.words(onDifference: -90).contains("90 s behind the database's"))
    }

    @Test func `readyz names neither hosts nor users nor databases`() async throws {
        let database = try TestDatabase.current
        var settings = database.settings
        settings.parameters["user"] = "someone_secret"
        settings.parameters["dbname"] = "database_secret"
        let served = try Served(settings, environment())
        try await waitUntil("it notices") {
            served.get("/readyz?verbose")?.body.contains("[-]database/main a connection could not be made") == true
        }
        for path in ["/readyz", "/readyz?verbose"] {
            let body = served.get(path)?.body ?? ""
            #expect(!body.contains("secret") && !body.contains("/" + "tmp"), "\(body)")
        }
        served.reeve.signal(SIGTERM)
        #expect(try await served.reeve.end() == 0)
    }

    @Test func `messages for everybody hold nothing of a server's own words`() {
        for kind in [.server, .cannotConnect, .connectionLost, .timedOut, .poolExhausted, .misuse]
            as [PostgresError.Kind]
        {
            let error = PostgresError(kind, "role \"alice\" at db.example.com", sqlState: "28000")
            #expect(!Readiness.publicMessage(error).contains("alice"))
            #expect(!Readiness.publicMessage(error).contains("example"))
        }
        let holder = "alice at db.example.com"
        for error in [
            .busy(holder: holder), .recording(check: "schema", holder: holder), .foreign(["owned by \(holder)"]),
        ] as [LedgerError] {
            #expect(!Readiness.publicMessage(error).contains("alice"))
        }
    }

    @Test func `without authentication there are three routes and no more`() {
        let routes = Service.routes(ServiceMetrics(), Readiness())
        #expect(
            routes.filter { $0.access == .open }.map(\.path.description).sorted() == ["/livez", "/metrics", "/readyz"])
    }

    @Test func `listening where other machines reach it wants http.remote, and a file is not removed`() async throws {
        let settings = try TestDatabase.current.settings
        let open = try await ReeveBinary.json(
            ["serve"], on: settings, environment: ["REEVE_HTTP_LISTEN": "0.0.0.0:0"])
        #expect(open.status == .exited(2))
        #expect((open.object["error"] as? [String: Any])?["hint"].map { "\($0)".contains("http.remote") } == true)
        let file = "/tmp/reeve-file-\(UUID().uuidString.prefix(8))"
        try "precious".write(toFile: file, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: file) }
        let taken = try await ReeveBinary.json(
            ["serve"], on: settings, environment: ["REEVE_HTTP_LISTEN": "unix:\(file)"])
        #expect(taken.status == .exited(1))
        #expect(try String(contentsOfFile: file, encoding: .utf8) == "precious")
    }

    @Test func `stopped while its database is away it still ends in order, and a second signal at once`() async throws {
        var nobody = try TestDatabase.current.settings
        nobody.parameters["host"] = "/tmp/reeve-nobody"
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let served = try Served(nobody, environment())
            try await waitUntil("it answers") { served.get("/livez")?.status == 200 }
            served.reeve.signal(signal)
            #expect(try await served.reeve.end() == 0)
        }
        let database = try TestDatabase.current
        let system = try MigrationFixture(["0001_slow.up.sql": "SELECT pg_sleep(600);"])
        let served = try Served(database.settings, environment(["REEVE_SYSTEMS": system.folder]))
        try await waitUntil("it sleeps") {
            try await database.value(
                """
                SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database()
                AND state = 'active' AND query LIKE '%pg_sleep(600)%' AND pid <> pg_catalog.pg_backend_pid()
                """) == 1
        }
        served.reeve.signal(SIGTERM)
        try await waitUntil("it is stopping") {
            served.get("/readyz?verbose")?.body.contains("[-]service is stopping") == true
        }
        served.reeve.signal(SIGTERM)
        #expect(try await served.reeve.end(limit: .seconds(5)) == 143)
    }
}

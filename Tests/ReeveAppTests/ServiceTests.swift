import Foundation
import Postgres
import TestSupport
import Testing

/// `reeve serve` as a process.
@Suite(.database, .timeLimit(.minutes(4)))
struct ServiceTests {
    @Test func `it migrates, runs tasks by the schedule, exports metrics and ends in order`() async throws {
        let database = try TestDatabase.current
        let served = try Served(
            database.settings,
            ["REEVE_SYSTEMS": "publisher", "REEVE_TASKS_MIGRATE_ENABLED": "true", "REEVE_TASKS_ANALYZE_EVERY": "1s"])
        try await waitUntil("it is ready") { served.get("/readyz")?.status == 200 }
        #expect(served.get("/livez")?.status == 200)
        #expect(served.get("/readyz?verbose")?.body.contains("[+]schema/main up to date") == true)
        let tables: Int = try await database.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'publisher'")
        #expect(tables == 4)
        try await waitUntil("the schedule ran") {
            try await database.value(
                "SELECT count(*) FROM reeve.runs WHERE task = 'analyze' AND reason = 'scheduled' AND state = 'succeeded'"
            ) >= 2
        }
        try await waitUntil("the metrics tell") {
            let metrics = served.get("/metrics")?.body ?? ""
            return metrics.contains("reeve_database_up{database=\"main\"} 1")
                && metrics.contains("reeve_migrations_pending{database=\"main\",system=\"publisher\"} 0")
                && metrics.contains("reeve_task_runs_total{database=\"main\",task=\"analyze\",state=\"succeeded\"}")
        }
        #expect(served.get("/nothing")?.status == 404)
        served.reeve.signal(SIGTERM)
        let output = served.reeve.output
        #expect(try await served.reeve.end() == 0)
        #expect(output.split(separator: "\n").allSatisfy { $0.hasPrefix("{\"time\":") })
        let running: Int = try await database.value("SELECT count(*) FROM reeve.runs WHERE state = 'running'")
        #expect(running == 0)
        #expect(!FileManager.default.fileExists(atPath: served.socket))
    }

    @Test func `two services on one database run each occurrence once`() async throws {
        let database = try TestDatabase.current
        let environment = [
            "REEVE_SYSTEMS": "publisher", "REEVE_TASKS_MIGRATE_ENABLED": "true", "REEVE_TASKS_ANALYZE_EVERY": "1s",
        ]
        let both = try [Served(database.settings, environment), Served(database.settings, environment)]
        try await waitUntil("both are ready") { both.allSatisfy { $0.get("/readyz")?.status == 200 } }
        try await waitUntil("occurrences ran") {
            try await database.value("SELECT count(*) FROM reeve.occurrences WHERE task = 'analyze'") >= 5
        }
        for one in both { one.reeve.signal(SIGTERM) }
        for one in both { #expect(try await one.reeve.end() == 0) }
        let doubles: Int = try await database.value(
            "SELECT count(*) FROM (SELECT FROM reeve.runs WHERE occurrence IS NOT NULL GROUP BY task, occurrence HAVING count(*) > 1) d"
        )
        #expect(doubles == 0)
        let applied: Int = try await database.value(
            "SELECT count(*) FROM reeve.audit WHERE entry::jsonb ->> 'action' = 'migration.applied'")
        #expect(applied == 2)
    }

    @Test func `it waits for a database that is down at its start, and outlives one that goes away`() async throws {
        let database = try TestDatabase.current
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        try await TestCluster.runSQL("ALTER DATABASE \(database.name) ALLOW_CONNECTIONS false")
        let served = try Served(
            proxy.settings(database.settings), ["REEVE_SYSTEMS": "publisher", "REEVE_TASKS_MIGRATE_ENABLED": "true"])
        try await waitUntil("it answers") { served.get("/livez")?.status == 200 }
        try await waitUntil("it says that the database is away") {
            served.get("/readyz?verbose")?.body.contains("[-]database/main") == true
        }
        #expect(served.get("/readyz")?.status == 503)
        try await TestCluster.runSQL("ALTER DATABASE \(database.name) ALLOW_CONNECTIONS true")
        try await waitUntil("it is ready") { served.get("/readyz")?.status == 200 }
        try await TestCluster.runSQL("ALTER DATABASE \(database.name) ALLOW_CONNECTIONS false")
        proxy.cut()
        try await waitUntil("it notices") { served.get("/readyz")?.status == 503 }
        try await waitUntil("the metric tells") {
            served.get("/metrics")?.body.contains("reeve_database_up{database=\"main\"} 0") == true
        }
        try await TestCluster.runSQL("ALTER DATABASE \(database.name) ALLOW_CONNECTIONS true")
        try await waitUntil("it is ready again") { served.get("/readyz")?.status == 200 }
        served.reeve.signal(SIGTERM)
        #expect(try await served.reeve.end() == 0)
    }

    @Test func `on its own PostgreSQL it brings up everything, starts it again when it is killed, and stops it`()
        async throws
    {
        let state = "\(TestCluster.stateFolder)/s\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: state) }
        let served = try Served(nil, ["REEVE_STATE": state])
        try await waitUntil("it is ready", limit: .seconds(60)) { served.get("/readyz")?.status == 200 }
        let settings = EmbeddedCluster.settings(for: EmbeddedCluster.Options(stateFolder: state))
        func count() async throws -> Int {
            let connection = try await Connection.open(settings)
            let count: Int = try await connection.value(
                "SELECT count(*) FROM pg_namespace WHERE nspname IN ('posters', 'advideo', 'videogen', 'csvbatch', 'publisher')"
            )
            await connection.close()
            return count
        }
        #expect(try await count() == 5)
        let file = "\(state)/cluster/data/postmaster.pid"
        let pid = try #require(Int32(try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n")[0]))
        kill(pid, SIGKILL)
        try await waitUntil("it was started again", limit: .seconds(60)) {
            guard let text = try? String(contentsOfFile: file, encoding: .utf8) else { return false }
            return text.split(separator: "\n").first.flatMap { Int32($0) } != pid
                && served.get("/readyz")?.status == 200
        }
        #expect(try await count() == 5)
        served.reeve.signal(SIGTERM)
        #expect(try await served.reeve.end() == 0)
        try await waitUntil("the cluster stops") { !FileManager.default.fileExists(atPath: file) }
    }

    @Test func `killed outright it leaves a run that the next service buries, and its own PostgreSQL stops`()
        async throws
    {
        let state = "\(TestCluster.stateFolder)/s\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: state) }
        let served = try Served(nil, ["REEVE_STATE": state])
        try await waitUntil("it is ready", limit: .seconds(60)) { served.get("/readyz")?.status == 200 }
        served.reeve.signal(SIGKILL)
        #expect(try await served.reeve.end() == -9)
        try await waitUntil("the cluster stops") {
            !FileManager.default.fileExists(atPath: "\(state)/cluster/data/postmaster.pid")
        }
    }
}

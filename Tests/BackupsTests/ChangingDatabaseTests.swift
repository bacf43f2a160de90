import Foundation
import Postgres
import Processes
import Synchronization
import Telemetry
import TestSupport
import Testing

@testable import Backups

/// What others change while a backup lists, locks and reads a database.
@Suite(.heavy, .database, .timeLimit(.minutes(4)))
struct ChangingDatabaseTests {
    private let role = "owner_\(UUID().uuidString.prefix(8).lowercased())"

    private func settings(as role: String, _ database: TestDatabase) -> ConnectionSettings {
        var settings = database.plainSettings
        settings.parameters["user"] = role
        return settings
    }

    private func run(_ sql: String, in database: TestDatabase) async throws {
        try await Connection.opened(settings(as: role, database)) { connection in
            try await connection.with { _ = try $0.execute(sql) }
        }
    }

    private func prepare(_ database: TestDatabase) async throws {
        try await database.execute("CREATE ROLE \(role) LOGIN", "CREATE SCHEMA s AUTHORIZATION \(role)")
    }

    private func remove(_ database: TestDatabase) async throws {
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    /// Runs SQL as the owner, from inside a synchronous callback.
    private func runNow(_ sql: String, in database: TestDatabase) {
        let ended = DispatchSemaphore(value: 0)
        Task {
            do { try await run(sql, in: database) } catch { Issue.record("\(sql): \(error)") }
            ended.signal()
        }
        ended.wait()
    }

    /// Such an index makes a query print the rows that it contains, and no others.
    @Test func `an index that an owner makes after the listing hides no rows`() async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        try await run(
            """
            CREATE TABLE s.t (a int); INSERT INTO s.t SELECT generate_series(1, 100);
            CREATE FUNCTION s.f(i int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN i > 99; END'
            """, in: database)
        let vault = try await Vault()
        let maker = vault.maker(database.settings) { making in
            making.begun = { _ in
                runNow(
                    """
                    CREATE INDEX ON s.t (a) WHERE s.f(a);
                    CREATE INDEX ON s.t (a) WHERE s.f(5);
                    CREATE OR REPLACE FUNCTION s.f(i int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
                        PERFORM pg_catalog.set_config('enable_seqscan', 'off', false); RETURN true; END $$
                    """, in: database)
            }
        }
        let manifest = try await maker.make().manifest
        #expect(manifest.tables.first { $0.name == "t" }?.rows == 100)
        #expect(try await vault.prove(manifest).isProved)
        try await remove(database)
    }

    @Test func `labels and attributes stay as they are while the snapshot is held`() async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        try await run("CREATE TYPE s.e AS ENUM ('a', 'b'); CREATE TYPE s.c AS (x int, w int)", in: database)
        let changes = [
            "ALTER TYPE s.e RENAME VALUE 'a' TO 'c'", "ALTER TYPE s.c ADD ATTRIBUTE y int",
            "ALTER TYPE s.c RENAME ATTRIBUTE x TO z", "ALTER TYPE s.c ALTER ATTRIBUTE w TYPE text",
            "ALTER TYPE s.c DROP ATTRIBUTE w",
        ]
        try await Connection.opened(database.settings) { connection in
            let snapshot = try await SnapshotTransaction.begin(on: connection, wait: .seconds(5))
            #expect(snapshot.isPinned)
            for change in changes {
                let error = await #expect(throws: PostgresError.self, "\(change)") {
                    try await run("SET lock_timeout = '100ms'; \(change)", in: database)
                }
                #expect(error?.sqlState == "55P03", "\(change)")
            }
            try await run("SET lock_timeout = '100ms'; ALTER TYPE s.e ADD VALUE 'd'", in: database)
            try await snapshot.end()
        }
        for change in changes { try await run(change, in: database) }
        try await remove(database)
    }

    /// A role that is no superuser cannot lock types.
    @Test func `a backup by a plain role is made again if a type was altered meanwhile`() async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        let reader = "reader_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute("CREATE ROLE \(reader) LOGIN BYPASSRLS", "GRANT pg_read_all_data TO \(reader)")
        try await run(
            "CREATE TYPE s.e AS ENUM ('a', 'b'); CREATE TABLE s.t (x s.e); INSERT INTO s.t VALUES ('a')", in: database)
        let vault = try await Vault()
        let begun = Mutex(0)
        let maker = vault.maker(settings(as: reader, database)) { making in
            making.begun = { _ in
                let isFirst = begun.withLock { count in
                    count += 1
                    return count == 1
                }
                if isFirst { runNow("ALTER TYPE s.e RENAME VALUE 'a' TO 'c'", in: database) }
            }
        }
        let manifest = try await maker.make().manifest
        #expect(begun.withLock { $0 } == 2)
        #expect(try await vault.prove(manifest).isProved)
        try await database.execute("DROP OWNED BY \(reader)", "DROP ROLE \(reader)")
        try await remove(database)
    }

    /// pg_dump does not lock views, and fails if one that is in its snapshot is gone.
    @Test func `a view that is dropped before it is dumped makes the backup start again`() async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        try await run("CREATE TABLE s.t (a int); CREATE VIEW s.v AS SELECT a FROM s.t", in: database)
        let vault = try await Vault()
        let (begun, said) = (Gathered<Int>(), Said())
        var making = BackupMaker.Settings()
        making.recipients = [vault.recipient]
        making.begun = { _ in
            begun.add([1])
            runNow("DROP VIEW IF EXISTS s.v", in: database)
        }
        let manifest = try await BackupMaker(
            database: Database(database.settings), name: "main", repositories: [vault.repository], settings: making,
            logger: Logger(level: .info, sink: said)
        ).make().manifest
        #expect(begun.all.count == 2)
        #expect(said.lines.all.contains { $0.contains("s.v was altered, dropped") }, "\(said.lines.all)")
        #expect(try await vault.prove(manifest).isProved)
        try await remove(database)
    }

    /// Whoever waits for an exclusive lock holds up the programs of the backup, which need locks of their own.
    @Test func `sessions that alter tables in a loop are named`() async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        for session in 1...4 { try await run("CREATE TABLE s.t\(session) (a int)", in: database) }
        let (vault, said) = (try await Vault(), Said())
        var making = BackupMaker.Settings()
        making.recipients = [vault.recipient]
        making.tableWait = .seconds(3)
        let maker = BackupMaker(
            database: Database(database.settings), name: "main", repositories: [vault.repository], settings: making,
            logger: Logger(level: .info, sink: said))
        try await whileRunning(
            ["ALTER TABLE s.t# RENAME a TO b", "ALTER TABLE s.t# RENAME b TO a"], in: database
        ) {
            do {
                _ = try await maker.make()
            } catch BackupError.held(let holders) {
                #expect(holders.contains { $0.contains(role) && $0.contains("s.t") }, "\(holders)")
            }
        }
        let reasons = said.lines.all.filter { $0.contains("could not be locked") }
        #expect(reasons.allSatisfy { $0.contains("of \(role), active: s.t") }, "\(reasons)")
        #expect(!reasons.isEmpty)
        try await remove(database)
    }

    private struct Said: LogSink {
        let lines = Gathered<String>()
        func write(_ line: LogLine) { lines.add([line.message]) }
    }

    /// Runs SQL in a loop in four sessions of the owner, until `body` has ended. `#` is the number of the session.
    private func whileRunning(
        _ sql: [String], in database: TestDatabase, _ body: () async throws -> Void
    ) async throws {
        let loop = Loop()
        let owner = settings(as: role, database)
        async let looping: Void = withThrowingTaskGroup(of: Void.self) { group in
            for session in 1...4 {
                group.addTask {
                    try await Connection.opened(owner) { connection in
                        while !loop.isOver.withLock({ $0 }) {
                            for statement in sql {
                                let text = statement.replacing("#", with: "\(session)")
                                try await connection.with { _ = try $0.execute(text) }
                            }
                            loop.rounds.withLock { $0 += 1 }
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        defer { loop.isOver.withLock { $0 = true } }
        try await waitUntil("the loop runs") { loop.rounds.withLock { $0 } > 3 }
        try await body()
        loop.isOver.withLock { $0 = true }
        try await looping
    }

    private final class Loop: Sendable {
        let rounds = Mutex(0)
        let isOver = Mutex(false)
    }

    @Test func `grants in a loop do not hinder a backup of a plain role`() async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        let reader = "reader_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute("CREATE ROLE \(reader) LOGIN BYPASSRLS", "GRANT pg_read_all_data TO \(reader)")
        for session in 1...4 { try await run("CREATE TABLE s.t\(session) (a int)", in: database) }
        let reading = settings(as: reader, database)
        try await whileRunning(
            ["GRANT SELECT ON s.t# TO pg_monitor", "REVOKE SELECT ON s.t# FROM pg_monitor"], in: database
        ) {
            for _ in 1...10 {
                try await Connection.opened(reading) { connection in
                    try await SnapshotTransaction.begin(on: connection, wait: .seconds(5)).end()
                }
            }
        }
        try await database.execute("DROP OWNED BY \(reader)", "DROP ROLE \(reader)")
        try await remove(database)
    }

    @Test func `tables that are made and dropped in a loop do not hinder a backup`() async throws {
        let database = try TestDatabase.current
        try await prepare(database)
        try await whileRunning(["CREATE TABLE s.t# (a int)", "DROP TABLE s.t#"], in: database) {
            for _ in 1...10 {
                try await Connection.opened(database.settings) { connection in
                    try await SnapshotTransaction.begin(on: connection, wait: .seconds(5)).end()
                }
            }
        }
        try await remove(database)
    }
}

import Foundation
import Migrations
import Postgres
import TestSupport
import Testing

/// The program killed in the middle of the five systems' migrations, and run again.
@Suite(.database, .timeLimit(.minutes(40)))
struct KillTests {
    /// SIGKILL at the messages that the program sends: at each of the first ones, and at some of a migration's
    /// statements, which the other test has all. Before the server has it, or while the server is at it. What it did
    /// before stays, so that each next run goes on where the last was killed, until one comes through.
    @Test(arguments: [false, true])
    func `killed at many statements, the reruns end with the schema of an undisturbed run`(
        whileServerWorks: Bool
    ) async throws {
        let database = try TestDatabase.current
        let reference = database.settings.database("\(database.name)_ref")
        try await database.execute("CREATE DATABASE \(database.name)_ref")
        _ = try await Migrator(database: Database(reference), systems: ShippedFixture.systems()).up()
        let expected = try await dumpSchema(of: reference)

        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        var kills = 0
        var at = 1
        var applied = 0
        while true {
            let reeve = try RunningReeve(
                ["migrate", "up", "--lock-wait", "60s"],
                environment: ReeveBinary.environment(
                    proxy.settings(database.settings), ["REEVE_SYSTEMS": "posters,advideo,videogen,csvbatch,publisher"])
            )
            let pid = reeve.pid
            proxy.arm(at: at, afterForwarding: whileServerWorks) { _ in
                kill(pid, SIGKILL)
                return .cut
            }
            let status = try await reeve.end()
            if status == 0 { break }
            #expect(status == -9, "killed at statement \(at)")
            kills += 1
            // Once a migration is through, the next run begins with the one after it: count from its first statement.
            let now = (try? await database.value("SELECT count(*) FROM reeve.migrations", as: Int.self)) ?? 0
            if now > applied, applied > 0 { at = 6 }
            applied = max(applied, now)
            at += at < 8 ? 1 : whileServerWorks ? 6 : 7
        }
        #expect(kills > 100)
        let dump = try await database.schemaDump()
        #expect(dump == expected)
        try await database.execute("DROP DATABASE \(database.name)_ref WITH (FORCE)")
    }

    /// An event trigger holds the server at one statement of the schema after the other, also at those within
    /// functions, and the program is killed while it is held there.
    @Test func `killed at every statement of the schema that the server is at, the reruns end the same`() async throws {
        let database = try TestDatabase.current
        let reference = database.settings.database("\(database.name)_ref")
        try await database.execute("CREATE DATABASE \(database.name)_ref")
        let statements = try await Connection.opened(reference) { connection in
            try await connection.with { try $0.execute(Self.drill) }
            _ = try await Migrator(database: Database(reference), systems: ShippedFixture.systems()).up()
            let statements: Int = try await connection.value("SELECT last_value FROM drill.statement")
            try await connection.with { try $0.execute(Self.endOfDrill) }
            return statements
        }
        #expect(statements > 300)
        let expected = try await dumpSchema(of: reference)
        try await database.execute(Self.drill)
        let kills = try await database.connection { try await self.killAtEachStatement(holder: $0) }
        #expect(kills == statements)
        try await database.execute(Self.endOfDrill)
        let dump = try await database.schemaDump()
        #expect(dump == expected)
        try await database.execute("DROP DATABASE \(database.name)_ref WITH (FORCE)")
    }

    private static let drill = """
        CREATE SCHEMA drill;
        CREATE SEQUENCE drill.statement;
        CREATE TABLE drill.hold (at bigint);
        INSERT INTO drill.hold VALUES (0);
        CREATE FUNCTION drill.hold() RETURNS event_trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('drill.statement') = (SELECT at FROM drill.hold) THEN PERFORM pg_advisory_lock(4242); END IF;
        END $$;
        CREATE EVENT TRIGGER drill ON ddl_command_start EXECUTE FUNCTION drill.hold();
        """
    private static let endOfDrill = "DROP EVENT TRIGGER drill; DROP SCHEMA drill CASCADE"

    /// - Parameter holder: a connection that holds the lock at which the server is to wait.
    private func killAtEachStatement(holder: Connection) async throws -> Int {
        let database = try TestDatabase.current
        var kills = 0
        var at = 1
        var done = 0
        while true {
            try await holder.with { [at] connection in
                try connection.execute("SELECT pg_advisory_lock(4242)")
                try connection.execute("SELECT setval('drill.statement', 1, false); UPDATE drill.hold SET at = \(at)")
            }
            // A statement that is held until its time is over is tried again, and is another one by then.
            let reeve = try RunningReeve(
                ["migrate", "up"],
                environment: ReeveBinary.environment(
                    database.settings,
                    [
                        "REEVE_SYSTEMS": "posters,advideo,videogen,csvbatch,publisher",
                        "REEVE_MIGRATE_LOCK_TIMEOUT": "10min",
                        "REEVE_MIGRATE_STALL_LIMIT": "10min",
                    ]))
            try await waitUntil("reeve is held or has ended") {
                if reeve.hasEnded { return true }
                return try await holder.value(
                    """
                    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242 AND NOT granted
                        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    """) > 0
            }
            let isDone = reeve.hasEnded
            reeve.signal(SIGKILL)
            let status = try await reeve.end()
            // The server goes on, finds that nobody listens, and rolls back.
            try await holder.with { try $0.execute("SELECT pg_advisory_unlock(4242)") }
            try await waitUntil("its session is gone") {
                try await holder.value(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'reeve migrate%'"
                ) == 0
            }
            if isDone {
                #expect(status == 0, "\(reeve.output)")
                return kills
            }
            kills += 1
            // What is committed by itself: a schema, the ledger's too, or a migration. What comes next was held at its
            // first statement by now.
            var now: Int = try await holder.value("SELECT count(*) FROM pg_namespace")
            now += (try? await holder.value("SELECT count(*) FROM reeve.migrations")) ?? 0
            at = now > done ? 2 : at + 1
            done = now
        }
    }
}

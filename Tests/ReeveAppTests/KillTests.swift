import Foundation
import Migrations
import Postgres
import TestSupport
import Testing

/// The program killed in the middle of the five systems' migrations, and run again.
@Suite(.database, .timeLimit(.minutes(10)))
struct KillTests {
    /// SIGKILL at each message of statements in turn that the program sends: before the server has it, or while the
    /// server is at it. What it did before stays, so that each next run goes on where the last was killed, until one
    /// comes through.
    @Test(arguments: [false, true])
    func `killed at every statement, the reruns end with the schema of an undisturbed run`(
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
            if now > applied, applied > 0 { at = 5 }
            applied = max(applied, now)
            at += 1
        }
        #expect(kills > 100)
        let dump = try await database.schemaDump()
        #expect(dump == expected)
        try await database.execute("DROP DATABASE \(database.name)_ref WITH (FORCE)")
    }
}

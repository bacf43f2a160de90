import Postgres
import TestSupport
import Testing

@testable import Backups

/// Constraints that are made in a database that others use.
@Suite(.database, .timeLimit(.minutes(4)))
struct LateConstraintTests {
    /// The server ends the one whose `deadlock_timeout` is over first.
    @Test func `a deadlock is tried again`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE TABLE public.a (id integer PRIMARY KEY)", "CREATE TABLE public.b (id integer)",
            "ALTER DATABASE \(database.name) SET deadlock_timeout = '5s'")
        try await database.connection { other in
            try await other.with { connection in
                try connection.execute(
                    "BEGIN; SET LOCAL deadlock_timeout = '10min'; LOCK TABLE public.a IN EXCLUSIVE MODE")
            }
            async let made: Void = LateConstraints.make(
                ["ALTER TABLE public.b ADD CONSTRAINT k FOREIGN KEY (id) REFERENCES public.a"], in: database.settings,
                isConfined: true)
            try await waitUntil("the key waits for the other's table") { try await database.waitersForLocks() == 1 }
            // Which waits for the key's, until the server has ended that.
            try await other.with { connection in
                try connection.execute("LOCK TABLE public.b IN EXCLUSIVE MODE")
                try connection.execute("COMMIT")
            }
            try await made
        }
        let keys: Int = try await database.value("SELECT count(*) FROM pg_constraint WHERE conname = 'k'")
        #expect(keys == 1)
    }
}

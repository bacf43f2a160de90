import Postgres
import SQL
import TestSupport
import Testing

@Suite(.database, .timeLimit(.minutes(1)))
struct UserSchemasTests {
    @Test func `the server and Reeve agree on which schemas are users'`() async throws {
        let made = [
            "reeve", "pgx", "PG_upper", "a_pg_b", "information_schema2", "Information_Schema", "public",
            "reeve_restore_20261122",
            // Any role may give a schema the name of a record.
            "reeve_restore_hasobjects123",
        ]
        let record = "reeve_restore_0123456789xyz"
        let (users, withoutLedger, all) = try await TestDatabase.current.with { connection in
            for name in made where name != "public" {
                try connection.execute("CREATE SCHEMA \(quoteIdentifier(name))")
            }
            try connection.execute("CREATE SCHEMA \(record)")
            try connection.execute("CREATE TYPE reeve_restore_hasobjects123.mood AS ENUM ('a')")
            // So that schemas of temporary objects are there.
            try connection.execute("CREATE TEMP TABLE t (a integer)")
            return (
                try Self.names(UserSchemas.condition("nspname"), on: connection),
                try Self.names(UserSchemas.conditionWithoutLedger("n.nspname"), on: connection),
                try Self.names("true", on: connection)
            )
        }
        #expect(Set(users) == Set(made))
        #expect(Set(withoutLedger) == Set(made).subtracting(["reeve"]))
        #expect(Set(all.filter { $0 != record && UserSchemas.contains($0) }) == Set(users))
        #expect(all.contains(record))
        #expect(all.contains { $0.hasPrefix("pg_temp_") } && all.contains("pg_toast"))
    }

    private static func names(_ condition: String, on connection: isolated Connection) throws -> [String] {
        try connection.query("SELECT nspname::text FROM pg_namespace n WHERE \(condition)").map { try $0.get(0) }
    }

    @Test func `the server keeps names that begin with pg_ for itself`() async throws {
        let error = await #expect(throws: PostgresError.self) {
            try await TestDatabase.current.with { try $0.execute("CREATE SCHEMA pg_mine") }
        }
        #expect(error?.sqlState == "42939")
    }
}

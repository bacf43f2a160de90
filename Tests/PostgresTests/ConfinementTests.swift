import Foundation
import Postgres
import TestSupport
import Testing

/// Which functions run with their owners' rights while Reeve works beside them, and that all is as before afterwards.
@Suite(.database, .timeLimit(.minutes(2)))
struct ConfinementTests {
    private let role = "confined_\(UUID().uuidString.prefix(8).lowercased())"

    private func definers() async throws -> [String] {
        try await TestDatabase.current.with { connection in
            try Self.definers(on: connection)
        }
    }

    private static func definers(on connection: isolated Connection) throws -> [String] {
        try connection.query(
            """
            SELECT p.proname::text FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
            WHERE n.nspname = 'public' AND p.prosecdef ORDER BY 1
            """
        ).map { try $0.get(0) }
    }

    @Test func `others' functions are confined, a superuser's are not lent to anybody, and no aggregate is changed`()
        async throws
    {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE ROLE \(role)", "GRANT CREATE ON SCHEMA public TO \(role)",
            "CREATE FUNCTION public.ours() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
            """
            SET ROLE \(role);
            CREATE FUNCTION public.theirs() RETURNS integer LANGUAGE sql AS 'SELECT 1';
            CREATE PROCEDURE public.theirs_too() LANGUAGE sql AS 'SELECT 1';
            CREATE FUNCTION public.lent() RETURNS integer SECURITY DEFINER LANGUAGE sql AS 'SELECT 1';
            CREATE AGGREGATE public.total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = 0);
            """)
        try await database.with { connection in
            try connection.transaction {
                try Confinement.during(on: connection) {
                    let found = try Self.definers(on: connection)
                    #expect(found == ["lent", "theirs", "theirs_too"])
                }
            }
        }
        #expect(try await definers() == ["lent"])
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    /// Whoever may create in a database owns the extensions that he makes, and may call a function of his a part of one.
    @Test func `a function that was put into an extension is confined like any other`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE ROLE \(role)", "GRANT CREATE ON DATABASE \(database.name) TO \(role)",
            "GRANT CREATE ON SCHEMA public TO \(role)",
            """
            SET ROLE \(role);
            CREATE EXTENSION citext SCHEMA public;
            CREATE FUNCTION public.theirs() RETURNS integer LANGUAGE sql AS 'SELECT 1';
            ALTER EXTENSION citext ADD FUNCTION public.theirs()
            """)
        try await database.with { connection in
            try connection.transaction {
                try Confinement.during(on: connection) {
                    let found = try Self.definers(on: connection)
                    #expect(found == ["theirs"])
                }
            }
        }
        #expect(try await definers() == [])
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }
}

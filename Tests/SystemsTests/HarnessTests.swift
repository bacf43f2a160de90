import Postgres
import TestSupport
import Testing

/// The parts that the tests of the systems share find what they look for.
@Suite(.database(.systems), .timeLimit(.minutes(5)))
struct HarnessTests {
    @Test func `scans in functions are found, also of a role without rights to auto_explain`() async throws {
        try await TestDatabase.current.execute(
            """
            CREATE TABLE public.numbers AS SELECT g FROM generate_series(1, 1000) g;
            GRANT SELECT ON public.numbers TO anon;
            CREATE FUNCTION public.total() RETURNS bigint LANGUAGE plpgsql AS
                'BEGIN RETURN (SELECT sum(g) FROM public.numbers); END'
            """)
        let scans = try await StatementPlans.scans(
            of: "SELECT public.total()", after: "SET LOCAL ROLE anon", schema: "public")
        #expect(scans.map(\.node) == ["Seq Scan"])
        #expect(scans.map(\.table) == ["numbers"])
    }

    @Test func `a violation and a deadlock are told`() async throws {
        try await TestDatabase.current.execute(
            "CREATE TABLE public.pairs AS SELECT g AS id, 0 AS x FROM generate_series(1, 2) g")
        let calls = RandomCalls(
            schema: "public",
            calls: [
                RandomCalls.Call("there") { connection, _ in
                    try connection.transaction {
                        try connection.execute("UPDATE pairs SET x = x + 1 WHERE id = 1")
                        try connection.execute("UPDATE pairs SET x = x + 1 WHERE id = 2")
                    }
                },
                RandomCalls.Call("back") { connection, _ in
                    try connection.transaction {
                        try connection.execute("UPDATE pairs SET x = x - 1 WHERE id = 2")
                        try connection.execute("UPDATE pairs SET x = x - 1 WHERE id = 1")
                    }
                },
            ],
            invariants: [.init("nothing is ever counted", "SELECT * FROM pairs WHERE x <> 0")], connections: 4,
            count: 400)
        let violations = try await calls.outcome().violations
        #expect(violations.contains { $0.contains("40P01") })
        #expect(violations.contains { $0.hasPrefix("nothing is ever counted: ") })
    }

    @Test func `a function for everybody is found`() async throws {
        try await TestDatabase.current.execute(
            """
            CREATE SCHEMA extra; CREATE FUNCTION extra.open() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
            CREATE FUNCTION extra.closed(x int) RETURNS int LANGUAGE sql AS 'SELECT 1';
            REVOKE EXECUTE ON FUNCTION extra.closed FROM PUBLIC; GRANT EXECUTE ON FUNCTION extra.closed TO anon;
            """)
        #expect(
            try await ExecuteRights.lines(schema: "extra") == [
                "closed(x integer): anon", "open() SECURITY DEFINER: PUBLIC",
            ])
        #expect(try await ExecuteRights.careless(schema: "extra") == ["extra.open()"])
    }
}

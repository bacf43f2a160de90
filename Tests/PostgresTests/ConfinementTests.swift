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

    @Test func `default privileges give no function a right on the record of the confinement`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE ROLE \(role)", "GRANT CREATE ON SCHEMA public TO \(role)",
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO \(role)",
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO \(role)",
            "CREATE FUNCTION public.ours() RETURNS integer SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'",
            """
            SET ROLE \(role);
            CREATE FUNCTION public.meddle() RETURNS text LANGUAGE plpgsql AS $$ DECLARE home text; BEGIN
                SELECT nspname INTO home FROM pg_namespace WHERE nspname LIKE 'reeve\\_confinement\\_%';
                EXECUTE format('INSERT INTO %I.functions SELECT oid FROM pg_proc WHERE proname = ''ours''', home);
                RETURN home;
            EXCEPTION WHEN insufficient_privilege THEN RETURN 'refused'; END $$
            """)
        let answer: String? = try await database.with { connection in
            try connection.transaction {
                try Confinement.during(on: connection) {
                    try connection.query("SELECT public.meddle()").first?.get(0)
                }
            }
        }
        #expect(answer == "refused")
        #expect(try await definers() == ["ours"])
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func `default privileges do not apply while a confinement lasts`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE SCHEMA s",
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO \(role)",
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO \(role)",
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO \(role)",
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO \(role)",
            "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO \(role)",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT EXECUTE ON FUNCTIONS TO \(role)")
        let defaults = "SELECT array_agg(d::text ORDER BY oid) FROM pg_default_acl d"
        let before: [String] = try await database.value(defaults)
        try await database.with { connection in
            try connection.transaction {
                try Confinement.during(on: connection) {
                    _ = try connection.execute(
                        """
                        CREATE TABLE s.t (a serial); CREATE TABLE public.t (); CREATE SCHEMA made;
                        CREATE VIEW public.v AS SELECT 1 AS a; CREATE TYPE public.e AS ENUM ('x');
                        CREATE FUNCTION s.f() RETURNS integer LANGUAGE sql AS 'SELECT 1';
                        CREATE TABLE public.granted (); GRANT SELECT ON public.granted TO \(role)
                        """)
                }
            }
        }
        let granted: Int = try await database.value(
            """
            SELECT count(*) FROM (SELECT relacl FROM pg_class WHERE relname IN ('t', 't_a_seq', 'v')
                UNION ALL SELECT typacl FROM pg_type WHERE typname = 'e'
                UNION ALL SELECT nspacl FROM pg_namespace WHERE nspname = 'made'
                UNION ALL SELECT proacl FROM pg_proc WHERE proname = 'f' AND pronamespace = 's'::regnamespace) AS o (acl)
            WHERE acl IS NOT NULL
            """)
        #expect(granted == 0)
        #expect(try await database.value("SELECT has_table_privilege($1, 'public.granted', 'SELECT')", [role]) == true)
        #expect(try await database.value(defaults) == before)
        try await database.execute("CREATE TABLE s.u ()")
        #expect(try await database.value("SELECT has_table_privilege($1, 's.u', 'SELECT')", [role]) == true)
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    /// Whoever may create in a database owns the extensions that he makes, and may call a function of his a part of
    /// one.
    @Test(.server(has: .extension("citext")))
    func `a function that was put into an extension is confined like any other`() async throws {
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

    /// Runs `begin` in one session while another has altered a function in a transaction that is open, and commits that
    /// once the first waits for it.
    private func confinedBeside(_ alteration: String, _ check: @escaping @Sendable (isolated Connection) throws -> Void)
        async throws
    {
        let database = try TestDatabase.current
        try await database.connection { other in
            try await other.with { connection in
                try connection.execute("BEGIN")
                try connection.execute(alteration)
            }
            let confined = Task {
                try await database.with { connection in
                    try connection.transaction {
                        try Confinement.during(on: connection) { try check(connection) }
                    }
                }
            }
            try await waitUntil("the confinement waits for the other session") {
                try await database.value(
                    """
                    SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()
                        AND wait_event_type = 'Lock' AND wait_event = 'transactionid'
                    """)
            }
            try await other.with { _ = try $0.execute("COMMIT") }
            try await confined.value
        }
    }

    @Test func `a function that its owner makes SECURITY DEFINER meanwhile stays so`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE ROLE \(role)", "GRANT CREATE ON SCHEMA public TO \(role)",
            "SET ROLE \(role); CREATE FUNCTION public.theirs() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
        try await confinedBeside("SET ROLE \(role); ALTER FUNCTION public.theirs() SECURITY DEFINER") { connection in
            let found = try Self.definers(on: connection)
            #expect(found == ["theirs"])
        }
        #expect(try await definers() == ["theirs"])
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func `a function that changes its owner meanwhile is confined`() async throws {
        let database = try TestDatabase.current
        let heir = role + "_heir"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE ROLE \(heir)", "GRANT CREATE ON SCHEMA public TO \(role)",
            "SET ROLE \(role); CREATE FUNCTION public.theirs() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
        try await confinedBeside("ALTER FUNCTION public.theirs() OWNER TO \(heir)") { connection in
            let found = try Self.definers(on: connection)
            #expect(found == ["theirs"])
        }
        #expect(try await definers() == [])
        try await database.execute(
            "DROP OWNED BY \(role)", "DROP OWNED BY \(heir)", "DROP ROLE \(role)", "DROP ROLE \(heir)")
    }

    @Test func `a function that is replaced by one with SECURITY DEFINER meanwhile stays so`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE ROLE \(role)", "GRANT CREATE ON SCHEMA public TO \(role)",
            """
            SET ROLE \(role);
            CREATE FUNCTION public.lent() RETURNS integer LANGUAGE sql AS 'SELECT 1';
            CREATE FUNCTION public.theirs() RETURNS integer LANGUAGE sql AS 'SELECT 1'
            """)
        try await Confinement.during(in: database.settings) { _ in
            // A superuser's statements: those of others are refused meanwhile.
            try await database.execute(
                "CREATE OR REPLACE FUNCTION public.lent() RETURNS integer SECURITY DEFINER LANGUAGE sql AS 'SELECT 2'",
                "CREATE OR REPLACE FUNCTION public.theirs() RETURNS integer LANGUAGE sql AS 'SELECT 2'")
            let refused = await #expect(throws: PostgresError.self) {
                try await database.execute(
                    "SET ROLE \(role); CREATE OR REPLACE FUNCTION public.theirs() RETURNS integer LANGUAGE sql AS 'SELECT 3'"
                )
            }
            #expect(refused?.message.contains("changes the schema while it is confined") == true, "\(refused as Any)")
            #expect(try await definers() == ["lent", "theirs"])
        }
        #expect(try await definers() == ["lent"])
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func `a session that is changing a function for too long is named`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE ROLE \(role)", "GRANT CREATE ON SCHEMA public TO \(role)",
            "SET ROLE \(role); CREATE FUNCTION public.theirs() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
        try await Connection.opened(database.settings.named("the one who waits")) { other in
            let process = try await other.with { connection in
                try connection.execute("BEGIN")
                try connection.execute("ALTER FUNCTION public.theirs() COST 10")
                return connection.serverProcess
            }
            let error = await #expect(throws: PostgresError.self) {
                try await database.with { connection in
                    var options = TransactionOptions()
                    options.lockTimeout = .milliseconds(100)
                    try connection.transaction(options) {
                        try Confinement.during(on: connection) {}
                    }
                }
            }
            #expect(error?.sqlState == "55P03")
            #expect(error?.hint?.contains("process \(process) of postgres (the one who waits)") == true)
            try await other.with { _ = try $0.execute("ROLLBACK") }
        }
        // Where nothing was said, there is a limit all the same.
        let limit = try await database.with { connection in
            try connection.transaction {
                try Confinement.during(on: connection) {
                    try connection.query("SHOW lock_timeout").first?.get(0, as: String.self)
                }
            }
        }
        #expect(limit == "1min")
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func `a cursor that a function leaves open is not run once nothing is confined`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE ROLE \(role)", "GRANT CREATE ON SCHEMA public TO \(role)",
            """
            SET ROLE \(role);
            CREATE TABLE public.ran (who name);
            CREATE FUNCTION public.who() RETURNS name LANGUAGE sql AS
                'INSERT INTO public.ran VALUES (current_user) RETURNING who';
            CREATE FUNCTION public.leave() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                EXECUTE 'DECLARE left_open CURSOR WITH HOLD FOR SELECT public.who()'; END $$
            """)
        try await database.with { connection in
            try connection.transaction {
                try Confinement.during(on: connection) { _ = try connection.query("SELECT public.leave()") }
            }
        }
        let ran: Int = try await database.value("SELECT count(*) FROM public.ran WHERE who <> $1", [role])
        #expect(ran == 0)
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func `a deferred trigger of others runs before its function is released`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE ROLE \(role)", "GRANT CREATE ON SCHEMA public TO \(role)",
            """
            SET ROLE \(role);
            CREATE TABLE public.t (a integer); CREATE TABLE public.ran (who name);
            CREATE FUNCTION public.late() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN NULL; END';
            CREATE CONSTRAINT TRIGGER late AFTER INSERT ON public.t DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION public.late()
            """)
        try await database.with { connection in
            try connection.transaction {
                try Confinement.during(on: connection) { _ = try connection.execute("INSERT INTO public.t VALUES (1)") }
            }
        }
        let ran: [String] = try await database.value("SELECT array_agg(who::text) FROM public.ran")
        #expect(ran == [role])
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func `of two at once the second waits for the end of the first`() async throws {
        let database = try TestDatabase.current
        try await Connection.opened(database.settings.named("the first")) { first in
            try await first.with { connection in
                try connection.execute("BEGIN")
                try connection.execute(Confinement().begin)
            }
            let error = await #expect(throws: PostgresError.self) {
                try await database.with { connection in
                    var options = TransactionOptions()
                    options.lockTimeout = .milliseconds(100)
                    try connection.transaction(options) { try Confinement.during(on: connection) {} }
                }
            }
            #expect(error?.sqlState == "55P03" && error?.hint?.contains("(the first)") == true, "\(error as Any)")
        }
    }

    @Test func `constraints of a domain that comes meanwhile are suspended until the end`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE ROLE \(role)")
        let confinement = Confinement()
        try await database.with { connection in
            try connection.transaction {
                try connection.execute(confinement.begin)
                try connection.execute("CREATE DOMAIN public.positive AS integer CHECK (value > 0)")
                try connection.execute("ALTER DOMAIN public.positive OWNER TO \(role)")
                _ = try connection.query("SELECT (-1)::public.positive")
                try connection.execute(confinement.end)
            }
        }
        let error = await #expect(throws: PostgresError.self) {
            try await database.execute("SELECT (-1)::public.positive")
        }
        #expect(error?.sqlState == "23514")
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test(arguments: ["", "ALWAYS", "REPLICA"])
    func `an event trigger that calls a function of others is silent, and comes back as it was`(_ how: String)
        async throws
    {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE ROLE \(role)", "GRANT CREATE ON SCHEMA public TO \(role)",
            """
            CREATE FUNCTION public.told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
            ALTER FUNCTION public.told() OWNER TO \(role);
            CREATE EVENT TRIGGER tells ON ddl_command_end EXECUTE FUNCTION public.told();
            ALTER EVENT TRIGGER tells ENABLE \(how)
            """)
        let state = "SELECT evtenabled::text FROM pg_catalog.pg_event_trigger WHERE evtname = 'tells'"
        let before: String = try await database.value(state)
        let meanwhile = try await database.with { connection in
            try connection.transaction {
                try Confinement.during(on: connection) {
                    try connection.query(state).first?.get(0, as: String.self)
                }
            }
        }
        let after: String = try await database.value(state)
        #expect(meanwhile == "D" && after == before)
        try await database.execute("DROP EVENT TRIGGER tells", "DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    /// What its session tells of the function is not seen before its transaction ends.
    @Test func `the end waits for a session that has just made a function`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE ROLE \(role)", "GRANT CREATE ON SCHEMA public TO \(role)")
        let confinement = Confinement()
        try await database.with { connection in
            try connection.transaction { _ = try connection.execute(confinement.begin) }
        }
        try await database.connection { other in
            try await other.with { connection in
                try connection.execute("BEGIN")
                try connection.execute("CREATE FUNCTION public.late() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
                try connection.execute("ALTER FUNCTION public.late() OWNER TO \(role)")
                #expect(try Self.definers(on: connection) == ["late"])
            }
            let ended = Task {
                try await database.with { connection in
                    try connection.transaction { _ = try connection.execute(confinement.end) }
                }
            }
            try await waitUntil("the end waits for the other session") {
                try await database.waitersForLocks() == 1
            }
            try await other.with { _ = try $0.execute("COMMIT") }
            try await ended.value
        }
        #expect(try await definers() == [])
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }
}

import Foundation
import Ledger
import Postgres
import TestSupport
import Testing

/// A schema `reeve` that somebody else made, or meddled with, is not used.
@Suite(.database, .timeLimit(.minutes(5)))
struct LedgerTrustTests {
    /// A role of the test's own that may make schemas in the database.
    private func newOwner() async throws -> String {
        let role = "squatter_\(UUID().uuidString.prefix(8).lowercased())"
        let database = try TestDatabase.current
        try await database.execute("CREATE ROLE \(role)", "GRANT CREATE ON DATABASE \(database.name) TO \(role)")
        return role
    }

    private func refusal() async throws -> String {
        let database = try TestDatabase.current
        let before: [String] = try await state()
        let error = await #expect(throws: LedgerError.self) {
            try await Connection.opened(database.settings) { connection in
                try await connection.with { try LedgerSchema.install(on: $0) }
            }
        }
        let read = await #expect(throws: LedgerError.self) {
            try await Connection.opened(database.settings) { connection in
                try await connection.with { _ = try LedgerSchema.isInstalled(on: $0) }
            }
        }
        switch (error, read) {
        case (.foreign, .foreign), (.ofOther, .ofOther): break
        default:
            Issue.record("not told to be foreign: \(String(describing: error))")
            return ""
        }
        #expect(try await state() == before)
        return error?.description ?? ""
    }

    /// The superusers of the cluster. The tests of the catalog create one at any time, which is left out.
    private func state() async throws -> [String] {
        try await TestDatabase.current.with {
            try $0.query("SELECT rolname FROM pg_roles WHERE rolsuper AND rolname NOT LIKE 'zoo%' ORDER BY 1").map {
                try $0.get(0)
            }
        }
    }

    @Test func `a superuser's publication and an owner's statistics are no meddling`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        try await database.execute("CREATE STATISTICS reeve.more ON task, state FROM reeve.runs")
        let version: Int = try await database.value("SELECT current_setting('server_version_num')::int")
        if version >= 150_000 { try await database.execute("CREATE PUBLICATION everything FOR TABLES IN SCHEMA reeve") }
        #expect(try await database.with { try LedgerSchema.isInstalled(on: $0) })
        try await database.execute(
            "CREATE FUNCTION public.f(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1'",
            "CREATE STATISTICS reeve.trap ON public.f(task) FROM reeve.runs")
        if version >= 140_000 { #expect(try await refusal().contains("reeve.trap")) }
    }

    @Test func `what others' tables need of the ledger is no meddling`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        let role = try await newOwner()
        let sequence: Int = try await database.value(
            "SELECT min(oid::bigint) FROM pg_class WHERE relkind = 'S' AND relnamespace = 'reeve'::regnamespace")
        try await database.execute("ALTER ROLE \(role) LOGIN")
        var settings = database.plainSettings
        settings.parameters["user"] = role
        try await Connection.opened(settings) { connection in
            try await connection.with {
                _ = try $0.execute(
                    """
                    CREATE SCHEMA sand;
                    CREATE FUNCTION sand.f() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
                    CREATE TABLE sand.t (a bigint DEFAULT nextval('\(sequence)'::regclass) + sand.f())
                    """)
            }
        }
        #expect(try await database.with { try LedgerSchema.isInstalled(on: $0) })
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func `a schema that another role made beforehand is refused, empty or full of traps`() async throws {
        let database = try TestDatabase.current
        let role = try await newOwner()
        try await database.execute("CREATE SCHEMA reeve AUTHORIZATION \(role)")
        #expect(try await refusal().contains("schema reeve belongs to \(role)"))
        // As it was done: the ledger's own table with a version that is asked to be upgraded, and a trigger.
        try await database.execute(
            """
            SET ROLE \(role);
            CREATE TABLE reeve.ledger (singleton boolean PRIMARY KEY DEFAULT true, version integer NOT NULL,
                estate uuid NOT NULL DEFAULT gen_random_uuid(), upgraded_at timestamptz);
            INSERT INTO reeve.ledger (version) VALUES (1);
            CREATE FUNCTION reeve.trap() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN EXECUTE 'ALTER ROLE \(role) SUPERUSER'; RETURN new; END $$;
            CREATE TRIGGER trap BEFORE UPDATE ON reeve.ledger FOR EACH ROW EXECUTE FUNCTION reeve.trap();
            """)
        let told = try await refusal()
        #expect(told.contains("table ledger belongs to") && told.contains("trap"))
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test(arguments: [
        (
            "CREATE FUNCTION reeve.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$",
            "function reeve.f()"
        ),
        (
            """
            CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
            CREATE TRIGGER t BEFORE INSERT ON reeve.runs FOR EACH ROW EXECUTE FUNCTION public.f()
            """, "trigger t"
        ),
        (
            """
            CREATE FUNCTION public.announce_events() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
            CREATE OR REPLACE TRIGGER announce AFTER INSERT ON reeve.events
                FOR EACH STATEMENT EXECUTE FUNCTION public.announce_events()
            """, "trigger announce"
        ),
        (
            """
            CREATE OR REPLACE FUNCTION reeve.append_audit(actor text, action text, subject text, detail jsonb)
            RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN 1; END $$
            """, "append_audit"
        ),
        // A Greek question mark is equal to a semicolon, as text.
        (
            """
            SET check_function_bodies = off; DO $do$ BEGIN EXECUTE (SELECT replace(pg_get_functiondef(oid), ';', U&'\\037E') FROM pg_proc
                WHERE proname = 'announce_events'); END $do$
            """, "announce_events"
        ),
        ("ALTER FUNCTION reeve.append_audit RESET search_path", "append_audit"),
        ("ALTER FUNCTION reeve.append_audit SECURITY DEFINER", "append_audit"),
        ("CREATE RULE r AS ON INSERT TO reeve.events DO ALSO NOTIFY x", "rule r"),
        ("CREATE POLICY p ON reeve.events USING (true)", "policy p"),
        ("ALTER TABLE reeve.events ENABLE ROW LEVEL SECURITY", "changed table events"),
        ("CREATE VIEW reeve.v AS SELECT 1", "view v"),
        ("CREATE MATERIALIZED VIEW reeve.m AS SELECT 1", "relation m"), ("CREATE SEQUENCE reeve.q", "sequence q"),
        (
            """
            CREATE TABLE public.parent (LIKE reeve.checks) PARTITION BY LIST ("check");
            ALTER TABLE public.parent ATTACH PARTITION reeve.checks DEFAULT
            """, "changed table checks"
        ),
        (
            """
            CREATE TRIGGER twice AFTER INSERT ON reeve.runs FOR EACH ROW EXECUTE FUNCTION reeve.count_run()
            """, "trigger twice"
        ),
        (
            """
            UPDATE pg_catalog.pg_proc SET prolang = (SELECT oid FROM pg_catalog.pg_language WHERE lanname = 'internal')
            WHERE oid = 'reeve.count_run'::pg_catalog.regproc
            """, "changed function reeve.count_run()"
        ), ("CREATE TABLE reeve.mine ()", "table mine"),
        ("CREATE TABLE public.child () INHERITS (reeve.events)", "child of events"),
        ("CREATE TABLE public.k (s text REFERENCES reeve.systems)", "foreign key"),
        ("CREATE DOMAIN reeve.d AS text", "type d"), ("CREATE TYPE reeve.e AS ENUM ()", "type e"),
        (
            """
            CREATE FUNCTION public.f() RETURNS text LANGUAGE sql AS 'SELECT 1::text';
            ALTER TABLE reeve.events ALTER kind SET DEFAULT public.f()
            """, "code function public.f()"
        ),
        (
            """
            CREATE FUNCTION public.g(text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
            ALTER TABLE reeve.events ADD CHECK (public.g(kind))
            """, "code function public.g"
        ),
        (
            """
            CREATE FUNCTION public.h(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1';
            CREATE INDEX i ON reeve.events (public.h(kind))
            """, "code function public.h"
        ),
        ("GRANT CREATE ON SCHEMA reeve TO PUBLIC", "others than its owner"),
        (
            "GRANT TRIGGER ON reeve.runs TO pg_monitor",
            "pg_monitor has TRIGGER on TABLES of the schema (REVOKE TRIGGER ON ALL TABLES IN SCHEMA reeve FROM pg_monitor)"
        ),
        ("GRANT REFERENCES ON reeve.runs TO PUBLIC", "PUBLIC has REFERENCES on TABLES"),
        ("GRANT UPDATE ON SEQUENCE reeve.runs_id_seq TO PUBLIC", "PUBLIC has UPDATE on SEQUENCES"),
        (
            """
            CREATE DOMAIN public.word AS text; ALTER TABLE reeve.audit ALTER entry TYPE public.word
            """, "type of a column audit.entry"
        ),
        ("ALTER TABLE reeve.events ADD CHECK (pg_catalog.lo_export(1, '/tmp/x') > 0)", "expression events"),
        (
            """
            ALTER TABLE reeve.runs ALTER message SET DEFAULT pg_catalog.query_to_xml('SELECT 1', true, true, '')::text
            """, "expression runs"
        ),
        (
            "CREATE OPERATOR reeve.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.texteq)",
            "operator"
        ),
    ])
    func `a ledger that was meddled with is refused`(sql: String, told: String) async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        try await database.execute(sql)
        #expect(try await refusal().contains(told))
    }

    @Test func `default privileges of the database give nobody rights on the ledger`() async throws {
        let database = try TestDatabase.current
        let role = try await newOwner()
        try await database.execute(
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO \(role)",
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO \(role), PUBLIC",
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO \(role), PUBLIC")
        try await database.with { try LedgerSchema.install(on: $0) }
        let granted: Int = try await database.value(
            """
            SELECT count(*) FROM (
                SELECT relowner, relacl FROM pg_class WHERE relnamespace = 'reeve'::regnamespace
                UNION ALL SELECT nspowner, nspacl FROM pg_namespace WHERE nspname = 'reeve') AS o (owner, acl),
                aclexplode(o.acl) a
            WHERE a.grantee <> o.owner
            """)
        #expect(granted == 0)
        try await database.execute("GRANT SELECT ON reeve.runs TO \(role)")
        #expect(try await database.with { try LedgerSchema.isInstalled(on: $0) })
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    /// The only test with a role of that name, which the whole cluster has.
    @Test func `a ledger of reeve_owner is used as long as nobody else can become it`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        let role = try await newOwner()
        // Undone whatever comes, for the next run of the tests may find the same cluster.
        func remove() async throws {
            try await database.execute(
                "ALTER SCHEMA reeve OWNER TO CURRENT_USER", "DROP ROLE reeve_owner", "DROP OWNED BY \(role)",
                "DROP ROLE \(role)")
        }
        try await database.execute("CREATE ROLE reeve_owner", "ALTER SCHEMA reeve OWNER TO reeve_owner")
        do {
            let isUsed = try await Connection.opened(database.settings) { connection in
                try await connection.with { try LedgerSchema.isInstalled(on: $0) }
            }
            #expect(isUsed)
            try await database.execute("GRANT reeve_owner TO \(role)")
            #expect(try await refusal().contains("schema reeve belongs to reeve_owner"))
        } catch {
            try await remove()
            throw error
        }
        try await remove()
    }

    @Test func `the owner of a database cannot hand its ledger to a superuser`() async throws {
        let database = try TestDatabase.current
        let role = try await newOwner()
        // The role itself may work with what it made; a superuser may not.
        try await database.with { connection in
            try connection.execute("SET ROLE \(role)")
            try LedgerSchema.install(on: connection)
            #expect(try LedgerSchema.isInstalled(on: connection))
        }
        // Nothing in it is foreign but the owner.
        #expect(
            try await refusal()
                == "the ledger (the schema 'reeve') belongs to the role '\(role)', and the connected role is 'postgres'"
        )
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test func `an event trigger of another's does not run with our rights when the ledger is made`() async throws {
        let database = try TestDatabase.current
        let role = try await newOwner()
        try await database.execute(
            """
            CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
            BEGIN EXECUTE 'ALTER ROLE \(role) SUPERUSER'; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$
            """, "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION public.watch()",
            "ALTER EVENT TRIGGER watch DISABLE", "ALTER FUNCTION public.watch() OWNER TO \(role)",
            "ALTER EVENT TRIGGER watch ENABLE")
        try await database.with { try LedgerSchema.install(on: $0) }
        #expect(try await database.value("SELECT rolsuper FROM pg_roles WHERE rolname = $1", [role]) == false)
        // And it is what it was.
        #expect(try await database.value("SELECT prosecdef FROM pg_proc WHERE proname = 'watch'") == false)
        try await database.execute("DROP EVENT TRIGGER watch", "DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }
}

import Foundation
import Migrations
import Postgres
import Processes
import TestSupport
import Testing

/// The five systems together.
@Suite(.database, .timeLimit(.minutes(5)))
struct AllSystemsTests {
    @Test func `up, down to 0 and up again are equal, and down leaves nothing`() async throws {
        let database = try TestDatabase.current
        let migrator = try Migrator(database: Database(database.settings), systems: ShippedFixture.systems())
        let empty = try await database.schemaDump()
        _ = try await migrator.up()
        let first = try await database.schemaDump()
        _ = try await migrator.down(to: 0)
        #expect(try await database.schemaDump() == empty)
        _ = try await migrator.up()
        #expect(try await database.schemaDump() == first)
    }

    @Test(arguments: ["posters", "advideo", "videogen", "csvbatch", "publisher"])
    func `a system can live in public`(name: String) async throws {
        let database = try TestDatabase.current
        let systems = ShippedFixture.systems([name], schemas: [name: "public"])
        let migrator = try Migrator(database: Database(database.settings), systems: systems)
        let empty = try await database.schemaDump()
        _ = try await migrator.up()
        let tables: Int = try await database.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        #expect(tables >= 4)
        _ = try await migrator.down(to: 0)
        #expect(try await database.schemaDump() == empty)
    }

    @Test func `every foreign key has an index that serves it`() async throws {
        let database = try TestDatabase.current
        _ = try await Migrator(database: Database(database.settings), systems: ShippedFixture.systems()).up()
        let bare: [String]? = try await database.value(
            """
            SELECT array_agg(conrelid::regclass || '.' || conname) FROM pg_constraint k
            WHERE contype = 'f' AND connamespace::regnamespace::text IN ('posters', 'advideo', 'videogen', 'csvbatch', 'publisher')
              AND NOT EXISTS (
                SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indkey[0] = k.conkey[1]
                  AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) LIKE '%IS NOT NULL%'))
            """)
        #expect(bare == nil)
    }

    @Test(arguments: ["posters", "advideo", "videogen", "csvbatch", "publisher"])
    func `rights are given on the system's own tables and functions alone`(name: String) async throws {
        let database = try TestDatabase.current
        try await database.execute(
            """
            CREATE TABLE public.secrets (x int);
            CREATE FUNCTION public.reveal() RETURNS int LANGUAGE sql AS 'SELECT 1';
            """)
        func rights() async throws -> String {
            try await database.value(
                """
                SELECT coalesce((SELECT relacl FROM pg_class WHERE oid = 'public.secrets'::regclass)::text, 'none')
                    || coalesce((SELECT proacl FROM pg_proc WHERE oid = 'public.reveal'::regproc)::text, 'none')
                """)
        }
        let before = try await rights()
        let systems = ShippedFixture.systems([name], schemas: [name: "public"])
        let migrator = try Migrator(database: Database(database.settings), systems: systems)
        _ = try await migrator.up()
        #expect(try await rights() == before)
        _ = try await migrator.down(to: 0)
        #expect(try await rights() == before)
    }

    /// As on Supabase.
    @Test(arguments: ["videogen", "csvbatch"])
    func `default privileges give the roles no more`(name: String) async throws {
        let database = try TestDatabase.current
        let systems = ShippedFixture.systems([name], schemas: [name: "public"])
        // A superuser refuses to migrate where others may create triggers.
        var settings = Migrator.Settings()
        settings.trustedRoles = ["anon", "authenticated", "service_role"]
        let migrator = try Migrator(database: Database(database.settings), systems: systems, settings: settings)
        func rights() async throws -> String {
            try await database.value(
                """
                SELECT string_agg(o.name || ' ' || a.privilege_type || ' ' || a.grantee::regrole, E'\\n'
                    ORDER BY o.name, a.privilege_type, a.grantee)
                FROM (
                    SELECT relname::text AS name, relacl AS acl FROM pg_class WHERE relnamespace = 'public'::regnamespace
                    UNION ALL SELECT oid::regprocedure::text, proacl FROM pg_proc WHERE pronamespace = 'public'::regnamespace
                    UNION ALL SELECT attrelid::regclass || '.' || attname, attacl FROM pg_attribute
                    WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
                ) o, aclexplode(o.acl) a WHERE a.grantee <> current_user::regrole
                    AND o.name NOT IN (SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e')
                """)
        }
        _ = try await migrator.up()
        let before = try await rights()
        _ = try await migrator.down(to: 0)
        _ = try await migrator.up()
        #expect(try await rights() == before)
        try await database.execute(
            """
            DROP SCHEMA public, reeve, auth, storage CASCADE; CREATE SCHEMA public; DROP PUBLICATION supabase_realtime;
            ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
            ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
            ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
            """)
        _ = try await migrator.up()
        let after = try await rights()
        let added = Set(after.split(separator: "\n")).subtracting(before.split(separator: "\n"))
        #expect(added == [])
        #expect(after == before)
    }

    @Test(arguments: ["videogen", "csvbatch"])
    func `a system leaves a shared schema as it was, also if others changed its publication`(name: String) async throws
    {
        let database = try TestDatabase.current
        let migrator = try Migrator(
            database: Database(database.settings),
            systems: ShippedFixture.systems([name], schemas: [name: "public"]))
        _ = try await migrator.up()
        let published = name == "videogen" ? "jobs" : "csv_batches"
        try await database.execute(
            """
            REVOKE USAGE ON SCHEMA public FROM PUBLIC;
            CREATE FUNCTION public.others() RETURNS integer LANGUAGE sql AS 'SELECT 1';
            ALTER PUBLICATION supabase_realtime DROP TABLE public.\(published);
            """)
        _ = try await migrator.down(to: 0)
        let usage = "SELECT has_schema_privilege('anon', 'public', 'USAGE')"
        #expect(try await database.value(usage) == true)
        try await database.execute("DROP FUNCTION public.others()")
        // Published by another: the system is applied and taken back all the same.
        try await database.execute(
            "DROP PUBLICATION IF EXISTS supabase_realtime; CREATE PUBLICATION supabase_realtime FOR ALL TABLES")
        _ = try await migrator.up()
        _ = try await migrator.down(to: 0)
        #expect(try await database.value(usage) == false)
    }

    @Test func `a superuser runs no triggers of whoever made the schema storage`() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_other"
        try await database.execute(
            """
            CREATE ROLE \(role); CREATE SCHEMA storage AUTHORIZATION \(role); SET ROLE \(role);
            CREATE TABLE storage.buckets (id text, name text, public boolean);
            CREATE TABLE storage.objects (id uuid, bucket_id text, name text);
            CREATE FUNCTION storage.foldername(name text) RETURNS text[] LANGUAGE sql AS 'SELECT string_to_array(name, ''/'')';
            CREATE FUNCTION storage.own() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN ALTER ROLE \(role) SUPERUSER; RETURN NEW; END';
            CREATE TRIGGER own BEFORE INSERT ON storage.buckets FOR EACH ROW EXECUTE FUNCTION storage.own();
            """)
        let migrator = try Migrator(
            database: Database(database.settings), systems: ShippedFixture.systems(["csvbatch"]))
        _ = try await migrator.up()
        #expect(try await database.value("SELECT rolsuper FROM pg_roles WHERE rolname = $1", [role]) == false)
        #expect(try await database.value("SELECT count(*) FROM storage.buckets", as: Int.self) == 0)
        _ = try await migrator.down(to: 0)
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    @Test(.database(.systems), arguments: ["posters", "advideo", "videogen", "csvbatch", "publisher"])
    func `what runs with its owner's rights is not for everybody`(name: String) async throws {
        #expect(try await ExecuteRights.careless(schema: name) == [])
    }

    @Test func `where auth and storage are another's, nothing is made in them`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            """
            CREATE SCHEMA auth; CREATE SCHEMA storage;
            CREATE TABLE storage.buckets (id text PRIMARY KEY, name text NOT NULL, public boolean);
            CREATE TABLE storage.objects (id uuid DEFAULT gen_random_uuid(), bucket_id text, name text);
            CREATE FUNCTION storage.foldername(name text) RETURNS text[] LANGUAGE sql AS 'SELECT string_to_array(name, ''/'')';
            """)
        func inventory() async throws -> String {
            try await database.value(
                """
                SELECT (SELECT count(*) FROM pg_proc WHERE pronamespace IN ('auth'::regnamespace, 'storage'::regnamespace)) || '/'
                    || (SELECT count(*) FROM pg_class WHERE relnamespace IN ('auth'::regnamespace, 'storage'::regnamespace))
                """)
        }
        let before = try await inventory()
        let migrator = try Migrator(database: Database(database.settings), systems: ShippedFixture.systems())
        _ = try await migrator.up()
        #expect(try await inventory() == before)
        _ = try await migrator.down(to: 0)
        let schemas: Int = try await database.value(
            "SELECT count(*) FROM pg_namespace WHERE nspname IN ('auth', 'storage')")
        #expect(schemas == 2)
    }

    @Test func `the sample loads`() async throws {
        let database = try TestDatabase.current
        _ = try await Migrator(database: Database(database.settings), systems: ShippedFixture.systems()).up()
        let outcome = try await Command(
            "psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", database.settings.uri, "-f", "sample.sql"],
            directory: "\(ShippedFixture.repository)/sample"
        ).run()
        #expect(outcome.succeeded, "\(outcome.errorOutput)")
        let counts: String = try await database.value(
            """
            SELECT concat_ws('/', (SELECT count(*) FROM csvbatch.csv_row_jobs), (SELECT count(*) FROM publisher.posts),
                (SELECT count(*) FROM posters.generated_posters), (SELECT count(*) FROM videogen.elements),
                (SELECT total_cost FROM advideo.sessions))
            """)
        #expect(counts == "5/3/3/2/0.1000")
    }
}

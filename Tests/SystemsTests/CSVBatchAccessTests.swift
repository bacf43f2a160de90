import Foundation
import Migrations
import Postgres
import TestSupport
import Testing

/// Who may do what in csvbatch, and with the files of its buckets.
@Suite(.database(.systems), .timeLimit(.minutes(5)))
struct CSVBatchAccessTests {
    private typealias Fixture = CSVBatchFixture

    /// Runs a statement as a user whom the token names.
    private static func run(
        _ sql: String, as role: String = "authenticated", user: String = Fixture.owner,
        on connection: isolated Connection
    ) throws {
        try connection.transaction {
            try connection.execute("SET LOCAL ROLE \(role); SET LOCAL search_path = csvbatch")
            try connection.query("SELECT set_config('request.jwt.claims', $1, true)", ["{\"sub\": \"\(user)\"}"])
            try connection.execute(sql)
        }
    }

    @Test func `the functions are executed by those whom they are for`() async throws {
        #expect(
            try await ExecuteRights.lines(schema: "csvbatch") == [
                "advance_first_pending_csv_row(batch uuid) SECURITY DEFINER: service_role",
                "build_csv_trigger_text(row_data jsonb): authenticated, service_role",
                "claim_next_csv_row_job(worker_id text, batch_id uuid, timeout_minutes integer): service_role",
                "cleanup_stale_csv_workers(timeout_minutes integer): service_role",
                "get_csv_batch_progress(batch_id uuid): authenticated, service_role",
                "release_csv_row_jobs(job_ids uuid[], reason text): service_role",
                "release_expired_csv_row_jobs(only_batch uuid, only_user uuid, timeout_minutes integer): service_role",
                "requesting_user_id(): authenticated, service_role",
                "require_argument(is_allowed boolean, name text, value text, allowed text): authenticated, service_role",
                "update_csv_row_job_result(job_id uuid, status text, trigger_text text, generated_prompts jsonb, "
                    + "generated_images jsonb, generated_tags jsonb, processing_time_seconds numeric, error_message text, "
                    + "worker_id text, claim_number integer): service_role",
                "update_csv_worker_heartbeat(instance_id text, status text, current_job_count integer, "
                    + "total_jobs_processed integer, total_jobs_failed integer, average_processing_seconds numeric, "
                    + "user_id uuid, batch_id uuid, max_concurrent_jobs integer): service_role",
            ])
        #expect(try await ExecuteRights.careless(schema: "csvbatch") == [])
        let definers: [String] = try await TestDatabase.current.value(
            "SELECT array_agg(proname::text ORDER BY proname) FROM pg_proc WHERE pronamespace = 'csvbatch'::regnamespace AND prosecdef"
        )
        #expect(definers == ["advance_first_pending_csv_row", "count_csv_rows", "count_no_csv_rows"])
        let triggers: Int = try await TestDatabase.current.value(
            """
            SELECT count(*) FROM pg_proc WHERE pronamespace = 'csvbatch'::regnamespace AND prorettype = 'trigger'::regtype
                AND has_function_privilege('authenticated', oid, 'EXECUTE')
            """)
        #expect(triggers == 0)
    }

    @Test func `a user brings a file and its rows, sees how far they are, and takes them away`() async throws {
        try await TestDatabase.current.with { connection in
            try Self.run(
                """
                INSERT INTO csv_batches (
                    user_id, filename, original_filename, total_rows,
                    csv_headers, storage_path
                ) VALUES (
                    '\(Fixture.owner)', 'processed_products.csv', 'products.csv', 1000,
                    ARRAY['country', 'product_type', 'mpn', 'title'],
                    'csv-uploads/\(Fixture.owner)/products.csv'
                )
                """, on: connection)
            for sql in [
                "INSERT INTO csv_row_jobs (batch_id, row_number, row_data) SELECT id, 1, '{}' FROM csv_batches",
                "UPDATE csv_batches SET total_rows = 2, filename = 'g'",
                "SELECT * FROM get_csv_batch_progress((SELECT id FROM csv_batches))",
                "DELETE FROM csv_row_jobs",
            ] {
                try Self.run(sql, on: connection)
            }
            let totals = try connection.query(
                "SELECT format('%s/%s/%s', status, total_rows, open_rows) FROM csvbatch.csv_batches")
            #expect(try totals.map { try $0.get(0, as: String.self) } == ["uploaded/1/0"])
            try Self.run("DELETE FROM csv_batches", on: connection)
            #expect(try connection.query("SELECT FROM csvbatch.csv_batches").isEmpty)
        }
    }

    /// What a user, or somebody without a name, tries to forge or to fill.
    private static let forgeries =
        [
            "user_id, filename, original_filename, status": "'completed'",
            "user_id, filename, original_filename, processed_rows": "0",
            "user_id, filename, original_filename, successful_rows": "0",
            "user_id, filename, original_filename, failed_rows": "0",
            "user_id, filename, original_filename, open_rows": "0",
            "user_id, filename, original_filename, first_pending_row": "0",
            "user_id, filename, original_filename, max_concurrent_jobs": "1000",
            "user_id, filename, original_filename, created_at": "'-infinity'",
            "user_id, filename, original_filename, processing_rate_rows_per_minute": "1",
            "user_id, filename, original_filename, storage_path":
                "'csv-uploads/00000000-0000-4000-8000-00000000000b/secret.csv'",
            "user_id, filename, original_filename, csv_headers, storage_path":
                "'{}', 'csv-uploads/00000000-0000-4000-8000-00000000000a/../x/secret.csv'",
            "user_id, filename, original_filename, metadata, storage_path":
                "'{}', '00000000-0000-4000-8000-00000000000b/secret.csv'",
            "user_id, filename, original_filename, file_size_bytes, storage_path": "1, 'anything'",
        ].map { "INSERT INTO csv_batches (\($0)) VALUES ('\(CSVBatchFixture.owner)', 'f', 'f', \($1))" }
        + [
            "status = 'queued'", "processed_rows = 0", "successful_rows = 0", "failed_rows = 0", "open_rows = 0",
            "first_pending_row = NULL", "max_concurrent_jobs = 9", "created_at = '-infinity'", "user_id = user_id",
            "processing_completed_at = now()", "error_message = ''",
            "storage_path = 'csv-uploads/00000000-0000-4000-8000-00000000000b/secret.csv'",
            "storage_path = 'CSV-uploads/00000000-0000-4000-8000-00000000000b/secret.csv'",
            #"storage_path = 'csv-uploads/00000000-0000-4000-8000-00000000000a\..\x'"#,
        ].map { "UPDATE csv_batches SET \($0)" }
        + [
            "INSERT INTO csv_row_jobs (batch_id, row_number, row_data, status) SELECT id, 9, '{}', 'completed' FROM csv_batches",
            "INSERT INTO csv_row_jobs (batch_id, row_number, row_data, retry_count) SELECT id, 9, '{}', 0 FROM csv_batches",
            "INSERT INTO csv_row_jobs (batch_id, row_number, row_data, max_retries) SELECT id, 9, '{}', 99 FROM csv_batches",
            "INSERT INTO csv_row_jobs (batch_id, row_number, row_data, claimed_by) SELECT id, 9, '{}', 'w' FROM csv_batches",
            "UPDATE csv_row_jobs SET status = 'completed'", "UPDATE csv_row_jobs SET claimed_by = 'me'",
            "UPDATE csv_row_jobs SET retry_count = 0", "UPDATE csv_row_jobs SET row_number = 1",
            "SELECT FROM csv_row_jobs FOR UPDATE",
            "INSERT INTO csv_processing_logs (message) VALUES (repeat('x', 1000000))",
            "INSERT INTO csv_processing_logs (batch_id, message) SELECT id, 'm' FROM csv_batches",
            "INSERT INTO csv_processing_workers (instance_id) VALUES ('w')", "DELETE FROM csv_processing_workers",
            "UPDATE csv_processing_workers SET last_heartbeat = now()", "TRUNCATE csv_batches CASCADE",
            "SELECT release_csv_row_jobs('{}', 'r')", "SELECT update_csv_worker_heartbeat('w')",
            "SELECT update_csv_row_job_result(gen_random_uuid(), 'completed')", "SELECT claim_next_csv_row_job('w')",
            "SELECT cleanup_stale_csv_workers()", "SELECT advance_first_pending_csv_row(gen_random_uuid())",
            "SELECT release_expired_csv_row_jobs(NULL, NULL, 1)",
        ]

    @Test(arguments: forgeries)
    func `users forge nothing and fill no log`(sql: String) async throws {
        try await TestDatabase.current.with { connection in
            _ = try Fixture.batch(connection, rows: 1)
            for role in ["authenticated", "anon"] {
                let error = #expect(throws: PostgresError.self) { try Self.run(sql, as: role, on: connection) }
                #expect(error?.sqlState == "42501", "\(role)")
            }
        }
    }

    @Test func `no service says where claims look, and no row is too large for them`() async throws {
        try await TestDatabase.current.with { connection in
            _ = try Fixture.batch(connection, rows: 1)
            let forged = #expect(throws: PostgresError.self) {
                try Self.run("UPDATE csv_batches SET first_pending_row = NULL", as: "service_role", on: connection)
            }
            #expect(forged?.sqlState == "42501")
            let large = #expect(throws: PostgresError.self) {
                try connection.execute(
                    "UPDATE csv_row_jobs SET row_data = (SELECT jsonb_agg(1e131071) FROM generate_series(1, 9))")
            }
            #expect(large?.sqlState == "23514")
        }
    }

    @Test func `a path that a service has set stays when the user changes something else`() async throws {
        try await TestDatabase.current.with { connection in
            let batch = try Fixture.batch(connection, rows: 1)
            try Self.run(
                "UPDATE csv_batches SET storage_path = 'imports/f.csv' WHERE id = '\(batch)'", as: "service_role",
                on: connection)
            for path in ["imports/f.csv", "\(Fixture.owner)/f.csv", "csv-uploads/\(Fixture.owner)/a/f.csv"] {
                try Self.run("UPDATE csv_batches SET filename = 'g', storage_path = '\(path)'", on: connection)
            }
            let stored: String = try #require(try connection.query("SELECT storage_path FROM csv_batches").first).get(0)
            #expect(stored == "csv-uploads/\(Fixture.owner)/a/f.csv")
        }
    }

    @Test(arguments: ["csv_batches", "csv_row_jobs", "csv_processing_logs"])
    func `strangers and the nameless see and remove nothing`(table: String) async throws {
        try await TestDatabase.current.with { connection in
            let batch = try Fixture.batch(connection, rows: 2)
            try connection.query("INSERT INTO csv_processing_logs (batch_id, message) VALUES ($1, 'm')", [batch])
            let assertion = "DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM \(table)); END $$"
            try Self.run(assertion, user: Fixture.stranger, on: connection)
            try Self.run("DELETE FROM csv_batches; DELETE FROM csv_row_jobs", user: Fixture.stranger, on: connection)
            for sql in ["SELECT FROM \(table)", "DELETE FROM \(table)", "SELECT get_csv_batch_progress('\(batch)')"] {
                let error = #expect(throws: PostgresError.self) { try Self.run(sql, as: "anon", on: connection) }
                #expect(error?.sqlState == "42501")
            }
            #expect(try Fixture.state(connection, batch) == "uploaded 0/0/0 of 2, 2 open")
        }
    }

    @Test func `the service works rows off with its own rights, and writes no counter`() async throws {
        try await TestDatabase.current.with { connection in
            let batch = try Fixture.batch(connection, rows: 150)
            try Self.run(
                """
                SELECT update_csv_worker_heartbeat('w', 'processing');
                DO $$
                DECLARE
                    job record;
                BEGIN
                    LOOP
                        SELECT * INTO job FROM claim_next_csv_row_job('w');
                        EXIT WHEN NOT FOUND;
                        ASSERT update_csv_row_job_result(job.job_id, 'completed', worker_id => 'w');
                    END LOOP;
                END $$;
                SELECT cleanup_stale_csv_workers();
                INSERT INTO csv_processing_logs (message) VALUES ('m');
                """, as: "service_role", on: connection)
            #expect(try Fixture.state(connection, batch) == "completed 150/150/0 of 150, 0 open")
            for counter in ["processed_rows", "successful_rows", "failed_rows", "open_rows"] {
                let error = #expect(throws: PostgresError.self) {
                    try Self.run("UPDATE csv_batches SET \(counter) = 0", as: "service_role", on: connection)
                }
                #expect(error?.sqlState == "42501")
            }
        }
    }

    @Test(arguments: [
        "", ".", "..", "a/..", "../a", "a/../b", "a/./b", "./a", "a/.", "/a", "a/", "a//b", "a\\b", "a\\..\\b",
        "a/b\nc",
        "a\tb", "a/\u{7f}", "a/\u{85}b", "a/\u{1}", String(repeating: "x", count: 1025),
    ])
    func `names of objects that leave their folder are refused`(name: String) async throws {
        try await TestDatabase.current.with { connection in
            let insert = "INSERT INTO storage.objects (bucket_id, name) VALUES ('csv-uploads', $1)"
            let error = #expect(throws: PostgresError.self) { try connection.query(insert, [name]) }
            #expect(error?.sqlState == "23514")
            try connection.query(insert, ["a/b.csv"])
            let change = #expect(throws: PostgresError.self) {
                try connection.query("UPDATE storage.objects SET name = $1", [name])
            }
            #expect(change?.sqlState == "23514")
        }
    }

    @Test(arguments: ["a", "a/b/c.csv", "a/..b", "a/b..", "a/...", "a/.hidden", "ä/ü – ö.csv", "100%/a b.csv"])
    func `other names of objects are taken`(name: String) async throws {
        try await TestDatabase.current.with { connection in
            try connection.query("INSERT INTO storage.objects (bucket_id, name) VALUES ('csv-uploads', $1)", [name])
        }
    }
}

/// Migrations where the schema storage is another's, with other tables, columns and owners.
@Suite(.database, .timeLimit(.minutes(5)))
struct ForeignStorageTests {
    private static let buckets =
        "CREATE TABLE storage.buckets (id text PRIMARY KEY, name text NOT NULL UNIQUE, public boolean);"
    private static let objects =
        "CREATE TABLE storage.objects (id uuid PRIMARY KEY, bucket_id text, name text); ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;"
    private static let foldername =
        "CREATE FUNCTION storage.foldername(name text) RETURNS text[] LANGUAGE sql AS 'SELECT string_to_array(name, ''/'')';"

    @Test(arguments: [
        "", buckets, objects + foldername, buckets + objects,
        "CREATE TABLE storage.buckets (id text, extra int NOT NULL);",
        "CREATE TABLE storage.buckets (id uuid, name text, public boolean);" + objects + foldername,
        "CREATE TABLE storage.buckets (id text, name text, public boolean, kind text NOT NULL);",
        "CREATE VIEW storage.buckets AS SELECT ''::text AS id, ''::text AS name, false AS public; CREATE VIEW storage.objects AS SELECT ''::text AS name;"
            + foldername,
        buckets + "CREATE TABLE storage.objects (id uuid, bucket uuid, path text);" + foldername,
        buckets + objects + foldername + "INSERT INTO storage.buckets VALUES ('other', 'csv-uploads', false);",
        buckets + objects + foldername + "CREATE POLICY csv_service ON storage.objects USING (false);",
    ])
    func `what differs is left alone`(storage: String) async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE SCHEMA storage; \(storage)")
        let migrator = try Migrator(
            database: Database(database.settings), systems: ShippedFixture.systems(["csvbatch"]))
        _ = try await migrator.up()
        let tables: Int = try await database.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'csvbatch'")
        #expect(tables == 4)
        _ = try await migrator.down(to: 0)
    }

    @Test func `a folder in a foreign storage does not lead out of it`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE SCHEMA storage; \(Self.buckets) \(Self.objects) \(Self.foldername)")
        _ = try await Migrator(database: Database(database.settings), systems: ShippedFixture.systems(["csvbatch"]))
            .up()
        let open: Int = try await database.value(
            """
            SELECT count(*) FROM pg_policies WHERE schemaname = 'storage' AND policyname ~ '^csv_(uploads|templates_add)'
                AND coalesce(with_check, qual) !~ '[.]\\{0,2\\}'
            """)
        #expect(open == 0)
    }

    /// The owner of the system owns neither the tables nor may he write to them.
    @Test func `without rights on the buckets, the migration notices and goes on`() async throws {
        let database = try TestDatabase.current
        let role = "csv_owner_\(UUID().uuidString.prefix(8).lowercased())"
        try await database.execute(
            """
            CREATE SCHEMA storage; \(Self.buckets) \(Self.objects) \(Self.foldername)
            ALTER TABLE storage.buckets ENABLE ROW LEVEL SECURITY;
            CREATE SCHEMA csvbatch; CREATE SCHEMA extensions;
            CREATE ROLE \(role) NOLOGIN;
            GRANT USAGE ON SCHEMA storage TO \(role); GRANT CREATE, USAGE ON SCHEMA csvbatch TO \(role);
            """)
        let files = "\(ShippedFixture.repository)/migrations/csvbatch"
        let text = { (file: String) in try String(contentsOfFile: "\(files)/\(file)", encoding: .utf8) }
        let (up, down) = try (text("0005_storage.up.sql"), text("0005_storage.down.sql"))
        for right in ["REVOKE ALL ON storage.buckets FROM \(role)", "GRANT ALL ON storage.buckets TO \(role)"] {
            try await database.with { connection in
                try connection.execute("\(right); SET search_path = csvbatch; SET ROLE \(role)")
                try connection.execute(up)
                try connection.execute(down)
                try connection.execute("RESET ROLE")
                #expect(try connection.query("SELECT FROM storage.buckets").isEmpty)
                #expect(try connection.query("SELECT FROM pg_policies WHERE schemaname = 'storage'").isEmpty)
            }
        }
        try await database.execute("DROP OWNED BY \(role); DROP ROLE \(role)")
    }
}

import Foundation
import Postgres
import TestSupport
import Testing

@Suite(.database(.systems), .timeLimit(.minutes(2)))
struct CSVBatchTests {
    private static let owner = "00000000-0000-4000-8000-00000000000a"

    /// A batch of so many rows; gives its identifier.
    private func batch(_ rows: Int, user: String = owner) async throws -> UUID {
        try await TestDatabase.current.with { connection in
            let batch = try connection.query(
                """
                INSERT INTO csvbatch.csv_batches (user_id, filename, original_filename, total_rows, csv_headers, storage_path)
                VALUES ($1, 'processed_products.csv', 'products.csv', $2, ARRAY['country', 'product_type', 'mpn', 'title'],
                        'csv-uploads/user-uuid/products.csv') RETURNING id
                """, [user, rows]
            ).first?.get(0, as: UUID.self)
            let id = try #require(batch)
            try connection.query(
                """
                INSERT INTO csvbatch.csv_row_jobs (batch_id, row_number, row_data)
                SELECT $1, g, jsonb_build_object('country', 'US', 'product_type', 'Shoes', 'size', '42', 'mpn', 'M-' || g, 'description', 'light')
                FROM generate_series(1, $2::integer) g
                """, [id, rows])
            return id
        }
    }

    private func progress(_ batch: UUID) async throws -> Row {
        try await TestDatabase.current.with {
            try #require(try $0.query("SELECT * FROM csvbatch.get_csv_batch_progress($1)", [batch]).first)
        }
    }

    @Test func `a row is claimed, worked on and counted, and the last one completes the batch`() async throws {
        let batch = try await batch(2)
        try await TestDatabase.current.with { connection in
            try connection.execute("SET search_path = csvbatch")
            #expect(try connection.query("SELECT status FROM csv_batches").first?.get(0, as: String.self) == "uploaded")
            for (number, status) in [(1, "completed"), (2, "failed")] {
                let job = try #require(
                    try connection.query("SELECT * FROM claim_next_csv_row_job('worker-instance-123')").first)
                #expect(try job.get("row_number", as: Int.self) == number)
                #expect(try job.get("trigger_text", as: String.self) == "US Shoes 42 M-\(number) light")
                #expect(
                    try connection.query("SELECT status FROM csv_batches").first?.get(0, as: String.self)
                        == "processing")
                let updated = try connection.query(
                    """
                    SELECT update_csv_row_job_result($1, $2, 'Generated trigger text', '{"prompts": ["prompt1", "prompt2"]}',
                        '{"images": [{"url": "...", "model": "gpt-image-1"}]}', '{"tags": ["tag1", "tag2"]}', 45.2)
                    """, [try job.get("job_id", as: UUID.self), status])
                #expect(try updated.first?.get(0, as: Bool.self) == true)
            }
            #expect(try connection.query("SELECT * FROM claim_next_csv_row_job('worker-instance-123')").isEmpty)
            let job = try #require(try connection.query("SELECT * FROM csv_row_jobs WHERE row_number = 1").first)
            #expect(try job.get("claimed_by", as: String.self) == "worker-instance-123")
            #expect(try job.get("processing_time_seconds", as: String.self) == "45.200")
            #expect(try job.get("generated_tags", as: String.self).contains("tag2"))
            let failed = try connection.query(
                """
                SELECT b.filename, COUNT(*) as failed_count FROM csv_batches b JOIN csv_row_jobs rj ON b.id = rj.batch_id
                WHERE rj.status = 'failed' GROUP BY b.id, b.filename ORDER BY failed_count DESC
                """)
            #expect(try failed.first?.get("failed_count", as: Int.self) == 1)
        }
        let row = try await progress(batch)
        #expect(try row.get("status", as: String.self) == "completed")
        #expect(try row.get("processed_rows", as: Int.self) == 2)
        #expect(try row.get("successful_rows", as: Int.self) == 1)
        #expect(try row.get("failed_rows", as: Int.self) == 1)
        #expect(try row.get("progress_percentage", as: String.self) == "100.00")
        #expect(try row.get("processing_rate_rows_per_minute", as: Double.self) > 0)
    }

    @Test func `progress counts what waits, what is held and what is done`() async throws {
        let batch = try await batch(8)
        try await TestDatabase.current.with { connection in
            for _ in 0..<3 { try connection.query("SELECT * FROM csvbatch.claim_next_csv_row_job('w')") }
            try connection.execute(
                "SELECT csvbatch.update_csv_row_job_result(id, 'completed') FROM csvbatch.csv_row_jobs WHERE row_number = 1"
            )
            let active = try connection.query(
                """
                SELECT b.*, ROUND((b.processed_rows::NUMERIC / b.total_rows) * 100, 2) as progress_pct
                FROM csvbatch.csv_batches b WHERE status IN ('processing', 'queued') ORDER BY created_at DESC
                """)
            #expect(try active.first?.get("progress_pct", as: String.self) == "12.50")
        }
        let row = try await progress(batch)
        let counts = try ["pending_rows", "active_rows", "processed_rows"].map { try row.get($0, as: Int.self) }
        #expect(counts == [5, 2, 1])
        #expect(try row.get("progress_percentage", as: String.self) == "12.50")
    }

    @Test func `a batch has no negative number of rows`() async throws {
        for statement in [
            "UPDATE csvbatch.csv_batches SET total_rows = -1",
            "INSERT INTO csvbatch.csv_batches (user_id, filename, original_filename, total_rows) VALUES (gen_random_uuid(), 'a', 'a', -1)",
        ] {
            _ = try await batch(1)
            let error = await #expect(throws: PostgresError.self) { try await TestDatabase.current.execute(statement) }
            #expect(error?.sqlState == "23514")
        }
    }

    @Test func `workers that claim at once never get the same row`() async throws {
        _ = try await batch(120)
        let database = try TestDatabase.current
        let rows = try await withThrowingTaskGroup(of: [UUID].self) { group in
            for worker in 0..<8 {
                group.addTask {
                    try await database.with { connection in
                        var mine: [UUID] = []
                        while let job = try connection.query(
                            "SELECT job_id FROM csvbatch.claim_next_csv_row_job($1)", ["w\(worker)"]
                        ).first {
                            let id: UUID = try job.get(0)
                            mine.append(id)
                            try connection.query("SELECT csvbatch.update_csv_row_job_result($1, 'completed')", [id])
                        }
                        return mine
                    }
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(rows.count == 120)
        #expect(Set(rows).count == 120)
        let totals: String = try await database.value(
            "SELECT format('%s %s %s', status, processed_rows, successful_rows) FROM csvbatch.csv_batches")
        #expect(totals == "completed 120 120")
    }

    @Test func `a row held too long is given to another, and after its retries it has failed`() async throws {
        _ = try await batch(1)
        try await TestDatabase.current.with { connection in
            for attempt in 0...3 {
                let job = try #require(
                    try connection.query("SELECT * FROM csvbatch.claim_next_csv_row_job('w\(attempt)', NULL, 5)").first)
                #expect(try job.get("retry_count", as: Int.self) == attempt)
                #expect(try connection.query("SELECT * FROM csvbatch.claim_next_csv_row_job('other', NULL, 5)").isEmpty)
                try connection.execute("UPDATE csvbatch.csv_row_jobs SET claimed_at = now() - interval '6 minutes'")
            }
            #expect(try connection.query("SELECT * FROM csvbatch.claim_next_csv_row_job('last', NULL, 5)").isEmpty)
            let row = try #require(try connection.query("SELECT * FROM csvbatch.csv_row_jobs").first)
            #expect(try row.get("status", as: String.self) == "failed")
            #expect(try row.get("error_message", as: String.self).contains("5 minutes"))
            #expect(
                try connection.query("SELECT status FROM csvbatch.csv_batches").first?.get(0, as: String.self)
                    == "completed")
        }
    }

    @Test func `a claim can be for one batch, and a dedicated worker gets only its own`() async throws {
        let first = try await batch(2)
        let second = try await batch(2, user: "00000000-0000-4000-8000-00000000000b")
        try await TestDatabase.current.with { connection in
            let claim = { (worker: String, batch: UUID?) throws -> UUID? in
                try connection.query(
                    "SELECT job_batch_id FROM csvbatch.claim_next_csv_row_job($1, $2)", [worker, batch]
                ).first?.get(0)
            }
            #expect(try claim("any", second) == second)
            try connection.query("SELECT csvbatch.update_csv_worker_heartbeat('own', 'idle', batch_id => $1)", [second])
            #expect(try claim("own", nil) == second)
            #expect(try claim("own", nil) == nil)
            try connection.execute(
                "SELECT csvbatch.update_csv_worker_heartbeat('user', 'idle', user_id => '\(Self.owner)')")
            #expect(try claim("user", nil) == first)
            #expect(try claim("any", nil) == first)
        }
    }

    @Test func `a heartbeat registers a worker, and then updates it`() async throws {
        try await TestDatabase.current.with { connection in
            let first = try connection.query(
                "SELECT csvbatch.update_csv_worker_heartbeat('w1', 'processing', 2, 10, 1, 4.5)"
            ).first
            let again = try connection.query("SELECT csvbatch.update_csv_worker_heartbeat('w1', 'idle')").first
            #expect(try first?.get(0, as: UUID.self) == again?.get(0, as: UUID.self))
            let healthy = try connection.query(
                """
                SELECT instance_id, status, last_heartbeat, current_job_count, total_jobs_processed
                FROM csvbatch.csv_processing_workers WHERE last_heartbeat > NOW() - INTERVAL '5 minutes' ORDER BY last_heartbeat DESC
                """)
            #expect(healthy.count == 1)
            #expect(try healthy[0].get("status", as: String.self) == "idle")
            #expect(try healthy[0].get("total_jobs_processed", as: Int.self) == 10)
            #expect(throws: PostgresError.self) {
                _ = try connection.query("SELECT csvbatch.update_csv_worker_heartbeat('w2', 'asleep')")
            }
        }
    }

    @Test func `stale workers are stopped and their rows go back with a retry, or fail`() async throws {
        let batch = try await batch(4)
        try await TestDatabase.current.with { connection in
            try connection.execute(
                "SELECT csvbatch.update_csv_worker_heartbeat('dead', 'processing'), csvbatch.update_csv_worker_heartbeat('alive', 'processing')"
            )
            for worker in ["dead", "dead", "alive", "unknown"] {
                try connection.query("SELECT * FROM csvbatch.claim_next_csv_row_job($1)", [worker])
            }
            try connection.execute(
                """
                UPDATE csvbatch.csv_processing_workers SET last_heartbeat = now() - interval '11 minutes' WHERE instance_id = 'dead';
                UPDATE csvbatch.csv_row_jobs SET retry_count = 3 WHERE row_number = 2;
                UPDATE csvbatch.csv_row_jobs SET claimed_at = now() - interval '11 minutes' WHERE row_number IN (3, 4);
                """)
            #expect(
                try connection.query("SELECT csvbatch.cleanup_stale_csv_workers()").first?.get(0, as: Int.self) == 1)
            let states = try connection.query(
                "SELECT status || retry_count FROM csvbatch.csv_row_jobs ORDER BY row_number")
            #expect(
                try states.map { try $0.get(0, as: String.self) } == ["pending1", "failed3", "claimed0", "pending1"])
            #expect(
                try connection.query("SELECT csvbatch.cleanup_stale_csv_workers()").first?.get(0, as: Int.self) == 0)
            let log = try connection.query("SELECT log_level FROM csvbatch.csv_processing_logs")
            #expect(try log.map { try $0.get(0, as: String.self) } == ["WARN"])
        }
        #expect(try await progress(batch).get("failed_rows", as: Int.self) == 1)
    }

    @Test func `totals stay right when rows are inserted done, changed back or deleted`() async throws {
        let batch = try await batch(3)
        try await TestDatabase.current.with { connection in
            let totals = { () throws -> String in
                try #require(
                    try connection.query(
                        "SELECT format('%s/%s/%s', processed_rows, successful_rows, failed_rows) FROM csvbatch.csv_batches"
                    ).first
                ).get(0)
            }
            try connection.query(
                "INSERT INTO csvbatch.csv_row_jobs (batch_id, row_number, row_data, status) VALUES ($1, 9, '{}', 'failed')",
                [batch])
            #expect(try totals() == "1/0/1")
            try connection.execute("UPDATE csvbatch.csv_row_jobs SET status = 'completed' WHERE row_number IN (1, 9)")
            #expect(try totals() == "2/2/0")
            try connection.execute("UPDATE csvbatch.csv_row_jobs SET status = 'pending' WHERE row_number = 1")
            #expect(try totals() == "1/1/0")
            try connection.execute("DELETE FROM csvbatch.csv_row_jobs WHERE row_number = 9")
            #expect(try totals() == "0/0/0")
            try connection.execute("DELETE FROM csvbatch.csv_batches")
            #expect(try connection.query("SELECT count(*) FROM csvbatch.csv_row_jobs").first?.get(0, as: Int.self) == 0)
        }
    }

    @Test func `users see their own batches, rows and logs alone; workers are public; the service sees all`()
        async throws
    {
        let mine = try await batch(2)
        let theirs = try await batch(3, user: "00000000-0000-4000-8000-00000000000b")
        try await TestDatabase.current.with { connection in
            try connection.query(
                "INSERT INTO csvbatch.csv_processing_logs (batch_id, message) VALUES ($1, 'm'), ($2, 'm')",
                [mine, theirs])
            try connection.execute("SELECT csvbatch.update_csv_worker_heartbeat('w', 'idle')")
            let counts = { (role: String, user: String) throws -> [Int] in
                try connection.transaction {
                    try connection.execute("SET LOCAL ROLE \(role)")
                    try connection.query(
                        "SELECT set_config('request.jwt.claims', $1, true)", ["{\"sub\": \"\(user)\"}"])
                    return try ["csv_batches", "csv_row_jobs", "csv_processing_logs", "csv_processing_workers"].map {
                        try connection.query("SELECT count(*) FROM csvbatch.\($0)").first?.get(0, as: Int.self) ?? -1
                    }
                }
            }
            #expect(try counts("authenticated", Self.owner) == [1, 2, 1, 1])
            #expect(try counts("authenticated", "00000000-0000-4000-8000-0000000000ff") == [0, 0, 0, 1])
            #expect(try counts("service_role", "") == [2, 5, 2, 1])
            let asUser = { (sql: String) throws -> Void in
                try connection.transaction {
                    try connection.execute("SET LOCAL ROLE authenticated")
                    try connection.query(
                        "SELECT set_config('request.jwt.claims', $1, true)", ["{\"sub\": \"\(Self.owner)\"}"])
                    try connection.execute(sql)
                }
            }
            try asUser(
                "INSERT INTO csvbatch.csv_batches (user_id, filename, original_filename) VALUES ('\(Self.owner)', 'f', 'f')"
            )
            for refused in [
                "INSERT INTO csvbatch.csv_batches (user_id, filename, original_filename) VALUES (gen_random_uuid(), 'f', 'f')",
                "INSERT INTO csvbatch.csv_row_jobs (batch_id, row_number, row_data) VALUES ('\(theirs)', 99, '{}')",
                "INSERT INTO csvbatch.csv_processing_logs (message) VALUES ('m')",
                "UPDATE csvbatch.csv_processing_workers SET status = 'stopped'",
                "SELECT csvbatch.claim_next_csv_row_job('w')", "SELECT csvbatch.cleanup_stale_csv_workers()",
            ] {
                let error = #expect(throws: PostgresError.self) { try asUser(refused) }
                #expect(error?.sqlState == "42501", "\(refused)")
            }
        }
    }

    @Test func `files lie in their user's folder; templates can be read by anybody`() async throws {
        try await TestDatabase.current.with { connection in
            let buckets = try connection.query("SELECT id || public FROM storage.buckets ORDER BY id")
            #expect(try buckets.map { try $0.get(0, as: String.self) } == ["csv-templatestrue", "csv-uploadsfalse"])
            let asRole = { (role: String, sql: String) throws -> Int in
                try connection.transaction {
                    try connection.execute("SET LOCAL ROLE \(role)")
                    try connection.query(
                        "SELECT set_config('request.jwt.claims', $1, true)", ["{\"sub\": \"\(Self.owner)\"}"])
                    return try connection.query(sql).count
                }
            }
            let insert = "INSERT INTO storage.objects (bucket_id, name) VALUES ('%', '#/a.csv') RETURNING id"
            func sql(_ bucket: String, _ folder: String) -> String {
                insert.replacing("%", with: bucket).replacing("#", with: folder)
            }
            #expect(try asRole("authenticated", sql("csv-uploads", Self.owner)) == 1)
            #expect(try asRole("authenticated", sql("csv-templates", Self.owner)) == 1)
            #expect(try asRole("service_role", sql("csv-uploads", "somebody")) == 1)
            #expect(throws: PostgresError.self) { _ = try asRole("authenticated", sql("csv-uploads", "somebody-else")) }
            #expect(throws: PostgresError.self) { _ = try asRole("anon", sql("csv-uploads", Self.owner)) }
            #expect(try asRole("authenticated", "SELECT id FROM storage.objects WHERE bucket_id = 'csv-uploads'") == 1)
            #expect(try asRole("anon", "SELECT id FROM storage.objects") == 1)
            #expect(try asRole("service_role", "SELECT id FROM storage.objects") == 3)
        }
    }

    @Test func `subscribers hear of batches and rows, jobs and timelines`() async throws {
        let tables: [String] = try await TestDatabase.current.value(
            "SELECT array_agg(tablename::text ORDER BY tablename) FROM pg_publication_tables WHERE pubname = 'supabase_realtime'"
        )
        #expect(tables == ["csv_batches", "csv_row_jobs", "jobs", "processing_timeline"])
    }
}

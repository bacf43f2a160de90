import Foundation
import Postgres
import TestSupport
import Testing

/// No function or query that a worker or a dashboard calls reads a table that grows from end to end.
@Suite(.database(.systems), .timeLimit(.minutes(5)))
struct CSVBatchPlanTests {
    private static let tables: Set<String> = ["csv_batches", "csv_row_jobs"]

    /// Many batches that are done, many whose rows are all held, and one with rows that wait.
    private func fill() async throws {
        try await TestDatabase.current.with { connection in
            try connection.execute(
                """
                SET search_path = csvbatch;
                INSERT INTO csv_batches (user_id, filename, original_filename, status, total_rows, created_at)
                SELECT ('00000000-0000-4000-8000-0000000000' || lpad(to_hex(g % 100), 2, '0'))::uuid, 'f' || g, 'f',
                    CASE WHEN g <= 800 THEN 'uploaded' ELSE 'completed' END, CASE WHEN g <= 800 THEN 5 ELSE 0 END,
                    now() - make_interval(mins => 10000 - g)
                FROM generate_series(1, 2400) g;
                INSERT INTO csv_row_jobs (batch_id, row_number, row_data)
                SELECT id, n, '{}' FROM csv_batches, generate_series(1, 5) n WHERE status = 'uploaded';
                UPDATE csv_row_jobs SET status = 'completed' WHERE row_number <= 3;
                UPDATE csv_row_jobs SET status = 'claimed', claimed_by = 'w' || row_number
                WHERE batch_id IN (SELECT id FROM csv_batches WHERE filename <> 'f800');
                INSERT INTO csv_processing_workers (instance_id) SELECT 'w' || g FROM generate_series(1, 20) g;
                UPDATE csv_row_jobs SET status = 'failed' WHERE id IN (SELECT id FROM csv_row_jobs WHERE row_number = 1 LIMIT 20);
                ANALYZE csv_batches, csv_row_jobs, csv_processing_workers;
                """)
        }
    }

    @Test func `functions and queries go by indexes`() async throws {
        try await fill()
        let preparation = "SET LOCAL ROLE service_role"
        for sql in [
            "SELECT * FROM claim_next_csv_row_job('new')",
            "SELECT * FROM claim_next_csv_row_job('new', (SELECT id FROM csv_batches WHERE first_pending_row IS NOT NULL AND status IN ('uploaded', 'queued', 'processing') ORDER BY created_at, id LIMIT 1))",
            "SELECT claim_next_csv_row_job('own') FROM update_csv_worker_heartbeat('own', user_id => '00000000-0000-4000-8000-000000000000')",
            "SELECT update_csv_row_job_result(job_id, 'completed', worker_id => 'new', claim_number => claim_number) FROM claim_next_csv_row_job('new')",
            "SELECT get_csv_batch_progress(job_batch_id) FROM claim_next_csv_row_job('new')",
            "UPDATE csv_processing_workers SET last_heartbeat = 'epoch' WHERE instance_id = 'gone'; SELECT cleanup_stale_csv_workers()",
            "SELECT release_csv_row_jobs(ARRAY[job_id], 'r') FROM claim_next_csv_row_job('new')",
            """
            SELECT b.*, ROUND((b.processed_rows::NUMERIC / b.total_rows) * 100, 2) as progress_pct
            FROM csv_batches b WHERE status IN ('processing', 'queued') ORDER BY created_at DESC LIMIT 50
            """,
            """
            SELECT rj.batch_id, COUNT(*) as failed_count FROM csv_row_jobs rj WHERE rj.status = 'failed' GROUP BY rj.batch_id
            """,
        ] {
            try await StatementPlans.expectNoSequentialScan(
                of: Self.tables, in: sql, after: preparation, schema: "csvbatch")
        }
    }

    @Test func `a user's dashboard goes by indexes`() async throws {
        try await fill()
        let preparation = """
            SET LOCAL ROLE authenticated;
            SET LOCAL "request.jwt.claims" = '{"sub": "00000000-0000-4000-8000-000000000003"}'
            """
        for sql in [
            "SELECT * FROM csv_batches ORDER BY created_at DESC LIMIT 20",
            "SELECT get_csv_batch_progress((SELECT id FROM csv_batches ORDER BY created_at LIMIT 1))",
            "SELECT * FROM csv_row_jobs WHERE batch_id = (SELECT id FROM csv_batches ORDER BY created_at LIMIT 1) ORDER BY row_number LIMIT 50",
        ] {
            try await StatementPlans.expectNoSequentialScan(
                of: Self.tables, in: sql, after: preparation, schema: "csvbatch")
        }
    }

    @Test func `a claim reads few batches, however many have no row to claim`() async throws {
        try await fill()
        try await TestDatabase.current.with { connection in
            try connection.execute("SET search_path = csvbatch")
            let claimable = try connection.query(
                """
                SELECT filename FROM csv_batches
                WHERE first_pending_row IS NOT NULL AND status IN ('uploaded', 'queued', 'processing')
                """)
            #expect(try claimable.map { try $0.get(0, as: String.self) } == ["f800"])
            // What is drained by claims is taken out with the next claim.
            for _ in 0..<3 { _ = try CSVBatchFixture.claim(connection, "w") }
            let left = try connection.query("SELECT FROM csv_batches WHERE first_pending_row IS NOT NULL")
            #expect(left.isEmpty)
        }
    }

    @Test func `the first pending row follows the claims of a long batch, and goes back to rows that are put back`()
        async throws
    {
        try await TestDatabase.current.with { connection in
            let batch = try CSVBatchFixture.batch(connection, rows: 500)
            let first = { () throws -> Int? in
                try connection.query("SELECT first_pending_row FROM csv_batches WHERE id = $1", [batch]).first?.get(0)
            }
            for _ in 0..<300 { _ = try CSVBatchFixture.claim(connection, "w") }
            #expect(try first() ?? 0 > 100)
            try connection.execute("UPDATE csv_row_jobs SET status = 'pending' WHERE row_number = 7")
            #expect(try first() == 7)
            #expect(try CSVBatchFixture.claim(connection, "w")?.row == 7)
            #expect(try CSVBatchFixture.claim(connection, "w")?.row == 301)
        }
    }
}

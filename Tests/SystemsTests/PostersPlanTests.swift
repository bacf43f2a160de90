import Postgres
import TestSupport
import Testing

/// What a dashboard or a worker asks of posters reads no growing table from end to end. The queries of the
/// specification stand here as it has them.
@Suite(.database(.systems), .timeLimit(.minutes(5)))
struct PostersPlanTests {
    private static let tables: Set<String> = ["batch_jobs", "generated_posters", "job_logs", "poster_failure_details"]

    private func fill() async throws {
        try await TestDatabase.current.execute(
            """
            SET search_path = posters;
            INSERT INTO batch_jobs (job_id, campaign_name, status, total_items, completed_at, created_at)
            SELECT 'job_' || g, 'c', CASE WHEN g % 100 = 0 THEN 'processing' ELSE 'completed' END::job_status, 10,
                now(), now() - g * interval '1 s'
            FROM generate_series(1, 5000) g;
            INSERT INTO generated_posters (job_id, username, status, metadata)
            SELECT 'job_' || g / 10, 'u' || g,
                CASE WHEN g % 50 = 0 THEN 'failed' WHEN g % 50 = 1 THEN 'pending' ELSE 'completed' END::job_status,
                jsonb_build_object('user_id', g, 'fetched_from_api', true)
            FROM generate_series(1, 50000) g;
            INSERT INTO job_logs (job_id, message) SELECT 'job_' || g / 10, 'm' FROM generate_series(1, 50000) g;
            INSERT INTO poster_failure_details (job_id, poster_id) SELECT job_id, id FROM generated_posters LIMIT 20000;
            """, "VACUUM ANALYZE")
    }

    @Test func `no query scans a table that grows`() async throws {
        try await fill()
        for query in Self.queries {
            try await StatementPlans.expectNoSequentialScan(of: Self.tables, in: query, schema: "posters")
        }
    }

    private static let queries = [
        """
        SELECT
            username,
            poster_url,
            metadata->>'user_id' as user_id,
            metadata->>'display_name' as display_name,
            metadata->>'profile_pic' as profile_pic
        FROM generated_posters
        WHERE job_id = 'job_1200'
          AND status = 'completed'
          AND metadata ? 'user_id';
        """,
        """
        SELECT username, poster_url
        FROM generated_posters
        WHERE job_id = 'job_1200'
          AND status = 'completed'
          AND NOT (metadata ? 'user_id');
        """,
        """
        SELECT username, poster_url, metadata->>'user_id' as user_id
        FROM generated_posters
        WHERE job_id = 'job_1200' AND status = 'completed'
        """,
        """
        SELECT
            job_id,
            campaign_name,
            status,
            total_items,
            success_count,
            failure_count,
            (success_count::float / NULLIF(total_items, 0) * 100) as success_rate,
            completed_at - started_at as processing_duration
        FROM batch_jobs
        WHERE job_id = 'job_1200';
        """,
        """
        SELECT
            username,
            metadata->>'user_id' as user_id,
            metadata->>'fetched_from_api' as fetched_from_api
        FROM generated_posters
        WHERE job_id = 'job_1200'
          AND metadata ? 'fetched_from_api';
        """,
        """
        -- List all jobs
        SELECT job_id, campaign_name, status, total_items, success_count
        FROM batch_jobs
        ORDER BY created_at DESC
        LIMIT 10;
        """,
        """
        -- Get poster details for a job
        SELECT username, display_name, status,
               metadata->>'user_id' as user_id,
               metadata->>'fetched_from_api' as fetched_from_api
        FROM generated_posters
        WHERE job_id = 'job_1200';
        """,
        """
        -- Check logs for a job
        SELECT level, message, created_at
        FROM job_logs
        WHERE job_id = 'job_1200'
        ORDER BY created_at DESC;
        """,
        "SELECT job_id FROM batch_jobs WHERE status = 'processing' ORDER BY created_at DESC LIMIT 10",
        "SELECT count(*) FROM batch_jobs WHERE status IN ('pending', 'processing', 'failed')",
        "SELECT username FROM generated_posters WHERE metadata @> '{\"user_id\": 4711}'",
        "SELECT * FROM poster_failure_details WHERE job_id = 'job_1200' ORDER BY created_at DESC",
        "SELECT * FROM generated_posters WHERE username = 'u4711'",
        """
        UPDATE generated_posters SET status = 'processing' WHERE id = (
            SELECT id FROM generated_posters WHERE job_id = 'job_1200' AND status = 'pending'
            LIMIT 1 FOR UPDATE SKIP LOCKED)
        """,
    ]

    @Test(arguments: [
        "SELECT finish_poster('00000000-0000-0000-0000-000000000001', 'completed', 'u', 'k', 5)",
        "SELECT finish_poster('00000000-0000-0000-0000-000000000001', 'failed', failure_type => 'timeout')",
        "SELECT retry_failed_posters('job_1200')", "SELECT delete_batch('job_1200')",
    ])
    func `no function scans a table that grows`(call: String) async throws {
        try await fill()
        try await StatementPlans.expectNoSequentialScan(
            of: Self.tables, in: call,
            after: """
                SET LOCAL search_path = posters;
                UPDATE batch_jobs SET total_items = 1 WHERE job_id = 'job_1201';
                INSERT INTO generated_posters (id, job_id) VALUES ('00000000-0000-0000-0000-000000000001', 'job_1201')
                """, schema: "posters")
    }
}

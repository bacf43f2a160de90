import Postgres
import TestSupport
import Testing

/// How videogen's functions and views read tables that grow.
@Suite(.database(.systems), .heavy, .timeLimit(.minutes(10)))
struct VideoGenPlanTests {
    private static let tables: Set<String> = [
        "jobs", "elements", "processing_timeline", "storage_operations", "url_access_logs", "system_metrics",
        "url_access_totals",
    ]

    /// A year with 20,000 jobs, of which a few wait, are at work or have failed.
    private static let fill = """
        SET search_path = videogen;
        SET session_replication_role = replica;
        INSERT INTO jobs (
            id, status, output_format, width, height, client_ip, error_code, file_size_bytes, created_at, started_at,
            completed_at, updated_at, total_elements, completed_elements)
        SELECT ('00000000-0000-4000-8000-' || lpad(g::text, 12, '0'))::uuid,
            (CASE WHEN g <= 100 THEN 'pending' WHEN g <= 120 THEN 'processing' WHEN g % 50 = 0 THEN 'failed'
                ELSE 'completed' END)::job_status,
            'mp4', 2, 2, ('10.0.' || g % 200 || '.' || g % 250)::inet, 'E' || g % 5, 1000, made,
            CASE WHEN g > 100 THEN made END, CASE WHEN g > 120 THEN made + (1 + g % 997) * interval '1 second' END, made, 3, 3
        FROM (SELECT g, now() - g * interval '26 minutes' AS made FROM generate_series(1, 20000) g) j;
        INSERT INTO elements (job_id, element_type, source_url, processing_status)
        SELECT id, 'image', 'https://a', 'completed' FROM jobs, generate_series(1, 3);
        INSERT INTO processing_timeline (job_id, step, attempt, success, started_at, completed_at, duration_ms)
        SELECT id, 'encoding', 1, status = 'completed', started_at, completed_at, 60000 FROM jobs
        WHERE completed_at IS NOT NULL;
        INSERT INTO storage_operations (job_id, operation, bucket, object_key, file_size_bytes, duration_ms, created_at)
        SELECT id, 'upload', 'b', 'k', 1000, 5, completed_at FROM jobs WHERE status = 'completed';
        INSERT INTO url_access_logs (job_id, url, client_ip, http_status, bytes_sent, accessed_at)
        SELECT id, 'https://o', client_ip, 200, 1000, completed_at FROM jobs WHERE status = 'completed';
        INSERT INTO system_metrics (metric_name, metric_value, alert_threshold, recorded_at)
        SELECT 'cpu', g % 100, 99, now() - g * interval '26 minutes' FROM generate_series(1, 20000) g;
        SET session_replication_role = origin;
        SELECT rebuild_statistics();
        """

    /// What a worker or a dashboard asks.
    private static let statements = [
        "SELECT get_job_statistics()",
        "SELECT * FROM get_system_health()", "SELECT * FROM system_health",
        "SELECT * FROM failed_jobs ORDER BY completed_at DESC LIMIT 50", "SELECT * FROM failed_jobs WHERE id = %",
        "SELECT * FROM job_summary WHERE id = %", "SELECT * FROM job_summary ORDER BY created_at DESC LIMIT 50",
        "SELECT * FROM url_access_analytics WHERE job_id = %",
        "SELECT * FROM url_access_analytics ORDER BY accesses DESC LIMIT 20",
        "SELECT * FROM url_access_analytics ORDER BY last_access DESC LIMIT 20", "SELECT * FROM error_analysis",
        "SELECT * FROM active_jobs WHERE processing_health = 'stalled'", "SELECT * FROM active_jobs",
        "SELECT * FROM completed_jobs ORDER BY completed_at DESC LIMIT 50",
        "SELECT * FROM element_summary WHERE job_id = %", "SELECT * FROM processing_step_performance",
        "SELECT * FROM storage_performance", "SELECT * FROM recent_alerts", "SELECT * FROM security_log",
        "SELECT * FROM get_storage_statistics()", "SELECT get_job_details(%)", "SELECT * FROM get_job_timeline(%)",
        "SELECT calculate_job_progress(%)", "SELECT check_rate_limit('10.0.1.1', 100, '1 hour')",
        "SELECT * FROM claim_next_job('w')", "SELECT timeout_stalled_jobs()", "SELECT cancel_job(%)",
        "SELECT complete_job(%, 'https://o')", "SELECT fail_job(%, 'broken')",
        "SELECT start_processing_step(%, 'upload')",
        "SELECT add_job_element(%, 'image', 'https://a')",
        "SELECT update_element_status((SELECT id FROM elements WHERE job_id = % LIMIT 1), 'failed')",
        "SELECT cleanup_old_jobs(200, 100)", "SELECT cleanup_old_metrics(300, 100)",
        "SELECT cleanup_old_access_logs(300, 100)", "SELECT fold_statistics()", "DELETE FROM jobs WHERE id = %",
    ]

    @Test func `nothing that is asked all day reads a table from end to end`() async throws {
        try await TestDatabase.current.execute(Self.fill, "ANALYZE")
        for statement in Self.statements {
            try await StatementPlans.expectNoSequentialScan(
                of: Self.tables.union(["job_statistics", "job_durations"]),
                in: statement.replacing("%", with: "'00000000-0000-4000-8000-000000000110'::uuid"), schema: "videogen")
        }
        // A job with many new accesses is counted once, also if the statistics do not know of them.
        let hot = """
            SELECT log_url_access('00000000-0000-4000-8000-000000000200', 'u') FROM generate_series(1, 300);
            SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off
            """
        let scans = try await StatementPlans.scans(
            of: "SELECT * FROM url_access_analytics WHERE job_id = '00000000-0000-4000-8000-000000000200'", after: hot,
            schema: "videogen")
        #expect(scans.filter { $0.table == "url_access_changes" }.count <= 6)
        // The oldest job that waits is found without the index that has all jobs.
        let health = try await StatementPlans.scans(of: "SELECT * FROM get_system_health()", schema: "videogen")
        #expect(!health.contains { $0.index == "idx_jobs_created_at" })
        try await StatementPlans.expectNoSequentialScan(
            of: Self.tables, in: "SELECT * FROM job_summary ORDER BY created_at DESC LIMIT 50",
            after: "SET LOCAL ROLE anon", schema: "videogen")
    }
}

import Foundation
import Postgres
import TestSupport
import Testing

/// videogen under twenty callers.
@Suite(.database(.systems), .heavy, .timeLimit(.minutes(20)))
struct VideoGenModelTests {
    private static func randomJob(_ condition: String = "true") -> String {
        "(SELECT id FROM jobs WHERE \(condition) ORDER BY random() LIMIT 1)"
    }

    /// A call of a function with a random job, if there is one.
    private static func call(_ name: String, weight: Int, _ sql: String) -> RandomCalls.Call {
        RandomCalls.Call(name, weight: weight) { connection, _ in try connection.execute(sql) }
    }

    /// As the service that works, without the rights of the owner.
    private static func asService(_ name: String, weight: Int, _ sql: String) -> RandomCalls.Call {
        RandomCalls.Call(name, weight: weight) { connection, _ in
            try connection.transaction {
                try connection.execute("SET LOCAL ROLE service_role")
                try connection.execute(sql)
            }
        }
    }

    private static let calls: [RandomCalls.Call] = [
        asService("create_job", weight: 6, "SELECT create_job('mp4', 1920, 1080, client_ip => '10.0.0.1')"),
        RandomCalls.Call("create_job as a client") { connection, _ in
            try connection.transaction {
                try connection.execute("SET LOCAL ROLE anon")
                try connection.execute("SELECT create_job('mp4', 1920, 1080)")
            }
        },
        call(
            "add_job_element", weight: 12,
            "SELECT add_job_element(id, 'image', 'https://a') FROM \(randomJob("status IN ('pending', 'processing')")) j"
        ),
        call(
            "several elements", weight: 3,
            """
            INSERT INTO elements (job_id, element_type, source_url)
            SELECT j.id, 'image', 'https://a' FROM (SELECT id FROM jobs WHERE status = 'pending' ORDER BY random() LIMIT 3) j,
                generate_series(1, 4)
            """),
        asService("claim_next_job", weight: 8, "SELECT claim_next_job('w' || pg_backend_pid())"),
        asService(
            "start_processing_step", weight: 8,
            """
            SELECT start_processing_step(id, (enum_range(NULL::processing_step))[1 + floor(random() * 7)::integer])
            FROM \(randomJob("status = 'processing'")) j
            """),
        asService(
            "complete_processing_step", weight: 8,
            """
            SELECT complete_processing_step(id, random() < 0.9)
            FROM (SELECT id FROM processing_timeline WHERE completed_at IS NULL ORDER BY random() LIMIT 1) t
            """),
        asService(
            "update_element_status", weight: 20,
            """
            SELECT update_element_status(id, (ARRAY['processing', 'completed', 'completed', 'failed']::job_status[])
                [1 + floor(random() * 4)::integer], processing_time_ms => 5)
            FROM (
                SELECT e.id FROM elements e JOIN jobs j ON j.id = e.job_id WHERE j.status = 'processing'
                ORDER BY random() LIMIT 1) t
            """),
        RandomCalls.Call("all elements of a job", weight: 2) { connection, _ in
            try connection.transaction {
                guard let job = try connection.query("SELECT id FROM \(randomJob()) j").first?.get(0, as: UUID.self)
                else { return }
                try connection.query("SELECT lock_job($1)", [job])
                try connection.query("UPDATE elements SET processing_status = 'completed' WHERE job_id = $1", [job])
            }
        },
        call(
            "delete an element", weight: 1,
            "DELETE FROM elements WHERE id = (SELECT e.id FROM elements e JOIN jobs j ON j.id = e.job_id WHERE j.status = 'cancelled' LIMIT 1)"
        ),
        asService(
            "complete_job", weight: 3,
            "SELECT complete_job(id, 'https://o', 1000) FROM \(randomJob("status = 'processing'")) j"),
        asService(
            "fail_job", weight: 3, "SELECT fail_job(id, 'broken', 'E1') FROM \(randomJob("status = 'processing'")) j"),
        asService(
            "retry_job", weight: 3, "SELECT retry_job(id) FROM \(randomJob("status IN ('failed', 'timeout')")) j"),
        asService("cancel_job", weight: 1, "SELECT cancel_job(id) FROM \(randomJob()) j"),
        asService("timeout_stalled_jobs", weight: 1, "SELECT timeout_stalled_jobs('1 second')"),
        asService(
            "log_url_access", weight: 6,
            "SELECT log_url_access(id, 'https://o', '10.0.0.2', bytes_sent => 10, response_time_ms => 3) FROM \(randomJob()) j"
        ),
        asService(
            "log_storage_operation", weight: 2,
            "SELECT log_storage_operation(id, 'upload', 'b', 'k', true, 10, 5) FROM \(randomJob()) j"),
        call("delete a job", weight: 1, "DELETE FROM jobs WHERE id = \(randomJob())"),
        RandomCalls.Call("cleanup_old_jobs") { connection, _ in
            try connection.transaction {
                try connection.execute("SET LOCAL ROLE admin")
                try connection.execute("SELECT cleanup_old_jobs(0, 2)")
            }
        },
        asService("fold_statistics", weight: 1, "SELECT fold_statistics(50)"),
        asService("get_job_statistics", weight: 1, "SELECT * FROM get_job_statistics()"),
        asService("get_system_health", weight: 1, "SELECT * FROM get_system_health()"),
        asService("job_summary", weight: 1, "SELECT * FROM job_summary ORDER BY created_at DESC LIMIT 20"),
    ]

    private static let invariants: [RandomCalls.Invariant] = [
        .init(
            "a job counts its elements",
            """
            SELECT j.id, j.total_elements, j.completed_elements, j.failed_elements, e.* FROM jobs j CROSS JOIN LATERAL (
                SELECT count(*) AS total, count(*) FILTER (WHERE processing_status = 'completed') AS completed,
                    count(*) FILTER (WHERE processing_status = 'failed') AS failed
                FROM elements WHERE job_id = j.id) e
            WHERE (j.total_elements, j.completed_elements, j.failed_elements) IS DISTINCT FROM (e.total, e.completed, e.failed)
            """),
        .init(
            "the progress of a job at work is what its steps and elements say",
            """
            SELECT id, attempt, progress_percentage, calculate_job_progress(id) FROM jobs
            WHERE status = 'processing' AND progress_percentage <> calculate_job_progress(id)
            """),
        .init(
            "the summaries count the jobs",
            """
            SELECT * FROM (
                SELECT hour, status, sum(jobs) AS jobs, sum(timed_jobs) AS timed, sum(processing_seconds) AS seconds,
                    sum(output_bytes) AS bytes, sum(elements) AS elements
                FROM (
                    SELECT hour, status, jobs, timed_jobs, processing_seconds, output_bytes, elements FROM job_statistics
                    UNION ALL
                    SELECT hour, status, jobs, timed_jobs, processing_seconds, output_bytes, elements
                    FROM job_statistics_changes) s
                GROUP BY hour, status HAVING sum(jobs) <> 0) kept
            FULL JOIN (
                SELECT date_trunc('hour', created_at, 'UTC') AS hour, status, count(*) AS jobs,
                    count(*) FILTER (WHERE status = 'completed') AS timed,
                    coalesce(sum(extract(epoch FROM completed_at - started_at)) FILTER (WHERE status = 'completed'), 0)
                        AS seconds,
                    coalesce(sum(file_size_bytes), 0) AS bytes, sum(total_elements) AS elements
                FROM jobs GROUP BY 1, 2) counted USING (hour, status)
            WHERE (kept.jobs, kept.timed, kept.seconds, kept.bytes, kept.elements)
                IS DISTINCT FROM (counted.jobs, counted.timed, counted.seconds, counted.bytes, counted.elements)
            """),
        .init(
            "the histogram counts the completed jobs",
            """
            SELECT * FROM (
                SELECT coalesce((SELECT sum(jobs) FROM job_durations), 0)
                    + coalesce((SELECT sum(timed_jobs) FROM job_statistics_changes WHERE bucket IS NOT NULL), 0) AS kept,
                (SELECT count(*) FROM jobs WHERE status = 'completed') AS counted) c
            WHERE kept <> counted
            """),
        .init(
            "the accesses are those of the log",
            """
            SELECT * FROM url_access_analytics a FULL JOIN (
                SELECT job_id, count(*) AS logged, sum(bytes_sent) AS bytes FROM url_access_logs GROUP BY job_id) l
                USING (job_id)
            WHERE (a.accesses, a.total_bytes) IS DISTINCT FROM (l.logged, l.bytes)
            """),
        .init(
            "statuses and times agree",
            """
            SELECT id, status FROM jobs WHERE CASE status
                WHEN 'pending' THEN started_at IS NOT NULL OR completed_at IS NOT NULL OR worker_id IS NOT NULL
                    OR progress_percentage <> 0
                WHEN 'processing' THEN started_at IS NULL OR completed_at IS NOT NULL
                WHEN 'completed' THEN completed_at IS NULL OR progress_percentage <> 100
                ELSE completed_at IS NULL END
            """),
        .init("no job waits that is done", "SELECT id FROM jobs WHERE status = 'pending' AND output_url IS NOT NULL"),
        .init(
            "a step belongs to an attempt that was",
            "SELECT t.id FROM processing_timeline t JOIN jobs j ON j.id = t.job_id WHERE t.attempt > j.attempt"),
    ]

    @Test func `random calls keep the invariants`() async throws {
        try await TestDatabase.current.execute(
            "SELECT videogen.create_job('mp4', 2, 2) FROM generate_series(1, 40)")
        try await RandomCalls(
            schema: "videogen", calls: Self.calls, invariants: Self.invariants,
            // A job that another has just removed (23503) or moved on (23514), and the limit of clients.
            refusals: ["23503", "23514", "PT429"]
        ).run()
    }
}

"""videogen: a row is a job. Each has three elements, three steps, a storage operation, two accesses and a metric."""
from . import OPEN, Call, key

# One in fifty fails, one in five hundred takes too long.
STATUS = f"""CASE WHEN n <= 200 THEN 'processing' WHEN n <= {OPEN} THEN 'pending' WHEN n % 500 = 0 THEN 'timeout'
    WHEN n % 50 = 0 THEN 'failed' WHEN n % 101 = 0 THEN 'cancelled' ELSE 'completed' END"""
# What has ended is spread over a year; what is open is of the last hour.
MADE = f"""CASE WHEN n <= {OPEN} THEN now() - interval '3 minutes' - n * interval '1.5 seconds'
    ELSE now() - interval '365 days' * ((n - {OPEN})::float8 / (:rows - {OPEN})) END"""
NUMBERED = f"(SELECT n, {STATUS} AS status, {MADE} AS made FROM generate_series(:rows, 1, -1) n) s"
# The keys of what belongs to a job ascend with time, which is quicker to make than keys that are scattered.
NUMBER = "lpad(to_hex((:rows - n) * 4 + e), 32, '0')::uuid"

FILL = f"""
UPDATE client_ip_source SET gateway_role = 'postgres';
INSERT INTO jobs (
    id, status, priority, output_format, width, height, duration_seconds, request_payload, client_ip, user_agent,
    progress_percentage, current_step, worker_id, total_elements, completed_elements, failed_elements, error_code,
    error_message, s3_bucket, s3_key, s3_region, output_url,
    file_size_bytes, created_at, started_at, completed_at, updated_at)
SELECT md5('job' || n)::uuid, status::job_status, CASE n WHEN 300 THEN -1 ELSE 0 END, 'mp4', 1920, 1080, 30 + n % 60,
    jsonb_build_object('template', 'summer-' || n % 40, 'title', 'A film about product ' || n),
    '10.0.0.0'::inet + n % 50000, 'Mozilla/5.0 (X11; Linux x86_64) bench/' || n % 20,
    CASE status WHEN 'completed' THEN 100 WHEN 'pending' THEN 0 ELSE 5 END,
    CASE WHEN status <> 'pending' THEN 'processing'::processing_step END,
    CASE WHEN status <> 'pending' THEN 'worker-' || n % 20 END,
    3, CASE status WHEN 'completed' THEN 3 WHEN 'pending' THEN 0 ELSE 2 END, (status IN ('failed', 'timeout'))::integer,
    CASE status WHEN 'timeout' THEN 'timeout' WHEN 'failed' THEN 'E' || n % 23 END,
    CASE WHEN status IN ('timeout', 'failed') THEN 'the encoder ended with code ' || n % 23 END,
    'videos', 'films/' || n || '.mp4', 'eu-central-1',
    CASE WHEN status = 'completed' THEN 'https://videos.example.com/films/' || n || '.mp4' END,
    CASE WHEN status = 'completed' THEN 20000000 + n END, made,
    CASE WHEN status <> 'pending' THEN made + interval '20 seconds' END,
    CASE WHEN status NOT IN ('pending', 'processing') THEN made + (80 + n % 90) * interval '1 second' END,
    CASE WHEN n <= 20 THEN now() - interval '20 minutes' ELSE made + interval '80 seconds' END
FROM {NUMBERED};
INSERT INTO elements (
    id, job_id, element_type, source_url, text_content, track, z_index, start_time, duration, processing_status,
    processing_time_ms, error_message, created_at, updated_at)
SELECT {NUMBER}, md5('job' || n)::uuid, (ARRAY['video', 'image', 'text'])[e]::element_type,
    CASE WHEN e < 3 THEN 'https://sources.example.com/' || n || '/' || e END, CASE WHEN e = 3 THEN 'Buy now' END, e, e,
    e, 10, CASE WHEN status IN ('pending', 'completed') THEN status WHEN e < 3 THEN 'completed'
        WHEN status IN ('failed', 'timeout') THEN 'failed' ELSE 'pending' END::job_status,
    CASE WHEN status <> 'pending' THEN 500 + n % 900 END,
    CASE WHEN status IN ('failed', 'timeout') AND e = 3 THEN 'no such font' END, made, made
FROM {NUMBERED}, generate_series(1, 3) e;
INSERT INTO processing_timeline (
    id, job_id, step, attempt, success, started_at, completed_at, duration_ms, cpu_percent, memory_mb, error_message)
SELECT {NUMBER}, md5('job' || n)::uuid,
    (ARRAY['validation', 'processing', 'upload'])[e]::processing_step, 1,
    CASE WHEN status = 'processing' AND e = 2 THEN NULL ELSE e < 2 OR status NOT IN ('failed', 'timeout') END,
    made + e * interval '20 seconds',
    CASE WHEN status <> 'processing' OR e < 2 THEN made + (e + 1) * interval '20 seconds' END,
    CASE WHEN status <> 'processing' OR e < 2 THEN 15000 + n % 7000 END, n % 100, 200 + n % 800,
    CASE WHEN e = 2 AND status IN ('failed', 'timeout') THEN 'the encoder ended' END
FROM {NUMBERED}, generate_series(1, 3) e
WHERE status <> 'pending' AND (e < 3 OR status = 'completed');
INSERT INTO storage_operations (
    id, job_id, operation, bucket, object_key, success, file_size_bytes, duration_ms, http_status, created_at)
SELECT lpad(to_hex(:rows - n), 32, '0')::uuid, md5('job' || n)::uuid, 'upload', 'videos',
    'films/' || n || '.mp4', n % 67 <> 0, 20000000 + n, 900 + n % 2000,
    CASE WHEN n % 67 <> 0 THEN 200 ELSE 503 END, made + interval '75 seconds'
FROM {NUMBERED} WHERE status = 'completed';
-- Each film once, and as often again those one in a hundred that many watch.
INSERT INTO url_access_logs (
    job_id, url, client_ip, user_agent, country, city, http_status, bytes_sent, response_time_ms, accessed_at)
SELECT md5('job' || n)::uuid, 'https://videos.example.com/films/' || n || '.mp4', '172.16.0.0'::inet + n % 70000,
    'Mozilla/5.0', (ARRAY['DE', 'FR', 'US', 'IN', 'BR'])[1 + n % 5], 'City ' || n % 300,
    CASE WHEN n % 40 = 0 THEN 404 ELSE 200 END, 20000000, 20 + n % 300, greatest(made, now() - interval '364 days')
FROM (SELECT n, {MADE} AS made, {STATUS} AS status FROM generate_series(:rows, 1, -1) n
    UNION ALL
    SELECT {OPEN} + 1 + n % (:rows / 100), now() - interval '20 days' * (n::float8 / :rows), 'completed'
    FROM generate_series(:rows, 1, -1) n) s
WHERE status = 'completed';
INSERT INTO system_metrics (metric_name, metric_value, unit, labels, alert_threshold, recorded_at)
SELECT CASE WHEN n % 50 = 0 THEN 'security_event' ELSE 'metric_' || n % 12 END, n % 1000, 'items',
    CASE WHEN n % 50 = 0 THEN jsonb_build_object('event_type', 'rate_limit', 'details', '{{}}'::jsonb, 'role', 'anon',
        'session_user', 'authenticator', 'client_ip', host('10.0.0.0'::inet + n % 50000))
    ELSE jsonb_build_object('host', 'node-' || n % 8) END,
    CASE WHEN n % 50 <> 0 THEN 998 END, now() - interval '365 days' * (n::float8 / :rows)
FROM generate_series(:rows, 1, -1) n;
SELECT rebuild_statistics();
"""

# The one that waits has the lowest priority, so that no worker takes it.
ENDED, FAILED, RUNNING, WAITING = key("job", OPEN + 101), key("job", OPEN + 550), key("job", 7), key("job", 300)
# As the API gateway tells of a client from whose address that job was made.
CLIENT = f"""SET LOCAL request.headers = '{{"x-forwarded-for": "10.0.{(OPEN + 101) // 256}.{(OPEN + 101) % 256}"}}';"""
MANY = f"""
INSERT INTO elements (job_id, element_type, text_content)
SELECT {WAITING}, 'text', 'Element ' || n FROM generate_series(1, 5000) n;
UPDATE jobs SET status = 'processing' WHERE id = {WAITING};"""


def service(name, sql, target="<50", before=""):
    return Call(name, sql, target, "service_role", before)


CALLS = [
    # Dashboards
    service("get_job_statistics_month", "SELECT * FROM get_job_statistics(current_date - 30, current_date)"),
    service("get_job_statistics_day", "SELECT * FROM get_job_statistics(current_date, current_date)"),
    service("get_job_statistics_year", "SELECT * FROM get_job_statistics(current_date - 365, current_date)", "report"),
    service("get_system_health", "SELECT * FROM get_system_health()"),
    service("system_health", "SELECT * FROM system_health"),
    service("get_storage_statistics", "SELECT * FROM get_storage_statistics()"),
    service("job_summary_by_id", f"SELECT * FROM job_summary WHERE id = {ENDED}"),
    service("job_summary_newest", "SELECT * FROM job_summary ORDER BY created_at DESC LIMIT 50"),
    service("job_summary_failed",
        "SELECT * FROM job_summary WHERE status = 'failed' ORDER BY created_at DESC LIMIT 50"),
    service("active_jobs", "SELECT * FROM active_jobs"),
    service("active_jobs_stalled", "SELECT * FROM active_jobs WHERE processing_health = 'stalled'"),
    service("completed_jobs_newest", "SELECT * FROM completed_jobs ORDER BY completed_at DESC LIMIT 50"),
    service("failed_jobs_newest", "SELECT * FROM failed_jobs ORDER BY completed_at DESC LIMIT 50"),
    service("failed_jobs_day", "SELECT * FROM failed_jobs WHERE completed_at > now() - interval '1 day'"),
    service("failed_jobs_all", "SELECT * FROM failed_jobs", "report"),
    service("error_analysis", "SELECT * FROM error_analysis ORDER BY occurrences DESC"),
    service("element_summary_by_job", f"SELECT * FROM element_summary WHERE job_id = {ENDED}"),
    service("processing_step_performance", "SELECT * FROM processing_step_performance", "report"),
    service("storage_performance_day",
        "SELECT * FROM storage_performance WHERE hour > now() - interval '1 day' ORDER BY hour"),
    service("url_access_analytics_by_job", f"SELECT * FROM url_access_analytics WHERE job_id = {ENDED}"),
    service("url_access_analytics_newest", "SELECT * FROM url_access_analytics ORDER BY last_access DESC LIMIT 50"),
    service("url_access_analytics_most", "SELECT * FROM url_access_analytics ORDER BY accesses DESC LIMIT 50"),
    service("hourly_job_statistics_day",
        "SELECT * FROM hourly_job_statistics WHERE hour > now() - interval '1 day' ORDER BY hour"),
    service("daily_job_statistics_month",
        "SELECT * FROM daily_job_statistics WHERE day > current_date - 30 ORDER BY day"),
    service("recent_alerts", "SELECT * FROM recent_alerts ORDER BY recorded_at DESC"),
    service("security_log_newest", "SELECT * FROM security_log ORDER BY recorded_at DESC LIMIT 50"),
    service("get_job_details", f"SELECT get_job_details({ENDED})"),
    service("get_job_timeline", f"SELECT * FROM get_job_timeline({ENDED})"),
    service("calculate_job_progress", f"SELECT calculate_job_progress({RUNNING})"),
    # Clients, through the policies
    Call("client_jobs_newest", "SELECT * FROM jobs ORDER BY created_at DESC LIMIT 20", "<50", "anon", CLIENT),
    Call("client_job_summary", f"SELECT * FROM job_summary WHERE id = {ENDED}", "<50", "anon", CLIENT),
    Call("client_elements", f"SELECT * FROM elements WHERE job_id = {ENDED}", "<50", "anon", CLIENT),
    Call("client_can_subscribe", f"SELECT can_subscribe_to_job({ENDED})", "<50", "anon", CLIENT),
    Call("client_create_job", "SELECT create_job('mp4', 1920, 1080, 25, '127.0.0.1'::inet, 'test-agent', '{}')",
        "<50", "anon", CLIENT),
    Call("client_log_security_event", "SELECT log_security_event('unauthorized_access', '{\"details\": \"none\"}')",
        "<50", "anon", CLIENT),
    # Workers
    service("create_job", "SELECT create_job('mp4', 1920, 1080, 25, '192.0.2.7'::inet, 'test-agent', '{}')"),
    service("check_rate_limit", "SELECT check_rate_limit('10.0.8.53'::inet, 100, '1 hour'::interval)"),
    service("add_job_element",
        f"SELECT add_job_element({WAITING}, 'image', 'https://sources.example.com/x.png')"),
    service("claim_next_job", "SELECT * FROM claim_next_job('worker-1')"),
    service("update_job_status", f"SELECT update_job_status({RUNNING}, 'completed')"),
    service("complete_job", f"SELECT complete_job({RUNNING}, 'https://videos.example.com/x.mp4', 1000)"),
    service("fail_job", f"SELECT fail_job({RUNNING}, 'the encoder ended', 'E7')"),
    service("cancel_job", f"SELECT cancel_job({WAITING})"),
    service("retry_job", f"SELECT retry_job({FAILED})"),
    service("timeout_stalled_jobs", "SELECT timeout_stalled_jobs('15 minutes')"),
    service("start_processing_step", f"SELECT start_processing_step({RUNNING}, 'encoding')"),
    service("complete_processing_step", "SELECT complete_processing_step(:'step')", before=f"""
        SELECT id AS step FROM processing_timeline WHERE job_id = {RUNNING} AND success IS NULL \\gset"""),
    service("update_element_status", "SELECT update_element_status(:'element', 'completed', NULL, 120)",
        before=f"SELECT id AS element FROM elements WHERE job_id = {RUNNING} AND track = 3 \\gset"),
    service("elements_5000_in_one_update",
        f"UPDATE elements SET processing_status = 'completed' WHERE job_id = {WAITING}", "<1000", MANY),
    service("log_storage_operation",
        f"SELECT log_storage_operation({ENDED}, 'download', 'videos', 'films/x.mp4', true, 1000, 20)"),
    service("log_url_access", f"SELECT log_url_access({ENDED}, 'https://videos.example.com/films/x.mp4')"),
    service("record_metric", "SELECT record_metric('queue_length', 12)"),
    # Clean-up of what is older than 364 days: a day's worth
    Call("cleanup_old_jobs_day", "SELECT cleanup_old_jobs(364)", "report", "admin"),
    Call("cleanup_old_metrics_day", "SELECT cleanup_old_metrics(364)", "report", "admin"),
    Call("cleanup_old_access_logs_day", "SELECT cleanup_old_access_logs(363)", "report", "admin"),
]

CHURN_ROLE = "service_role"
CHURN = """\\set n random(1, 1000000)
SELECT create_job('mp4', 1920, 1080, 25, '192.0.0.0'::inet + :n::bigint, 'bench');
SELECT id AS job FROM claim_next_job('worker-' || :client_id::int) \\gset
SELECT start_processing_step(:job::uuid, 'processing') AS step \\gset
SELECT complete_processing_step(:step::uuid);
SELECT complete_job(:job::uuid, 'https://videos.example.com/x.mp4', 1000);
SELECT log_url_access(:job::uuid, 'https://videos.example.com/x.mp4');
"""
SUPPLY = """INSERT INTO jobs (output_format, width, height, client_ip)
SELECT 'mp4', 1920, 1080, '192.0.0.0'::inet + n FROM generate_series(1, 2000) n;"""
CLAIM = """SELECT id AS job FROM claim_next_job('worker-' || :client_id::int) \\gset
SELECT complete_job(:job::uuid, 'https://videos.example.com/x.mp4', 1000);
"""

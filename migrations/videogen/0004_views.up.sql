-- Views read with the rights of who asks, so that row-level security holds in them too.

-- A job with what belongs to it, counted.
CREATE VIEW job_summary WITH (security_invoker = true) AS
SELECT j.id, j.status, j.response_type, j.output_format, j.width, j.height, j.fps, j.duration_seconds,
    j.progress_percentage, j.current_step, j.priority, j.client_ip, j.retry_count, j.error_code, j.error_message,
    j.output_url, j.file_size_bytes, j.created_at, j.started_at, j.completed_at, j.updated_at,
    coalesce(e.total, 0) AS total_elements, coalesce(e.done, 0) AS completed_elements,
    coalesce(e.failed, 0) AS failed_elements, coalesce(a.accesses, 0) AS url_accesses,
    extract(epoch FROM coalesce(j.completed_at, now()) - j.started_at)::numeric(12, 3) AS processing_seconds,
    extract(epoch FROM coalesce(j.started_at, now()) - j.created_at)::numeric(12, 3) AS queue_seconds
FROM jobs j
LEFT JOIN LATERAL (
    SELECT count(*) AS total, count(*) FILTER (WHERE processing_status = 'completed') AS done,
        count(*) FILTER (WHERE processing_status = 'failed') AS failed
    FROM elements WHERE job_id = j.id) e ON true
LEFT JOIN LATERAL (SELECT count(*) AS accesses FROM url_access_logs WHERE job_id = j.id) a ON true;

-- Jobs that wait or are at work, and whether they move: healthy, slow after 5 minutes without a change, stalled
-- after 10.
CREATE VIEW active_jobs WITH (security_invoker = true) AS
SELECT j.id, j.status, j.output_format, j.progress_percentage, j.current_step, j.worker_id, j.priority, j.client_ip,
    j.created_at, j.started_at, j.updated_at,
    extract(epoch FROM now() - j.updated_at)::numeric(12, 3) AS seconds_since_update,
    CASE
        WHEN j.status = 'pending' AND j.created_at > now() - interval '10 minutes' THEN 'healthy'
        WHEN j.updated_at > now() - interval '5 minutes' THEN 'healthy'
        WHEN j.updated_at > now() - interval '10 minutes' THEN 'slow'
        ELSE 'stalled'
    END AS processing_health
FROM jobs j WHERE j.status IN ('pending', 'processing');

CREATE VIEW completed_jobs WITH (security_invoker = true) AS
SELECT id, output_format, width, height, fps, output_url, url_expires_at, file_size_bytes, client_ip, created_at,
    started_at, completed_at, extract(epoch FROM completed_at - started_at)::numeric(12, 3) AS processing_seconds
FROM jobs WHERE status = 'completed';

CREATE VIEW failed_jobs WITH (security_invoker = true) AS
SELECT j.id, j.status, j.error_code, j.error_message, j.retry_count, j.max_retries,
    j.retry_count < j.max_retries AS may_be_retried, j.created_at, j.completed_at, t.step AS failed_step,
    t.error_message AS step_error
FROM jobs j
LEFT JOIN LATERAL (
    SELECT step, error_message FROM processing_timeline
    WHERE job_id = j.id AND success = false ORDER BY started_at DESC LIMIT 1) t ON true
WHERE j.status IN ('failed', 'timeout');

CREATE VIEW element_summary WITH (security_invoker = true) AS
SELECT job_id, element_type, count(*) AS elements, count(*) FILTER (WHERE processing_status = 'completed') AS completed,
    count(*) FILTER (WHERE processing_status = 'failed') AS failed,
    round(avg(processing_time_ms), 1) AS avg_processing_time_ms
FROM elements GROUP BY job_id, element_type;

CREATE VIEW processing_step_performance WITH (security_invoker = true) AS
SELECT step, count(*) AS runs, count(*) FILTER (WHERE success) AS succeeded, count(*) FILTER (WHERE NOT success) AS failed,
    round(100.0 * count(*) FILTER (WHERE success) / nullif(count(*) FILTER (WHERE success IS NOT NULL), 0), 2) AS success_rate,
    round(avg(duration_ms), 1) AS avg_duration_ms,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_duration_ms,
    round(avg(cpu_percent), 2) AS avg_cpu_percent, max(memory_mb) AS max_memory_mb
FROM processing_timeline GROUP BY step;

CREATE VIEW storage_performance WITH (security_invoker = true) AS
SELECT date_trunc('hour', created_at) AS hour, operation, count(*) AS operations,
    count(*) FILTER (WHERE NOT success) AS failures, coalesce(sum(file_size_bytes), 0) AS total_bytes,
    round(avg(duration_ms), 1) AS avg_duration_ms
FROM storage_operations GROUP BY 1, 2;

CREATE VIEW url_access_analytics WITH (security_invoker = true) AS
SELECT job_id, count(*) AS accesses, count(DISTINCT client_ip) AS distinct_clients,
    count(*) FILTER (WHERE http_status >= 400) AS errors, coalesce(sum(bytes_sent), 0) AS total_bytes,
    round(avg(response_time_ms), 1) AS avg_response_time_ms, count(DISTINCT country) AS countries,
    min(accessed_at) AS first_access, max(accessed_at) AS last_access
FROM url_access_logs GROUP BY job_id;

CREATE VIEW hourly_job_statistics WITH (security_invoker = true) AS
SELECT date_trunc('hour', created_at) AS hour, count(*) AS total_jobs,
    count(*) FILTER (WHERE status = 'completed') AS completed, count(*) FILTER (WHERE status IN ('failed', 'timeout')) AS failed,
    round(avg(extract(epoch FROM completed_at - started_at)) FILTER (WHERE status = 'completed'), 3) AS avg_processing_seconds
FROM jobs GROUP BY 1;

CREATE VIEW daily_job_statistics WITH (security_invoker = true) AS
SELECT date_trunc('day', created_at)::date AS day, count(*) AS total_jobs,
    count(*) FILTER (WHERE status = 'completed') AS completed, count(*) FILTER (WHERE status IN ('failed', 'timeout')) AS failed,
    count(DISTINCT client_ip) AS distinct_clients, coalesce(sum(file_size_bytes), 0) AS output_bytes
FROM jobs GROUP BY 1;

CREATE VIEW error_analysis WITH (security_invoker = true) AS
SELECT coalesce(j.error_code, 'unknown') AS error_code, t.step AS failed_step, count(*) AS occurrences,
    max(j.completed_at) AS last_seen, min(j.error_message) AS example
FROM jobs j
LEFT JOIN LATERAL (
    SELECT step FROM processing_timeline WHERE job_id = j.id AND success = false ORDER BY started_at DESC LIMIT 1) t ON true
WHERE j.status IN ('failed', 'timeout') GROUP BY 1, 2;

CREATE VIEW recent_alerts WITH (security_invoker = true) AS
SELECT id, metric_name, metric_value, unit, alert_threshold, labels, recorded_at
FROM system_metrics WHERE is_alert AND recorded_at > now() - interval '24 hours';

CREATE VIEW security_log WITH (security_invoker = true) AS
SELECT id, recorded_at, labels ->> 'event_type' AS event_type, labels -> 'details' AS details,
    labels ->> 'role' AS role, labels ->> 'session_user' AS session_user_name,
    (labels ->> 'client_ip')::inet AS client_ip
FROM system_metrics WHERE metric_name = 'security_event';

CREATE VIEW system_health WITH (security_invoker = true) AS SELECT * FROM get_system_health();

-- The names total_time and mean_time that pg_stat_statements had before PostgreSQL 13, beside those of today, for
-- those who ask by the old ones. Only where the extension is there.
DO $$
DECLARE
    home text;
BEGIN
    SELECT n.nspname INTO home FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'pg_stat_statements';
    IF home IS NULL THEN
        RAISE NOTICE 'pg_stat_statements is not there, so its view is not made';
        RETURN;
    END IF;
    EXECUTE format(
        'CREATE VIEW pg_stat_statements AS
         SELECT s.*, s.total_exec_time AS total_time, s.mean_exec_time AS mean_time FROM %I.pg_stat_statements s', home);
END $$;

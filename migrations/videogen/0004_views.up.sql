-- Views read with the rights of who asks, so that row-level security holds in them too. What they show of a job, or of
-- the newest jobs, costs the same however many there are. Reports read all that their conditions leave: give them one.

-- A job with what belongs to it, counted.
CREATE VIEW job_summary WITH (security_invoker = true) AS
SELECT j.id, j.status, j.response_type, j.output_format, j.width, j.height, j.fps, j.duration_seconds,
    j.progress_percentage, j.current_step, j.priority, j.client_ip, j.retry_count, j.error_code, j.error_message,
    j.output_url, j.file_size_bytes, j.created_at, j.started_at, j.completed_at, j.updated_at,
    j.total_elements, j.completed_elements, j.failed_elements,
    ((SELECT coalesce(sum(t.accesses), 0) FROM url_access_totals t WHERE t.job_id = j.id AND removal.id IS NULL)
        + (SELECT coalesce(sum(c.accesses), 0) FROM url_access_changes c
            WHERE c.job_id = j.id AND (removal.id IS NULL OR c.id > removal.id)))::bigint AS url_accesses,
    round(extract(epoch FROM coalesce(j.completed_at, now()) - j.started_at)::numeric, 3) AS processing_seconds,
    round(extract(epoch FROM coalesce(j.started_at, now()) - j.created_at)::numeric, 3) AS queue_seconds
FROM jobs j
-- An earlier job of the same id.
CROSS JOIN LATERAL (SELECT max(c.id) AS id FROM url_access_changes c WHERE c.job_id = j.id AND c.is_removed) removal;

-- Jobs that wait or are at work, and whether they move: healthy, slow after 5 minutes without a change, stalled
-- after 10.
CREATE VIEW active_jobs WITH (security_invoker = true) AS
SELECT j.id, j.status, j.output_format, j.progress_percentage, j.current_step, j.worker_id, j.priority, j.client_ip,
    j.created_at, j.started_at, j.updated_at,
    round(extract(epoch FROM now() - j.updated_at)::numeric, 3) AS seconds_since_update,
    CASE
        WHEN j.status = 'pending' AND j.created_at > now() - interval '10 minutes' THEN 'healthy'
        WHEN j.updated_at > now() - interval '5 minutes' THEN 'healthy'
        WHEN j.updated_at > now() - interval '10 minutes' THEN 'slow'
        ELSE 'stalled'
    END AS processing_health
FROM jobs j WHERE j.status IN ('pending', 'processing');

CREATE VIEW completed_jobs WITH (security_invoker = true) AS
SELECT id, output_format, width, height, fps, output_url, url_expires_at, file_size_bytes, client_ip, created_at,
    started_at, completed_at, round(extract(epoch FROM completed_at - started_at)::numeric, 3) AS processing_seconds
FROM jobs WHERE status = 'completed';

CREATE VIEW failed_jobs WITH (security_invoker = true) AS
SELECT j.id, j.status, j.error_code, j.error_message, j.retry_count, j.max_retries,
    j.retry_count < j.max_retries AS may_be_retried, j.created_at, j.completed_at,
    (SELECT t.step FROM processing_timeline t
        WHERE t.job_id = j.id AND t.success = false ORDER BY t.started_at DESC LIMIT 1) AS failed_step,
    (SELECT t.error_message FROM processing_timeline t
        WHERE t.job_id = j.id AND t.success = false ORDER BY t.started_at DESC LIMIT 1) AS step_error
FROM jobs j
WHERE j.status IN ('failed', 'timeout');

-- A report.
CREATE VIEW element_summary WITH (security_invoker = true) AS
SELECT job_id, element_type, count(*) AS elements, count(*) FILTER (WHERE processing_status = 'completed') AS completed,
    count(*) FILTER (WHERE processing_status = 'failed') AS failed,
    round(avg(processing_time_ms), 1) AS avg_processing_time_ms
FROM elements GROUP BY job_id, element_type;

-- Of the newest 10,000 steps.
CREATE VIEW processing_step_performance WITH (security_invoker = true) AS
SELECT step, count(*) AS runs, count(*) FILTER (WHERE success) AS succeeded, count(*) FILTER (WHERE NOT success) AS failed,
    round(100.0 * count(*) FILTER (WHERE success) / nullif(count(*) FILTER (WHERE success IS NOT NULL), 0), 2) AS success_rate,
    round(avg(duration_ms), 1) AS avg_duration_ms,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_duration_ms,
    round(avg(cpu_percent), 2) AS avg_cpu_percent, max(memory_mb) AS max_memory_mb
FROM (SELECT * FROM processing_timeline ORDER BY started_at DESC LIMIT 10000) newest GROUP BY step;

-- Of the newest 10,000 operations.
CREATE VIEW storage_performance WITH (security_invoker = true) AS
SELECT date_trunc('hour', created_at, 'UTC') AS hour, operation, count(*) AS operations,
    count(*) FILTER (WHERE NOT success) AS failures, coalesce(sum(file_size_bytes), 0) AS total_bytes,
    round(avg(duration_ms), 1) AS avg_duration_ms
FROM (SELECT * FROM storage_operations ORDER BY created_at DESC LIMIT 10000) newest GROUP BY 1, 2;

-- The accesses to the URLs of each job, from the summaries, also those whose log entries have been removed since;
-- distinct_clients and countries are those of the job's newest 200 log entries.
CREATE VIEW url_access_analytics WITH (security_invoker = true) AS
SELECT a.job_id, a.accesses,
    (SELECT count(DISTINCT l.client_ip) FROM (
        SELECT client_ip FROM url_access_logs WHERE job_id = a.job_id ORDER BY accessed_at DESC LIMIT 200) l)
        AS distinct_clients,
    a.errors, a.total_bytes, round(a.response_time_ms / nullif(a.responses, 0), 1) AS avg_response_time_ms,
    (SELECT count(DISTINCT l.country) FROM (
        SELECT country FROM url_access_logs WHERE job_id = a.job_id ORDER BY accessed_at DESC LIMIT 200) l)
        AS countries,
    a.first_access, a.last_access
FROM (
    SELECT job_id, accesses, errors, total_bytes, responses, response_time_ms, first_access, last_access,
        true AS is_total
    FROM url_access_totals
    UNION ALL
    SELECT job_id, sum(accesses)::bigint, sum(errors)::bigint, sum(total_bytes), sum(responses)::bigint,
        sum(response_time_ms), min(first_access), max(last_access), false
    FROM (
        SELECT job_id, accesses, errors, total_bytes, responses, response_time_ms, first_access, last_access
        FROM url_access_totals
        WHERE job_id IN (SELECT job_id FROM url_access_changes)
          AND job_id NOT IN (SELECT job_id FROM url_access_changes WHERE is_removed)
        UNION ALL
        SELECT job_id, accesses, errors, total_bytes, responses, response_time_ms, first_access, last_access
        FROM url_access_changes c
        LEFT JOIN (
            SELECT job_id AS removed, max(id) AS last FROM url_access_changes WHERE is_removed GROUP BY 1) gone
            ON removed = c.job_id
        WHERE c.id > coalesce(last, 0)) r
    GROUP BY job_id) a
-- A job with changes is counted by the second part. The condition stands here, and not in the first part, so that the
-- order of an index on url_access_totals can be used.
WHERE NOT (a.is_total AND a.job_id IN (SELECT c.job_id FROM url_access_changes c));

-- The jobs that were made in an hour, from the summaries of the last 31 days.
CREATE VIEW hourly_job_statistics WITH (security_invoker = true) AS
SELECT hour, sum(jobs)::bigint AS total_jobs, coalesce(sum(jobs) FILTER (WHERE status = 'completed'), 0)::bigint AS completed,
    coalesce(sum(jobs) FILTER (WHERE status IN ('failed', 'timeout')), 0)::bigint AS failed,
    round(sum(processing_seconds) / nullif(sum(timed_jobs), 0), 3) AS avg_processing_seconds
FROM (
    SELECT hour, status, jobs, processing_seconds, timed_jobs FROM job_statistics
    UNION ALL SELECT hour, status, jobs, processing_seconds, timed_jobs FROM job_statistics_changes) s
WHERE hour > now() - interval '31 days'
GROUP BY hour HAVING sum(jobs) <> 0;

-- The same of each day (UTC). Who asks for distinct_clients gets a report: they are counted from the jobs of the day.
CREATE VIEW daily_job_statistics WITH (security_invoker = true) AS
SELECT d.day, d.total_jobs, d.completed, d.failed,
    (SELECT count(DISTINCT j.client_ip) FROM jobs j
        WHERE j.created_at >= d.day::timestamp AT TIME ZONE 'UTC'
          AND j.created_at < (d.day + 1)::timestamp AT TIME ZONE 'UTC') AS distinct_clients,
    d.output_bytes
FROM (
    SELECT (hour AT TIME ZONE 'UTC')::date AS day, sum(jobs)::bigint AS total_jobs,
        coalesce(sum(jobs) FILTER (WHERE status = 'completed'), 0)::bigint AS completed,
        coalesce(sum(jobs) FILTER (WHERE status IN ('failed', 'timeout')), 0)::bigint AS failed,
        sum(output_bytes) AS output_bytes
    FROM (
        SELECT hour, status, jobs, output_bytes FROM job_statistics
        UNION ALL SELECT hour, status, jobs, output_bytes FROM job_statistics_changes) s
    GROUP BY 1 HAVING sum(jobs) <> 0) d;

-- What went wrong lately: the newest 1,000 failures of 30 days.
CREATE VIEW error_analysis WITH (security_invoker = true) AS
SELECT coalesce(f.error_code, 'unknown') AS error_code, f.failed_step, count(*) AS occurrences,
    max(f.completed_at) AS last_seen, min(f.error_message) AS example
FROM (
    SELECT * FROM failed_jobs WHERE completed_at > now() - interval '30 days'
    ORDER BY completed_at DESC LIMIT 1000) f
GROUP BY 1, 2;

CREATE VIEW recent_alerts WITH (security_invoker = true) AS
SELECT id, metric_name, metric_value, unit, alert_threshold, labels, recorded_at
FROM system_metrics WHERE is_alert AND recorded_at > now() - interval '24 hours';

-- A metric of that name may have any label, for services record metrics too.
CREATE FUNCTION inet_or_null(text text) RETURNS inet LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
BEGIN
    RETURN text::inet;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN NULL;
END $$;

CREATE VIEW security_log WITH (security_invoker = true) AS
SELECT id, recorded_at, labels ->> 'event_type' AS event_type, labels -> 'details' AS details,
    labels ->> 'role' AS role, labels ->> 'session_user' AS session_user_name,
    inet_or_null(labels ->> 'client_ip') AS client_ip
FROM system_metrics WHERE metric_name = 'security_event';

CREATE VIEW system_health WITH (security_invoker = true) AS SELECT * FROM get_system_health();

-- What the extension pg_stat_statements knows, with the names total_time and mean_time that it had before PostgreSQL 13
-- beside those of today, for those who ask by the old ones. The columns are those that all its versions from 1.8 on have.
-- Nothing here depends on the extension: it can be updated and dropped at any time.
CREATE FUNCTION statement_statistics() RETURNS TABLE (
    userid oid, dbid oid, queryid bigint, query text, calls bigint, rows bigint, plans bigint, total_plan_time float8,
    total_exec_time float8, min_exec_time float8, max_exec_time float8, mean_exec_time float8, stddev_exec_time float8,
    shared_blks_hit bigint, shared_blks_read bigint, shared_blks_dirtied bigint, shared_blks_written bigint,
    temp_blks_read bigint, temp_blks_written bigint, wal_records bigint, wal_fpi bigint, wal_bytes numeric)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    home name;
BEGIN
    SELECT n.nspname INTO home FROM pg_catalog.pg_extension e
    JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements';
    IF home IS NULL THEN
        RAISE EXCEPTION 'the extension pg_stat_statements is not installed in this database' USING
            ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'add it to shared_preload_libraries, and run CREATE EXTENSION pg_stat_statements';
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT userid, dbid, queryid, query, calls, rows, plans, total_plan_time, total_exec_time, min_exec_time,
            max_exec_time, mean_exec_time, stddev_exec_time, shared_blks_hit, shared_blks_read, shared_blks_dirtied,
            shared_blks_written, temp_blks_read, temp_blks_written, wal_records, wal_fpi, wal_bytes
        FROM %I.pg_stat_statements', home);
END $$;

CREATE VIEW pg_stat_statements WITH (security_invoker = true) AS
SELECT s.*, s.total_exec_time AS total_time, s.mean_exec_time AS mean_time FROM statement_statistics() s;

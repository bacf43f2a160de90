-- Who asks ---------------------------------------------------------------------------------------------------------

-- The most that a role may be: admin, service_account, authenticated or anon. It follows from the roles that the
-- database has granted, which no setting of a session can forge; who owns the tables administers them.
CREATE FUNCTION user_role_of(who name) RETURNS text LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT CASE
        WHEN pg_has_role(who, 'admin', 'USAGE')
          OR pg_has_role(who, (SELECT relowner FROM pg_class WHERE oid = 'jobs'::regclass), 'USAGE')
            THEN 'admin'
        WHEN pg_has_role(who, 'service_account', 'USAGE') OR pg_has_role(who, 'service_role', 'USAGE')
            THEN 'service_account'
        WHEN pg_has_role(who, 'authenticated', 'USAGE') THEN 'authenticated'
        ELSE 'anon'
    END
$$;

CREATE FUNCTION user_role() RETURNS text LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT user_role_of(current_user)
$$;

CREATE FUNCTION is_admin() RETURNS boolean LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT user_role() = 'admin'
$$;

CREATE FUNCTION is_service() RETURNS boolean LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT user_role() IN ('admin', 'service_account')
$$;

-- How the address of a client is known that comes through an API gateway: the role as which the gateway logs in, the
-- header in which it passes addresses on, and how many proxies of our own have each added one to its end. The owner
-- of the tables sets it.
CREATE TABLE client_ip_source (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    gateway_role name NOT NULL DEFAULT 'authenticator',
    header text NOT NULL DEFAULT 'x-forwarded-for',
    trusted_hops integer NOT NULL DEFAULT 1 CHECK (trusted_hops > 0)
);
INSERT INTO client_ip_source DEFAULT VALUES;

-- The address of the client, or null. Of a session that is not the gateway's it is the address of the connection,
-- whatever headers the session claims to have; of the gateway's it is the one that our own outermost proxy saw, for
-- what stands before it in the header was written by the client.
CREATE FUNCTION client_ip() RETURNS inet LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    source client_ip_source;
    addresses text[];
BEGIN
    SELECT * INTO source FROM client_ip_source;
    IF session_user <> source.gateway_role THEN
        RETURN inet_client_addr();
    END IF;
    addresses := string_to_array(
        coalesce(nullif(current_setting('request.headers', true), ''), '{}')::jsonb ->> source.header, ',');
    RETURN trim(addresses[cardinality(addresses) - source.trusted_hops + 1])::inet;
EXCEPTION WHEN invalid_text_representation OR invalid_parameter_value THEN
    RETURN NULL;
END $$;

-- Whether the caller may see a job: the service sees all, others those from their address.
CREATE FUNCTION can_access_job(job_id uuid) RETURNS boolean LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT is_service() OR EXISTS (
        SELECT FROM jobs j WHERE j.id = can_access_job.job_id AND j.client_ip = client_ip())
$$;

CREATE FUNCTION can_subscribe_to_job(job_id uuid) RETURNS boolean LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT can_access_job(can_subscribe_to_job.job_id)
$$;

CREATE FUNCTION require_service(what text) RETURNS void LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT is_service() THEN
        RAISE EXCEPTION '% is for admins and services, not for %', what, user_role()
            USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

-- Jobs -------------------------------------------------------------------------------------------------------------

-- Makes a job. A service says for whom it asks; anybody else asks for the address they come from.
CREATE FUNCTION create_job(
    output_format text, width integer, height integer, fps numeric DEFAULT 25, client_ip inet DEFAULT NULL,
    user_agent text DEFAULT NULL, request_payload jsonb DEFAULT '{}', response_type response_type DEFAULT 'async',
    priority integer DEFAULT 0)
RETURNS uuid LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    made uuid := gen_random_uuid();
BEGIN
    INSERT INTO jobs (
        id, output_format, width, height, fps, client_ip, user_agent, request_payload, response_type, priority)
    VALUES (
        made, create_job.output_format, create_job.width, create_job.height, create_job.fps,
        CASE WHEN is_service() THEN create_job.client_ip ELSE client_ip() END,
        create_job.user_agent, create_job.request_payload, create_job.response_type,
        CASE WHEN is_service() THEN create_job.priority ELSE 0 END);
    RETURN made;
END $$;

CREATE FUNCTION add_job_element(
    job_id uuid, element_type element_type, source_url text DEFAULT NULL, start_time numeric DEFAULT 0,
    duration numeric DEFAULT NULL, track integer DEFAULT 0, x numeric DEFAULT 0, y numeric DEFAULT 0,
    width numeric DEFAULT NULL, height numeric DEFAULT NULL, fit_mode fit_mode DEFAULT 'auto',
    text_content text DEFAULT NULL, properties jsonb DEFAULT '{}')
RETURNS uuid LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    made uuid := gen_random_uuid();
BEGIN
    INSERT INTO elements (
        id, job_id, element_type, source_url, start_time, duration, track, x, y, width, height, fit_mode,
        text_content, properties)
    VALUES (
        made, add_job_element.job_id, add_job_element.element_type, add_job_element.source_url,
        add_job_element.start_time, add_job_element.duration, add_job_element.track, add_job_element.x,
        add_job_element.y, add_job_element.width, add_job_element.height, add_job_element.fit_mode,
        add_job_element.text_content, add_job_element.properties);
    RETURN made;
END $$;

-- Takes the next job that waits; a job is given to one worker only, however many ask at once.
CREATE FUNCTION claim_next_job(worker_id text) RETURNS SETOF jobs LANGUAGE sql SET search_path FROM CURRENT AS $$
    UPDATE jobs SET status = 'processing', worker_id = claim_next_job.worker_id
    WHERE id = (
        SELECT id FROM jobs WHERE status = 'pending' ORDER BY priority DESC, created_at, id
        LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING *
$$;

CREATE FUNCTION update_job_status(
    job_id uuid, status job_status, error_message text DEFAULT NULL, error_code text DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE jobs j SET status = update_job_status.status, error_message = update_job_status.error_message,
        error_code = update_job_status.error_code
    WHERE j.id = update_job_status.job_id;
    RETURN FOUND;
END $$;

CREATE FUNCTION complete_job(
    job_id uuid, output_url text, file_size_bytes bigint DEFAULT NULL, s3_bucket text DEFAULT NULL,
    s3_key text DEFAULT NULL, s3_region text DEFAULT NULL, url_expires_at timestamptz DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE jobs j SET status = 'completed', output_url = complete_job.output_url,
        file_size_bytes = complete_job.file_size_bytes, s3_bucket = complete_job.s3_bucket,
        s3_key = complete_job.s3_key, s3_region = complete_job.s3_region, url_expires_at = complete_job.url_expires_at
    WHERE j.id = complete_job.job_id;
    RETURN FOUND;
END $$;

CREATE FUNCTION fail_job(job_id uuid, error_message text, error_code text DEFAULT NULL)
RETURNS boolean LANGUAGE sql SET search_path FROM CURRENT AS $$
    SELECT update_job_status(fail_job.job_id, 'failed', fail_job.error_message, fail_job.error_code)
$$;

CREATE FUNCTION cancel_job(job_id uuid) RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE jobs j SET status = 'cancelled'
    WHERE j.id = cancel_job.job_id AND j.status IN ('pending', 'processing');
    RETURN FOUND;
END $$;

-- Puts a job that failed or took too long back, if it has retries left.
CREATE FUNCTION retry_job(job_id uuid) RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE jobs j SET status = 'pending', retry_count = j.retry_count + 1, worker_id = NULL, error_message = NULL,
        error_code = NULL
    WHERE j.id = retry_job.job_id AND j.status IN ('failed', 'timeout') AND j.retry_count < j.max_retries;
    RETURN FOUND;
END $$;

-- Ends jobs that are processing and have not moved for so long, and puts back those with retries left. Returns how
-- many did not move.
CREATE FUNCTION timeout_stalled_jobs(after interval DEFAULT '30 minutes') RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    stalled uuid[];
BEGIN
    PERFORM require_service('timeout_stalled_jobs');
    WITH ended AS (
        UPDATE jobs SET status = 'timeout', error_code = 'timeout',
            error_message = format('no progress for more than %s', after)
        WHERE id IN (
            SELECT id FROM jobs WHERE status = 'processing' AND updated_at < now() - after FOR UPDATE SKIP LOCKED)
        RETURNING id)
    SELECT coalesce(array_agg(id), '{}') INTO stalled FROM ended;
    PERFORM retry_job(id) FROM unnest(stalled) AS id;
    RETURN cardinality(stalled);
END $$;

-- Progress ---------------------------------------------------------------------------------------------------------

-- What part of the work a step is, in percent; the steps add up to 100.
CREATE FUNCTION step_weight(step processing_step) RETURNS numeric LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $$
    SELECT CASE step
        WHEN 'validation' THEN 5 WHEN 'download' THEN 15 WHEN 'processing' THEN 30 WHEN 'composition' THEN 20
        WHEN 'encoding' THEN 20 WHEN 'upload' THEN 8 WHEN 'cleanup' THEN 2 END::numeric
$$;

-- How far a job is, in percent: the steps that succeeded by their weights, and of the step in which the elements are
-- processed as much as there are elements done. Null when there is no such job.
CREATE FUNCTION calculate_job_progress(job_id uuid) RETURNS numeric LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT CASE WHEN j.status = 'completed' THEN 100.00 ELSE round(
        coalesce((
            SELECT sum(step_weight(s.step)) FROM (
                SELECT DISTINCT t.step FROM processing_timeline t WHERE t.job_id = j.id AND t.success) s), 0)
        + CASE WHEN EXISTS (
                SELECT FROM processing_timeline t WHERE t.job_id = j.id AND t.step = 'processing' AND t.success) THEN 0
            ELSE coalesce((
                SELECT step_weight('processing') * count(*) FILTER (WHERE e.processing_status = 'completed')
                    / nullif(count(*), 0)
                FROM elements e WHERE e.job_id = j.id), 0) END, 2) END
    FROM jobs j WHERE j.id = calculate_job_progress.job_id
$$;

CREATE FUNCTION start_processing_step(job_id uuid, step processing_step, message text DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    made uuid;
BEGIN
    INSERT INTO processing_timeline (job_id, step, message)
    VALUES (start_processing_step.job_id, start_processing_step.step, start_processing_step.message)
    RETURNING id INTO made;
    RETURN made;
END $$;

CREATE FUNCTION complete_processing_step(
    timeline_id uuid, success boolean DEFAULT true, error_message text DEFAULT NULL, cpu_percent numeric DEFAULT NULL,
    memory_mb numeric DEFAULT NULL, disk_mb numeric DEFAULT NULL, details jsonb DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE processing_timeline t SET success = complete_processing_step.success, completed_at = clock_timestamp(),
        error_message = complete_processing_step.error_message, cpu_percent = complete_processing_step.cpu_percent,
        memory_mb = complete_processing_step.memory_mb, disk_mb = complete_processing_step.disk_mb,
        details = coalesce(complete_processing_step.details, t.details)
    WHERE t.id = timeline_id AND t.completed_at IS NULL;
    RETURN FOUND;
END $$;

CREATE FUNCTION update_element_status(
    element_id uuid, status job_status, error_message text DEFAULT NULL, processing_time_ms integer DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE elements e SET processing_status = update_element_status.status,
        error_message = update_element_status.error_message,
        processing_time_ms = coalesce(update_element_status.processing_time_ms, e.processing_time_ms)
    WHERE e.id = element_id;
    RETURN FOUND;
END $$;

-- Logs and metrics -------------------------------------------------------------------------------------------------

CREATE FUNCTION log_storage_operation(
    job_id uuid, operation storage_operation, bucket text, object_key text, success boolean DEFAULT true,
    file_size_bytes bigint DEFAULT NULL, duration_ms integer DEFAULT NULL, error_message text DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    made uuid;
BEGIN
    INSERT INTO storage_operations (
        job_id, operation, bucket, object_key, success, file_size_bytes, duration_ms, error_message)
    VALUES (
        log_storage_operation.job_id, log_storage_operation.operation, log_storage_operation.bucket,
        log_storage_operation.object_key, log_storage_operation.success, log_storage_operation.file_size_bytes,
        log_storage_operation.duration_ms, log_storage_operation.error_message)
    RETURNING id INTO made;
    RETURN made;
END $$;

CREATE FUNCTION log_url_access(
    job_id uuid, url text, client_ip inet DEFAULT NULL, user_agent text DEFAULT NULL, http_status integer DEFAULT 200,
    bytes_sent bigint DEFAULT NULL, response_time_ms integer DEFAULT NULL, country text DEFAULT NULL,
    city text DEFAULT NULL, referer text DEFAULT NULL, access_type text DEFAULT 'download')
RETURNS bigint LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    made bigint;
BEGIN
    INSERT INTO url_access_logs (
        job_id, url, client_ip, user_agent, http_status, bytes_sent, response_time_ms, country, city, referer,
        access_type)
    VALUES (
        log_url_access.job_id, log_url_access.url, log_url_access.client_ip, log_url_access.user_agent,
        log_url_access.http_status, log_url_access.bytes_sent, log_url_access.response_time_ms,
        log_url_access.country, log_url_access.city, log_url_access.referer, log_url_access.access_type)
    RETURNING id INTO made;
    RETURN made;
END $$;

CREATE FUNCTION record_metric(
    metric_name text, metric_value numeric, unit text DEFAULT NULL, labels jsonb DEFAULT '{}',
    alert_threshold numeric DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    made bigint;
BEGIN
    INSERT INTO system_metrics (metric_name, metric_value, unit, labels, alert_threshold)
    VALUES (record_metric.metric_name, record_metric.metric_value, record_metric.unit, record_metric.labels,
        record_metric.alert_threshold)
    RETURNING id INTO made;
    RETURN made;
END $$;

-- Notes something that those who watch over security should see; anybody may be the cause, so anybody may note.
-- It stands among the metrics as security_event, with who it was: not what the caller says, but the role that the
-- session took with SET ROLE, which the database permitted, or else the one that logged in.
CREATE FUNCTION log_security_event(event_type text, details jsonb DEFAULT '{}') RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    caller name := coalesce(nullif(current_setting('role'), 'none'), session_user);
    made bigint;
BEGIN
    INSERT INTO system_metrics (metric_name, metric_value, unit, labels)
    VALUES ('security_event', 1, 'events', jsonb_build_object(
        'event_type', left(event_type, 200), 'details', details, 'role', user_role_of(caller),
        'session_user', session_user, 'client_ip', host(client_ip())))
    RETURNING id INTO made;
    RETURN made;
END $$;

-- Whether an address may make a further job: fewer than `max_requests` in the window. It must see all jobs of the
-- address, whoever asks.
CREATE FUNCTION check_rate_limit(client_ip inet, max_requests integer DEFAULT 100, window_size interval DEFAULT '1 hour')
RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT count(*) < max_requests FROM (
        SELECT FROM jobs j
        WHERE j.client_ip = check_rate_limit.client_ip AND j.created_at > now() - window_size
        LIMIT greatest(max_requests, 0)) recent
$$;

-- Statistics and health --------------------------------------------------------------------------------------------

-- The jobs that were made from the first to the last day, both included.
CREATE FUNCTION get_job_statistics(start_date date DEFAULT current_date - 30, end_date date DEFAULT current_date)
RETURNS TABLE (
    total_jobs bigint, pending_jobs bigint, processing_jobs bigint, completed_jobs bigint, failed_jobs bigint,
    cancelled_jobs bigint, timeout_jobs bigint, success_rate numeric, avg_processing_seconds numeric,
    p95_processing_seconds numeric, total_output_bytes numeric, avg_elements_per_job numeric)
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT count(*), count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'processing'),
        count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'failed'),
        count(*) FILTER (WHERE status = 'cancelled'), count(*) FILTER (WHERE status = 'timeout'),
        round(100.0 * count(*) FILTER (WHERE status = 'completed')
            / nullif(count(*) FILTER (WHERE status IN ('completed', 'failed', 'timeout')), 0), 2),
        round((avg(extract(epoch FROM completed_at - started_at)) FILTER (WHERE status = 'completed'))::numeric, 3),
        round((percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM completed_at - started_at))
            FILTER (WHERE status = 'completed'))::numeric, 3),
        coalesce(sum(file_size_bytes), 0),
        round(avg((SELECT count(*) FROM elements e WHERE e.job_id = jobs.id)), 2)
    FROM jobs WHERE created_at >= start_date AND created_at < end_date + 1
$$;

CREATE FUNCTION get_job_details(job_id uuid) RETURNS jsonb LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT jsonb_build_object(
        'job', to_jsonb(j),
        'elements', coalesce((
            SELECT jsonb_agg(to_jsonb(e) ORDER BY e.track, e.z_index, e.created_at) FROM elements e
            WHERE e.job_id = j.id), '[]'),
        'timeline', coalesce((
            SELECT jsonb_agg(to_jsonb(t) ORDER BY t.started_at) FROM processing_timeline t WHERE t.job_id = j.id), '[]'))
    FROM jobs j WHERE j.id = get_job_details.job_id
$$;

CREATE FUNCTION get_job_timeline(job_id uuid)
RETURNS TABLE (
    step processing_step, success boolean, started_at timestamptz, completed_at timestamptz, duration_ms integer,
    message text, error_message text)
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT t.step, t.success, t.started_at, t.completed_at, t.duration_ms, t.message, t.error_message
    FROM processing_timeline t WHERE t.job_id = get_job_timeline.job_id ORDER BY t.started_at
$$;

CREATE FUNCTION get_storage_statistics(since interval DEFAULT '24 hours')
RETURNS TABLE (
    operation storage_operation, operations bigint, failures bigint, success_rate numeric, total_bytes numeric,
    avg_duration_ms numeric, megabytes_per_second numeric)
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT o.operation, count(*), count(*) FILTER (WHERE NOT o.success),
        round(100.0 * count(*) FILTER (WHERE o.success) / count(*), 2), coalesce(sum(o.file_size_bytes), 0),
        round(avg(o.duration_ms), 1),
        round((sum(o.file_size_bytes) FILTER (WHERE o.success AND o.duration_ms > 0) / 1e6)
            / nullif(sum(o.duration_ms) FILTER (WHERE o.success AND o.duration_ms > 0) / 1e3, 0), 3)
    FROM storage_operations o WHERE o.created_at > now() - since GROUP BY o.operation ORDER BY o.operation
$$;

-- One row a check, with healthy, degraded or unhealthy and what was counted.
CREATE FUNCTION get_system_health()
RETURNS TABLE (check_name text, status text, value numeric, message text)
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    WITH measures AS (
        SELECT
            (SELECT count(*) FROM jobs WHERE jobs.status = 'pending') AS waiting,
            (SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0) FROM jobs WHERE jobs.status = 'pending')
                AS oldest,
            (SELECT count(*) FROM jobs WHERE jobs.status = 'processing' AND updated_at < now() - interval '10 minutes')
                AS stalled,
            (SELECT coalesce(100.0 * count(*) FILTER (WHERE jobs.status IN ('failed', 'timeout'))
                / nullif(count(*) FILTER (WHERE jobs.status IN ('completed', 'failed', 'timeout')), 0), 0)
                FROM jobs WHERE completed_at > now() - interval '1 hour') AS failing,
            (SELECT coalesce(100.0 * count(*) FILTER (WHERE NOT success) / nullif(count(*), 0), 0)
                FROM storage_operations WHERE created_at > now() - interval '1 hour') AS storage,
            (SELECT count(*) FROM system_metrics WHERE is_alert AND recorded_at > now() - interval '15 minutes') AS alerts)
    SELECT c.name, CASE WHEN c.value >= c.bad THEN 'unhealthy' WHEN c.value >= c.poor THEN 'degraded' ELSE 'healthy' END,
        round(c.value::numeric, 2), c.message
    FROM measures m CROSS JOIN LATERAL (VALUES
        ('queue_length', m.waiting::float8, 100::float8, 1000::float8, 'jobs that wait'),
        ('queue_age', m.oldest::float8, 300, 3600, 'seconds that the oldest of them has waited'),
        ('stalled_jobs', m.stalled::float8, 1, 10, 'jobs in processing without progress for 10 minutes'),
        ('failure_rate', m.failing::float8, 10, 50, 'percent of the last hour''s jobs that failed'),
        ('storage_failures', m.storage::float8, 5, 25, 'percent of the last hour''s storage operations that failed'),
        ('alerts', m.alerts::float8, 1, 10, 'metrics over their threshold in 15 minutes')
    ) AS c (name, value, poor, bad, message)
$$;

-- Retention --------------------------------------------------------------------------------------------------------

-- The time before which something is old; refuses whoever may not remove it.
CREATE FUNCTION retention_cutoff(what text, days_to_keep integer) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM require_service(what);
    IF days_to_keep < 0 THEN
        RAISE EXCEPTION 'days_to_keep is %, and cannot be negative', days_to_keep USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN now() - make_interval(days => days_to_keep);
END $$;

-- Removes jobs that were made longer ago, with all that belongs to them, but none that is at work.
CREATE FUNCTION cleanup_old_jobs(days_to_keep integer DEFAULT 30) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz := retention_cutoff('cleanup_old_jobs', days_to_keep);
    removed integer;
BEGIN
    DELETE FROM jobs WHERE created_at < cutoff AND NOT (status = 'processing' AND updated_at >= cutoff);
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;

CREATE FUNCTION cleanup_old_metrics(days_to_keep integer DEFAULT 7) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz := retention_cutoff('cleanup_old_metrics', days_to_keep);
    removed integer;
BEGIN
    DELETE FROM system_metrics WHERE recorded_at < cutoff;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;

CREATE FUNCTION cleanup_old_access_logs(days_to_keep integer DEFAULT 90) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz := retention_cutoff('cleanup_old_access_logs', days_to_keep);
    removed integer;
BEGIN
    DELETE FROM url_access_logs WHERE accessed_at < cutoff;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;

-- All of it, with the usual times: jobs 30 days, metrics 7, access logs 90.
CREATE FUNCTION enforce_data_retention() RETURNS jsonb LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM require_service('enforce_data_retention');
    RETURN jsonb_build_object(
        'jobs', cleanup_old_jobs(), 'metrics', cleanup_old_metrics(), 'access_logs', cleanup_old_access_logs());
END $$;

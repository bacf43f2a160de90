-- Refuses an argument, and says what is allowed.
CREATE FUNCTION require_argument(is_allowed boolean, name text, value text, allowed text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF value IS NULL THEN
        RAISE EXCEPTION '% is null', name
            USING ERRCODE = 'null_value_not_allowed', HINT = format('it must be %s', allowed);
    ELSIF is_allowed IS NOT TRUE THEN
        RAISE EXCEPTION '% is %', name, coalesce(nullif(left(value, 100), ''), 'empty')
            USING ERRCODE = 'invalid_parameter_value', HINT = format('it must be %s', allowed);
    END IF;
END $$;

CREATE FUNCTION require_id(name text, value uuid) RETURNS void LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $$
    SELECT require_argument(true, name, value::text, 'the id of a row')
$$;

-- Who asks ---------------------------------------------------------------------------------------------------------

-- The most that a role may be: admin, service_account, authenticated or anon. It follows from the roles that the
-- database has granted, which no setting of a session can forge; who owns the tables administers them.
CREATE FUNCTION user_role_of(who name) RETURNS text LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT require_argument(true, 'who', who, 'the name of a role');
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

-- The same of who called, in a function that runs with its owner's rights: the role that the session took with SET
-- ROLE, which the database permitted, or else the one that logged in.
CREATE FUNCTION calling_role() RETURNS text LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT user_role_of(coalesce(nullif(current_setting('role'), 'none'), session_user)::name)
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

-- What a client may ask for who is no service. The owner of the tables sets it.
CREATE TABLE client_limits (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- The jobs that one address may make in the window.
    max_jobs integer NOT NULL DEFAULT 100 CHECK (max_jobs > 0),
    job_window interval NOT NULL DEFAULT '1 hour' CHECK (job_window > '0'),
    -- The payload of a job, and what an element says.
    max_payload_bytes integer NOT NULL DEFAULT 262144 CHECK (max_payload_bytes > 0),
    max_elements integer NOT NULL DEFAULT 1000 CHECK (max_elements > 0),
    -- The security events that one address may note in an hour, and the size of their details.
    max_events integer NOT NULL DEFAULT 60 CHECK (max_events > 0),
    max_event_bytes integer NOT NULL DEFAULT 2000 CHECK (max_event_bytes > 0)
);
INSERT INTO client_limits DEFAULT VALUES;

-- What one transaction at a time may do: slot -1 is the folding of statistics; the others are shared by the addresses
-- whose requests are counted. Rows, and no advisory locks, which anybody could hold.
CREATE TABLE locks (slot integer PRIMARY KEY, taken bigint NOT NULL DEFAULT 0);
INSERT INTO locks (slot) SELECT generate_series(-1, 1023);

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
    SELECT require_id('job_id', job_id);
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

CREATE FUNCTION require_admin(what text) RETURNS void LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT is_admin() THEN
        RAISE EXCEPTION '% is for admins, not for %', what, user_role() USING ERRCODE = 'insufficient_privilege';
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
    IF is_service() THEN
        INSERT INTO jobs (
            id, output_format, width, height, fps, client_ip, user_agent, request_payload, response_type, priority)
        VALUES (
            made, create_job.output_format, create_job.width, create_job.height, create_job.fps, create_job.client_ip,
            create_job.user_agent, create_job.request_payload, create_job.response_type, create_job.priority);
    ELSE
        -- The trigger adds the address.
        INSERT INTO jobs (id, output_format, width, height, fps, user_agent, request_payload, response_type)
        VALUES (
            made, create_job.output_format, create_job.width, create_job.height, create_job.fps,
            create_job.user_agent, create_job.request_payload, create_job.response_type);
    END IF;
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
    PERFORM require_id('job_id', job_id);
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
    SELECT require_argument(
        length(worker_id) BETWEEN 1 AND 200, 'worker_id', worker_id, 'a text of 1 to 200 characters');
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
    PERFORM require_id('job_id', job_id);
    PERFORM require_argument(true, 'status', status::text, 'a status of a job');
    UPDATE jobs j SET status = update_job_status.status, error_message = update_job_status.error_message,
        error_code = update_job_status.error_code
    WHERE j.id = update_job_status.job_id;
    RETURN FOUND;
END $$;

-- Ends a job with its result. Returns whether the job has it now: not if there is no such job, or if it is completed
-- with another result. Who passes attempt, as claim_next_job returned it, does not end an attempt that has begun since.
-- A call whose answer was lost can be repeated.
CREATE FUNCTION complete_job(
    job_id uuid, output_url text, file_size_bytes bigint DEFAULT NULL, s3_bucket text DEFAULT NULL,
    s3_key text DEFAULT NULL, s3_region text DEFAULT NULL, url_expires_at timestamptz DEFAULT NULL,
    attempt integer DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM require_id('job_id', job_id);
    PERFORM require_argument(output_url <> '', 'output_url', output_url, 'the address of the video');
    UPDATE jobs j SET status = 'completed', output_url = complete_job.output_url,
        file_size_bytes = complete_job.file_size_bytes, s3_bucket = complete_job.s3_bucket,
        s3_key = complete_job.s3_key, s3_region = complete_job.s3_region, url_expires_at = complete_job.url_expires_at
    WHERE j.id = complete_job.job_id AND j.status <> 'completed'
      AND j.attempt = coalesce(complete_job.attempt, j.attempt);
    RETURN FOUND OR EXISTS (
        SELECT FROM jobs j WHERE j.id = complete_job.job_id AND j.status = 'completed'
            AND j.output_url = complete_job.output_url AND j.attempt = coalesce(complete_job.attempt, j.attempt));
END $$;

-- Ends a job without a result. Returns whether there is such a job; attempt as in complete_job.
CREATE FUNCTION fail_job(
    job_id uuid, error_message text, error_code text DEFAULT NULL, attempt integer DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM require_id('job_id', job_id);
    PERFORM require_argument(true, 'error_message', error_message, 'what went wrong');
    UPDATE jobs j SET status = 'failed', error_message = fail_job.error_message, error_code = fail_job.error_code
    WHERE j.id = fail_job.job_id AND j.attempt = coalesce(fail_job.attempt, j.attempt);
    RETURN FOUND;
END $$;

CREATE FUNCTION cancel_job(job_id uuid) RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM require_id('job_id', job_id);
    UPDATE jobs j SET status = 'cancelled'
    WHERE j.id = cancel_job.job_id AND j.status IN ('pending', 'processing');
    RETURN FOUND;
END $$;

-- Puts a job that failed or took too long back, if it has retries left.
CREATE FUNCTION retry_job(job_id uuid) RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM require_id('job_id', job_id);
    UPDATE jobs j SET status = 'pending', retry_count = j.retry_count + 1, error_message = NULL, error_code = NULL
    WHERE j.id = retry_job.job_id AND j.status IN ('failed', 'timeout') AND j.retry_count < j.max_retries;
    RETURN FOUND;
END $$;

-- Ends jobs that are processing and have not moved for so long, those first that have not moved for longest, and puts
-- back those with retries left. Returns how many did not move.
CREATE FUNCTION timeout_stalled_jobs(after interval DEFAULT '30 minutes', max_jobs integer DEFAULT 1000) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    stalled uuid[];
BEGIN
    PERFORM require_service('timeout_stalled_jobs');
    PERFORM require_argument(
        after BETWEEN '1 second' AND '1 year', 'after', after::text, 'from 1 second to 1 year');
    PERFORM require_argument(max_jobs BETWEEN 1 AND 100000, 'max_jobs', max_jobs::text, 'from 1 to 100000');
    stalled := ARRAY(
        SELECT id FROM jobs WHERE status = 'processing' AND updated_at < now() - after
        ORDER BY updated_at LIMIT max_jobs FOR UPDATE SKIP LOCKED);
    UPDATE jobs SET status = 'timeout', error_code = 'timeout',
        error_message = format('no progress for more than %s', after)
    WHERE id = ANY (stalled);
    UPDATE jobs SET status = 'pending', retry_count = retry_count + 1, error_message = NULL, error_code = NULL
    WHERE id = ANY (stalled) AND retry_count < max_retries;
    RETURN cardinality(stalled);
END $$;

-- Progress ---------------------------------------------------------------------------------------------------------

-- What part of the work a step is, in percent; the steps add up to 100.
CREATE FUNCTION step_weight(step processing_step) RETURNS numeric LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $$
    SELECT require_argument(true, 'step', step::text, 'a step of the processing');
    SELECT CASE step
        WHEN 'validation' THEN 5 WHEN 'download' THEN 15 WHEN 'processing' THEN 30 WHEN 'composition' THEN 20
        WHEN 'encoding' THEN 20 WHEN 'upload' THEN 8 WHEN 'cleanup' THEN 2 END::numeric
$$;

-- How far a job is in its present attempt, in percent: the steps that succeeded by their weights, and of the step in
-- which the elements are processed as much as there are elements done. Null when there is no such job.
CREATE FUNCTION calculate_job_progress(job_id uuid) RETURNS numeric LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT require_id('job_id', job_id);
    SELECT CASE WHEN j.status = 'completed' THEN 100.00
        ELSE round(s.finished + CASE WHEN s.is_processed THEN 0
            ELSE coalesce(step_weight('processing') * j.completed_elements / nullif(j.total_elements, 0), 0) END, 2) END
    FROM jobs j CROSS JOIN LATERAL (
        SELECT coalesce(sum(step_weight(d.step)), 0) AS finished,
            coalesce(bool_or(d.step = 'processing'), false) AS is_processed
        FROM (
            SELECT DISTINCT t.step FROM processing_timeline t
            WHERE t.job_id = j.id AND t.attempt = j.attempt AND t.success) d) s
    WHERE j.id = calculate_job_progress.job_id
$$;

-- Locks a job for what is to be changed of it. Whoever changes what belongs to a job locks the job first, as whoever
-- removes it does, so that they do not wait for each other in a circle.
CREATE FUNCTION lock_job(job_id uuid) RETURNS void LANGUAGE sql SET search_path FROM CURRENT AS $$
    SELECT require_id('job_id', job_id);
    SELECT FROM jobs j WHERE j.id = lock_job.job_id FOR NO KEY UPDATE
$$;

CREATE FUNCTION start_processing_step(job_id uuid, step processing_step, message text DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    made uuid;
BEGIN
    PERFORM require_id('job_id', job_id);
    PERFORM lock_job(start_processing_step.job_id);
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
    PERFORM require_id('timeline_id', timeline_id);
    PERFORM require_argument(true, 'success', success::text, 'true or false');
    PERFORM lock_job(t.job_id) FROM processing_timeline t WHERE t.id = timeline_id;
    UPDATE processing_timeline t SET success = complete_processing_step.success, completed_at = clock_timestamp(),
        error_message = complete_processing_step.error_message, cpu_percent = complete_processing_step.cpu_percent,
        memory_mb = complete_processing_step.memory_mb, disk_mb = complete_processing_step.disk_mb,
        details = coalesce(complete_processing_step.details, t.details)
    WHERE t.id = timeline_id AND t.completed_at IS NULL;
    RETURN FOUND;
END $$;

CREATE FUNCTION update_element_status(
    element_id uuid, status job_status, error_message text DEFAULT NULL, processing_time_ms integer DEFAULT NULL,
    attempt integer DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM require_id('element_id', element_id);
    PERFORM require_argument(true, 'status', status::text, 'a status of an element');
    PERFORM lock_job(e.job_id) FROM elements e WHERE e.id = element_id;
    UPDATE elements e SET processing_status = update_element_status.status,
        error_message = update_element_status.error_message,
        processing_time_ms = coalesce(update_element_status.processing_time_ms, e.processing_time_ms)
    FROM jobs j
    WHERE e.id = element_id AND j.id = e.job_id AND j.attempt = coalesce(update_element_status.attempt, j.attempt);
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
    PERFORM require_argument(bucket <> '', 'bucket', bucket, 'the name of a bucket');
    PERFORM require_argument(object_key <> '', 'object_key', object_key, 'the key of an object');
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
    PERFORM require_argument(url <> '', 'url', url, 'the address that was asked for');
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
    PERFORM require_argument(metric_name <> '', 'metric_name', metric_name, 'the name of a metric');
    PERFORM require_argument(
        metric_value::text NOT IN ('NaN', 'Infinity', '-Infinity'), 'metric_value', metric_value::text, 'finite');
    INSERT INTO system_metrics (metric_name, metric_value, unit, labels, alert_threshold)
    VALUES (record_metric.metric_name, record_metric.metric_value, record_metric.unit, record_metric.labels,
        record_metric.alert_threshold)
    RETURNING id INTO made;
    RETURN made;
END $$;

-- Notes something that those who watch over security should see; anybody may be the cause, so anybody may note.
-- It stands among the metrics as security_event, with who it was: calling_role(), not what the caller says. It runs with
-- its owner's rights, because a client may not write to the metrics.
CREATE FUNCTION log_security_event(event_type text, details jsonb DEFAULT '{}') RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    address text := coalesce(host(client_ip()), '');
    limits client_limits;
    made bigint;
BEGIN
    SELECT * INTO limits FROM client_limits;
    PERFORM require_argument(
        length(event_type) BETWEEN 1 AND 200, 'event_type', event_type, 'a text of 1 to 200 characters');
    PERFORM require_argument(
        octet_length(details::text) <= limits.max_event_bytes, 'details', details::text,
        format('of at most %s bytes', limits.max_event_bytes));
    IF calling_role() NOT IN ('admin', 'service_account') THEN
        PERFORM take_lock_of(address);
        IF (SELECT count(*) >= limits.max_events FROM (
            SELECT FROM system_metrics m
            WHERE m.metric_name = 'security_event' AND coalesce(m.labels ->> 'client_ip', '') = address
              AND m.recorded_at > now() - interval '1 hour'
            LIMIT limits.max_events) recent)
        THEN
            RAISE EXCEPTION 'there were % security events of this address in an hour', limits.max_events
                USING ERRCODE = 'PT429', HINT = 'the owner of the tables sets max_events in client_limits';
        END IF;
    END IF;
    INSERT INTO system_metrics (metric_name, metric_value, unit, labels)
    VALUES ('security_event', 1, 'events', jsonb_build_object(
        'event_type', event_type, 'details', details, 'role', calling_role(), 'session_user', session_user,
        'client_ip', nullif(address, '')))
    RETURNING id INTO made;
    RETURN made;
END $$;

-- Whether an address may make a further job: fewer than `max_requests` in the window. Until the end of the transaction,
-- others that ask for the address wait, so that no two are told that they may make the last one. It runs with its
-- owner's rights, because it must see all jobs of the address; clients may ask for their own address only.
CREATE FUNCTION check_rate_limit(client_ip inet, max_requests integer DEFAULT 100, window_size interval DEFAULT '1 hour')
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM require_argument(true, 'client_ip', check_rate_limit.client_ip::text, 'the address of a client');
    PERFORM require_argument(max_requests BETWEEN 1 AND 1000000, 'max_requests', max_requests::text, 'from 1 to 1000000');
    PERFORM require_argument(
        window_size BETWEEN '1 second' AND '1 year', 'window_size', window_size::text, 'from 1 second to 1 year');
    IF calling_role() NOT IN ('admin', 'service_account') AND check_rate_limit.client_ip IS DISTINCT FROM client_ip() THEN
        RAISE EXCEPTION 'the address % is not that of the caller', check_rate_limit.client_ip
            USING ERRCODE = 'insufficient_privilege', HINT = 'services may ask for any address';
    END IF;
    PERFORM take_lock_of(host(check_rate_limit.client_ip));
    RETURN has_room_for_job(check_rate_limit.client_ip, max_requests, window_size);
END $$;

-- One transaction at a time goes on from here for an address. The row is changed, and not only locked, so that a
-- transaction whose snapshot is older than what another has counted fails with 40001.
CREATE FUNCTION take_lock_of(address text) RETURNS void LANGUAGE sql SET search_path FROM CURRENT AS $$
    UPDATE locks SET taken = taken + 1 WHERE slot = hashtext(coalesce(address, '')) & 1023
$$;

-- Null stands for the callers whose address is not known.
CREATE FUNCTION has_room_for_job(address inet, max_requests integer, window_size interval) RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF address IS NULL THEN
        RETURN count(*) < max_requests FROM (
            SELECT FROM jobs j WHERE j.client_ip IS NULL AND j.created_at > now() - window_size
            LIMIT max_requests) recent;
    END IF;
    RETURN count(*) < max_requests FROM (
        SELECT FROM jobs j WHERE j.client_ip = address AND j.created_at > now() - window_size
        LIMIT max_requests) recent;
END $$;

-- Statistics and health --------------------------------------------------------------------------------------------

-- The jobs that were made from the first to the last day (UTC), both included, from the summaries. The 95th percentile
-- is exact to 1 %.
CREATE FUNCTION get_job_statistics(
    start_date date DEFAULT (now() AT TIME ZONE 'UTC')::date - 30, end_date date DEFAULT (now() AT TIME ZONE 'UTC')::date)
RETURNS TABLE (
    total_jobs bigint, pending_jobs bigint, processing_jobs bigint, completed_jobs bigint, failed_jobs bigint,
    cancelled_jobs bigint, timeout_jobs bigint, success_rate numeric, avg_processing_seconds numeric,
    p95_processing_seconds numeric, total_output_bytes numeric, avg_elements_per_job numeric)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    start timestamptz;
    finish timestamptz;
BEGIN
    PERFORM require_argument(
        start_date BETWEEN '2000-01-01' AND '2999-12-31', 'start_date', start_date::text, 'a day from 2000 to 2999');
    PERFORM require_argument(
        end_date BETWEEN start_date AND '2999-12-31', 'end_date', end_date::text,
        'a day not before start_date, and before 3000');
    start := start_date::timestamp AT TIME ZONE 'UTC';
    finish := (end_date + 1)::timestamp AT TIME ZONE 'UTC';
    RETURN QUERY WITH changes AS MATERIALIZED (
        SELECT * FROM job_statistics_changes c WHERE c.hour >= start AND c.hour < finish
    ), sums AS (
        SELECT p.status, sum(p.jobs)::bigint AS jobs, sum(p.timed_jobs) AS timed_jobs, sum(p.processing_seconds) AS seconds,
            sum(p.output_bytes) AS bytes, sum(p.elements) AS elements
        FROM (
            SELECT t.status, t.jobs, t.timed_jobs, t.processing_seconds, t.output_bytes, t.elements
            FROM job_statistics t WHERE t.hour >= start AND t.hour < finish
            UNION ALL
            SELECT c.status, c.jobs, c.timed_jobs, c.processing_seconds, c.output_bytes, c.elements FROM changes c) p
        GROUP BY p.status
    ), durations AS (
        SELECT h.bucket, sum(sum(h.jobs)) OVER (ORDER BY h.bucket) AS up_to, sum(sum(h.jobs)) OVER () AS total
        FROM (
            SELECT d.bucket, d.jobs FROM job_durations d WHERE d.day BETWEEN start_date AND end_date
            UNION ALL
            SELECT c.bucket, c.timed_jobs FROM changes c WHERE c.bucket IS NOT NULL) h
        GROUP BY h.bucket HAVING sum(h.jobs) > 0
    ), totals AS (
        SELECT sum(jobs) AS jobs,
            coalesce(sum(jobs) FILTER (WHERE status = 'completed'), 0) AS completed,
            coalesce(sum(jobs) FILTER (WHERE status IN ('completed', 'failed', 'timeout')), 0) AS ended,
            sum(timed_jobs) AS timed, sum(seconds) AS seconds, sum(bytes) AS bytes, sum(elements) AS elements
        FROM sums
    )
    SELECT coalesce(t.jobs, 0)::bigint, coalesce((SELECT s.jobs FROM sums s WHERE s.status = 'pending'), 0), coalesce((SELECT s.jobs FROM sums s WHERE s.status = 'processing'), 0), t.completed::bigint,
        coalesce((SELECT s.jobs FROM sums s WHERE s.status = 'failed'), 0), coalesce((SELECT s.jobs FROM sums s WHERE s.status = 'cancelled'), 0), coalesce((SELECT s.jobs FROM sums s WHERE s.status = 'timeout'), 0),
        round(100.0 * t.completed / nullif(t.ended, 0), 2), round(t.seconds / nullif(t.timed, 0), 3),
        (SELECT round(1.02 ^ (d.bucket + 0.5), 3) FROM durations d WHERE d.up_to >= 0.95 * d.total
            ORDER BY d.bucket LIMIT 1),
        coalesce(t.bytes, 0), round(t.elements / nullif(t.jobs, 0), 2)
    FROM totals t;
END $$;

CREATE FUNCTION get_job_details(job_id uuid) RETURNS jsonb LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT require_id('job_id', job_id);
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
    step processing_step, success boolean, started_at timestamptz, completed_at timestamptz, duration_ms bigint,
    message text, error_message text)
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT require_id('job_id', job_id);
    SELECT t.step, t.success, t.started_at, t.completed_at, t.duration_ms, t.message, t.error_message
    FROM processing_timeline t WHERE t.job_id = get_job_timeline.job_id ORDER BY t.started_at
$$;

-- The storage operations of the last time. A report: it reads all of them.
CREATE FUNCTION get_storage_statistics(since interval DEFAULT '24 hours')
RETURNS TABLE (
    operation storage_operation, operations bigint, failures bigint, success_rate numeric, total_bytes numeric,
    avg_duration_ms numeric, megabytes_per_second numeric)
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT require_argument(since BETWEEN '1 second' AND '10 years', 'since', since::text, 'from 1 second to 10 years');
    SELECT o.operation, count(*), count(*) FILTER (WHERE NOT o.success),
        round(100.0 * count(*) FILTER (WHERE o.success) / count(*), 2), coalesce(sum(o.file_size_bytes), 0),
        round(avg(o.duration_ms), 1),
        round((sum(o.file_size_bytes) FILTER (WHERE o.success AND o.duration_ms > 0) / 1e6)
            / nullif(sum(o.duration_ms) FILTER (WHERE o.success AND o.duration_ms > 0) / 1e3, 0), 3)
    FROM storage_operations o WHERE o.created_at > now() - since GROUP BY o.operation ORDER BY o.operation
$$;

-- One row a check, with healthy, degraded or unhealthy and what was counted. What waits is counted exactly, the rest no
-- further than what decides: of the last hour the newest 5,000 that ended, and at most 1,000 stalled jobs and alerts.
CREATE FUNCTION get_system_health()
RETURNS TABLE (check_name text, status text, value numeric, message text)
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    WITH ended AS (
        (SELECT completed_at, false AS has_failed FROM jobs
            WHERE jobs.status = 'completed' AND completed_at > now() - interval '1 hour'
            ORDER BY completed_at DESC LIMIT 5000)
        UNION ALL
        (SELECT completed_at, true FROM jobs
            WHERE jobs.status IN ('failed', 'timeout') AND completed_at > now() - interval '1 hour'
            ORDER BY completed_at DESC LIMIT 5000)
        ORDER BY completed_at DESC LIMIT 5000
    ), stored AS (
        SELECT success FROM storage_operations WHERE created_at > now() - interval '1 hour'
        ORDER BY created_at DESC LIMIT 5000
    ), measures AS (
        SELECT
            (SELECT coalesce(sum(w.jobs), 0) FROM (
                SELECT s.jobs FROM job_statistics s WHERE s.status = 'pending' AND s.jobs <> 0
                UNION ALL
                SELECT c.jobs FROM job_statistics_changes c WHERE c.status = 'pending') w) AS waiting,
            (SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0) FROM jobs WHERE jobs.status = 'pending')
                AS oldest,
            (SELECT count(*) FROM (
                SELECT FROM jobs WHERE jobs.status = 'processing' AND updated_at < now() - interval '10 minutes'
                LIMIT 1000) s) AS stalled,
            (SELECT coalesce(100.0 * count(*) FILTER (WHERE has_failed) / nullif(count(*), 0), 0) FROM ended) AS failing,
            (SELECT coalesce(100.0 * count(*) FILTER (WHERE NOT success) / nullif(count(*), 0), 0) FROM stored) AS storage,
            (SELECT count(*) FROM (
                SELECT FROM system_metrics WHERE is_alert AND recorded_at > now() - interval '15 minutes'
                LIMIT 1000) a) AS alerts)
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
--
-- Each call removes a bounded number of rows, the oldest first, so that its transaction is short; it leaves those that
-- another transaction holds. What is left is told, and removed by further calls.

-- The time before which something is old; refuses whoever may not remove it.
CREATE FUNCTION retention_cutoff(what text, days_to_keep integer, max_rows integer) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM require_admin(what);
    PERFORM require_argument(days_to_keep BETWEEN 0 AND 36500, 'days_to_keep', days_to_keep::text, 'from 0 to 36500');
    PERFORM require_argument(max_rows BETWEEN 1 AND 1000000, 'max_rows', max_rows::text, 'from 1 to 1000000');
    RETURN now() - make_interval(days => days_to_keep);
END $$;

CREATE FUNCTION tell_what_is_left(what text, removed integer, max_rows integer) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF removed >= max_rows THEN
        RAISE NOTICE '% has removed % rows, and there may be more', what, removed
            USING HINT = 'call it again until it removes fewer';
    END IF;
END $$;

-- Removes jobs that were made longer ago, with all that belongs to them, but none that is at work: that was changed
-- since, or in the last day.
CREATE FUNCTION cleanup_old_jobs(days_to_keep integer DEFAULT 30, max_rows integer DEFAULT 10000) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz := retention_cutoff('cleanup_old_jobs', days_to_keep, max_rows);
    removed integer;
BEGIN
    DELETE FROM jobs WHERE id = ANY (ARRAY(
        SELECT id FROM jobs WHERE created_at < cutoff
              AND NOT (status = 'processing' AND updated_at >= least(cutoff, now() - interval '1 day'))
        ORDER BY created_at LIMIT max_rows FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS removed = ROW_COUNT;
    PERFORM tell_what_is_left('cleanup_old_jobs', removed, max_rows);
    RETURN removed;
END $$;

CREATE FUNCTION cleanup_old_metrics(days_to_keep integer DEFAULT 7, max_rows integer DEFAULT 100000) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz := retention_cutoff('cleanup_old_metrics', days_to_keep, max_rows);
    removed integer;
BEGIN
    DELETE FROM system_metrics WHERE id = ANY (ARRAY(
        SELECT id FROM system_metrics WHERE recorded_at < cutoff
        ORDER BY recorded_at LIMIT max_rows FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS removed = ROW_COUNT;
    PERFORM tell_what_is_left('cleanup_old_metrics', removed, max_rows);
    RETURN removed;
END $$;

CREATE FUNCTION cleanup_old_access_logs(days_to_keep integer DEFAULT 90, max_rows integer DEFAULT 100000) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz := retention_cutoff('cleanup_old_access_logs', days_to_keep, max_rows);
    removed integer;
BEGIN
    DELETE FROM url_access_logs WHERE id = ANY (ARRAY(
        SELECT id FROM url_access_logs WHERE accessed_at < cutoff
        ORDER BY accessed_at LIMIT max_rows FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS removed = ROW_COUNT;
    PERFORM tell_what_is_left('cleanup_old_access_logs', removed, max_rows);
    RETURN removed;
END $$;

-- All of it, with the usual times: jobs 30 days, metrics 7, access logs 90.
CREATE FUNCTION enforce_data_retention() RETURNS jsonb LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM require_admin('enforce_data_retention');
    RETURN jsonb_build_object(
        'jobs', cleanup_old_jobs(), 'metrics', cleanup_old_metrics(), 'access_logs', cleanup_old_access_logs());
END $$;

CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$;

-- A job is at the step that was begun last.
CREATE FUNCTION latest_step(job_id uuid, attempt integer) RETURNS processing_step
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT t.step FROM processing_timeline t
    WHERE t.job_id = latest_step.job_id AND t.attempt = latest_step.attempt
    ORDER BY t.started_at DESC, t.step DESC LIMIT 1
$$;

-- Checks that a job goes only where it can go from where it is, and keeps its times.
CREATE FUNCTION validate_job() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.status <> OLD.status AND NOT (CASE OLD.status
        WHEN 'pending' THEN NEW.status IN ('processing', 'completed', 'failed', 'cancelled', 'timeout')
        WHEN 'processing' THEN true
        WHEN 'failed' THEN NEW.status = 'pending'
        WHEN 'timeout' THEN NEW.status = 'pending'
        ELSE false END)
    THEN
        RAISE EXCEPTION 'a job that is % cannot become %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', HINT = 'a failed job is put back with retry_job()';
    END IF;
    IF NEW.output_format IN ('mp4', 'mov') AND (NEW.width % 2 = 1 OR NEW.height % 2 = 1) THEN
        RAISE EXCEPTION 'a % of % by % cannot be encoded, for both sides must be even',
            NEW.output_format, NEW.width, NEW.height USING ERRCODE = 'check_violation';
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.status <> OLD.status THEN
        CASE
            WHEN NEW.status = 'processing' THEN
                NEW.started_at := clock_timestamp();
                NEW.completed_at := NULL;
                -- What was done of it before.
                NEW.progress_percentage := calculate_job_progress(NEW.id);
                NEW.current_step := latest_step(NEW.id, NEW.attempt);
            WHEN NEW.status = 'pending' THEN
                NEW.started_at := NULL;
                NEW.completed_at := NULL;
                NEW.current_step := NULL;
                NEW.progress_percentage := 0;
                NEW.worker_id := NULL;
                NEW.attempt := OLD.attempt + 1;
            ELSE
                NEW.started_at := coalesce(NEW.started_at, clock_timestamp());
                NEW.completed_at := clock_timestamp();
                IF NEW.status = 'completed' THEN
                    NEW.progress_percentage := 100;
                END IF;
        END CASE;
    END IF;
    RETURN NEW;
END $$;

-- What a client may ask for who is no service: jobs for the address that they come from, as many and as large as
-- client_limits says. It runs with its owner's rights, because a client sees neither the limits nor all jobs.
CREATE FUNCTION restrict_client_job() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    limits client_limits;
BEGIN
    IF calling_role() IN ('admin', 'service_account') THEN
        RETURN NEW;
    END IF;
    SELECT * INTO limits FROM client_limits;
    NEW.client_ip := coalesce(NEW.client_ip, client_ip());
    IF octet_length(NEW.request_payload::text) > limits.max_payload_bytes THEN
        RAISE EXCEPTION 'request_payload has % bytes', octet_length(NEW.request_payload::text)
            USING ERRCODE = 'program_limit_exceeded', HINT = format('it may have %s', limits.max_payload_bytes);
    END IF;
    IF length(NEW.user_agent) > 1000 THEN
        RAISE EXCEPTION 'user_agent has % characters', length(NEW.user_agent)
            USING ERRCODE = 'program_limit_exceeded', HINT = 'it may have 1000';
    END IF;
    PERFORM take_lock_of(host(client_ip()));
    IF NOT has_room_for_job(client_ip(), limits.max_jobs, limits.job_window) THEN
        -- PostgREST answers with the HTTP status in the code.
        RAISE EXCEPTION 'this address has made % jobs in %', limits.max_jobs, limits.job_window
            USING ERRCODE = 'PT429', HINT = 'ask again later';
    END IF;
    RETURN NEW;
END $$;

-- An element of a client has a limit of its own, like the payload of a job.
CREATE FUNCTION restrict_client_element() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    most integer;
    bytes integer := octet_length(concat(NEW.source_url, NEW.text_content, NEW.properties));
BEGIN
    IF calling_role() IN ('admin', 'service_account') THEN
        RETURN NEW;
    END IF;
    SELECT max_payload_bytes INTO most FROM client_limits;
    IF bytes > most THEN
        RAISE EXCEPTION 'the element has % bytes', bytes
            USING ERRCODE = 'program_limit_exceeded', HINT = format('it may have %s', most);
    END IF;
    RETURN NEW;
END $$;

-- An element needs what its type is made of.
CREATE FUNCTION validate_element() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    job_duration numeric;
BEGIN
    IF NEW.element_type = 'text' AND coalesce(NEW.text_content, '') = '' THEN
        RAISE EXCEPTION 'a text element has no text' USING ERRCODE = 'check_violation', COLUMN = 'text_content';
    END IF;
    IF NEW.element_type IN ('video', 'image', 'audio') AND coalesce(NEW.source_url, '') = '' THEN
        RAISE EXCEPTION 'a % element has no source', NEW.element_type
            USING ERRCODE = 'check_violation', COLUMN = 'source_url';
    END IF;
    SELECT duration_seconds INTO job_duration FROM jobs WHERE id = NEW.job_id;
    IF NEW.start_time >= job_duration THEN
        RAISE EXCEPTION 'the element begins at % s, and the video ends at % s', NEW.start_time, job_duration
            USING ERRCODE = 'check_violation', COLUMN = 'start_time';
    END IF;
    RETURN NEW;
END $$;

-- A put back job begins anew: its elements are to be processed again.
CREATE FUNCTION reset_elements() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE elements SET processing_status = 'pending', processing_time_ms = NULL, error_message = NULL
    WHERE job_id = NEW.id AND processing_status <> 'pending';
    RETURN NULL;
END $$;

-- The attempt that a step belongs to, and the time that it took.
CREATE FUNCTION complete_timeline_entry() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.attempt IS NULL THEN
        NEW.attempt := coalesce((SELECT attempt FROM jobs WHERE id = NEW.job_id), 1);
    END IF;
    IF NEW.success IS NOT NULL AND NEW.completed_at IS NULL THEN
        NEW.completed_at := clock_timestamp();
    END IF;
    IF NEW.completed_at IS NOT NULL AND NEW.duration_ms IS NULL THEN
        NEW.duration_ms := greatest(round(extract(epoch FROM NEW.completed_at - NEW.started_at) * 1000), 0);
    END IF;
    RETURN NEW;
END $$;

-- Progress follows from the steps and the elements. The jobs are locked first, in the order of their ids; what is
-- counted afterwards holds what others have committed meanwhile. It runs with its owner's rights, because a client who
-- adds an element may not otherwise change the job.
CREATE FUNCTION follow_elements() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    changes jsonb;
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT jsonb_agg(c) INTO changes FROM (
            SELECT job_id, count(*) AS total, count(*) FILTER (WHERE processing_status = 'completed') AS completed,
                count(*) FILTER (WHERE processing_status = 'failed') AS failed
            FROM new_rows GROUP BY job_id) c;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT jsonb_agg(c) INTO changes FROM (
            SELECT job_id, -count(*) AS total, -count(*) FILTER (WHERE processing_status = 'completed') AS completed,
                -count(*) FILTER (WHERE processing_status = 'failed') AS failed
            FROM old_rows GROUP BY job_id) c;
    ELSE
        SELECT jsonb_agg(c) INTO changes FROM (
            SELECT job_id, sum(weight) AS total, sum(weight) FILTER (WHERE processing_status = 'completed') AS completed,
                sum(weight) FILTER (WHERE processing_status = 'failed') AS failed
            FROM (
                SELECT job_id, processing_status, 1 AS weight FROM new_rows
                UNION ALL SELECT job_id, processing_status, -1 FROM old_rows) r
            GROUP BY job_id) c
        WHERE c.total <> 0 OR coalesce(c.completed, 0) <> 0 OR coalesce(c.failed, 0) <> 0;
    END IF;
    IF changes IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM FROM jobs
    WHERE id = ANY (ARRAY(SELECT (c ->> 'job_id')::uuid FROM jsonb_array_elements(changes) c))
    ORDER BY id FOR NO KEY UPDATE;
    UPDATE jobs j SET total_elements = j.total_elements + coalesce(c.total, 0),
        completed_elements = j.completed_elements + coalesce(c.completed, 0),
        failed_elements = j.failed_elements + coalesce(c.failed, 0)
    FROM jsonb_to_recordset(changes) AS c (job_id uuid, total integer, completed integer, failed integer)
    WHERE j.id = c.job_id;
    PERFORM check_added_elements(j) FROM jobs j
    WHERE j.id = ANY (ARRAY(
        SELECT (c ->> 'job_id')::uuid FROM jsonb_array_elements(changes) c WHERE (c ->> 'total')::integer > 0));
    PERFORM refresh_progress(ARRAY(SELECT (c ->> 'job_id')::uuid FROM jsonb_array_elements(changes) c));
    RETURN NULL;
END $$;

-- A job that has ended takes no elements, and that of a client takes so many only.
CREATE FUNCTION check_added_elements(job jobs) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    most integer;
BEGIN
    IF job.status IN ('completed', 'cancelled') THEN
        RAISE EXCEPTION 'a job that is % takes no elements', job.status
            USING ERRCODE = 'check_violation', HINT = 'add elements before the job has ended';
    END IF;
    IF calling_role() IN ('admin', 'service_account') THEN
        RETURN;
    END IF;
    SELECT max_elements INTO most FROM client_limits;
    IF job.total_elements > most THEN
        RAISE EXCEPTION 'the job has % elements', job.total_elements
            USING ERRCODE = 'program_limit_exceeded', HINT = format('it may have %s', most);
    END IF;
END $$;

CREATE FUNCTION refresh_progress(job_ids uuid[]) RETURNS void LANGUAGE sql SET search_path FROM CURRENT AS $$
    UPDATE jobs j SET progress_percentage = p.progress
    FROM (
        SELECT id, calculate_job_progress(id) AS progress FROM jobs
        WHERE id = ANY (job_ids) AND status = 'processing') p
    WHERE j.id = p.id AND j.progress_percentage <> p.progress
$$;

CREATE FUNCTION follow_steps() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    changed uuid[];
BEGIN
    IF TG_OP = 'DELETE' THEN
        changed := ARRAY(SELECT DISTINCT job_id FROM old_rows);
    ELSIF TG_OP = 'UPDATE' THEN
        changed := ARRAY(SELECT job_id FROM old_rows UNION SELECT job_id FROM new_rows);
    ELSE
        changed := ARRAY(SELECT DISTINCT job_id FROM new_rows);
    END IF;
    PERFORM FROM jobs WHERE id = ANY (changed) ORDER BY id FOR NO KEY UPDATE;
    UPDATE jobs j SET current_step = latest_step(j.id, j.attempt)
    WHERE j.id = ANY (changed) AND j.status = 'processing'
      AND j.current_step IS DISTINCT FROM latest_step(j.id, j.attempt);
    PERFORM refresh_progress(changed);
    RETURN NULL;
END $$;

-- Summaries: see job_statistics. The functions run with their owner's rights, because only they write to the summaries.

-- How long a job took, in seconds, if it is completed.
CREATE FUNCTION job_seconds(job jobs) RETURNS numeric LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT CASE WHEN job.status = 'completed'
        THEN greatest(extract(epoch FROM job.completed_at - job.started_at), 0)::numeric END
$$;

-- The bucket of job_durations.
CREATE FUNCTION duration_bucket(seconds numeric) RETURNS integer LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $$
    SELECT floor(ln(greatest(seconds, 0.001)) / ln(1.02))::integer
    WHERE seconds IS NOT NULL
$$;

-- Appends what a job counts for, or counted for with a weight of -1.
CREATE FUNCTION append_job_change(job jobs, weight integer) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    seconds numeric := job_seconds(job);
BEGIN
    INSERT INTO job_statistics_changes (
        hour, status, bucket, jobs, timed_jobs, processing_seconds, output_bytes, elements)
    VALUES (
        date_trunc('hour', job.created_at, 'UTC'), job.status, duration_bucket(seconds), weight,
        CASE WHEN seconds IS NULL THEN 0 ELSE weight END, weight * coalesce(seconds, 0),
        weight * coalesce(job.file_size_bytes, 0), weight * job.total_elements);
END $$;

CREATE FUNCTION count_job() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM append_job_change(OLD, -1);
    END IF;
    IF TG_OP = 'DELETE' THEN
        INSERT INTO url_access_changes (job_id, is_removed) VALUES (OLD.id, true);
    ELSE
        PERFORM append_job_change(NEW, 1);
    END IF;
    -- Not in the transaction of a client, who may leave it open.
    IF random() < 0.002 AND calling_role() IN ('admin', 'service_account') THEN
        PERFORM fold_statistics();
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION count_url_accesses() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO url_access_changes (
            job_id, accesses, errors, total_bytes, responses, response_time_ms, first_access, last_access)
        SELECT job_id, count(*), count(*) FILTER (WHERE http_status >= 400), coalesce(sum(bytes_sent), 0),
            count(response_time_ms), coalesce(sum(response_time_ms), 0), min(accessed_at), max(accessed_at)
        FROM new_rows WHERE job_id IS NOT NULL GROUP BY job_id;
    ELSE
        -- The times of the first and the last access are those that an entry ever had.
        INSERT INTO url_access_changes (
            job_id, accesses, errors, total_bytes, responses, response_time_ms, first_access, last_access)
        SELECT job_id, sum(weight), coalesce(sum(weight) FILTER (WHERE http_status >= 400), 0),
            coalesce(sum(weight * bytes_sent), 0), coalesce(sum(weight) FILTER (WHERE response_time_ms IS NOT NULL), 0),
            coalesce(sum(weight * response_time_ms), 0), min(accessed_at), max(accessed_at)
        FROM (
            SELECT job_id, http_status, bytes_sent, response_time_ms, accessed_at, 1 AS weight FROM new_rows
            UNION ALL
            SELECT job_id, http_status, bytes_sent, response_time_ms, accessed_at, -1 FROM old_rows) r
        WHERE job_id IS NOT NULL GROUP BY job_id;
    END IF;
    IF random() < 0.002 AND calling_role() IN ('admin', 'service_account') THEN
        PERFORM fold_statistics();
    END IF;
    RETURN NULL;
END $$;

-- Adds the changes up, and removes them; returns how many there were. One transaction does so at a time; the others leave it to it.
-- The triggers call it now and then.
CREATE FUNCTION fold_statistics(max_changes integer DEFAULT 10000) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    folded integer;
    changes bigint[];
BEGIN
    PERFORM require_argument(
        max_changes BETWEEN 1 AND 1000000, 'max_changes', max_changes::text, 'from 1 to 1000000');
    -- Another isolation level does not see what was folded since the transaction began.
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RETURN 0;
    END IF;
    PERFORM FROM locks WHERE slot = -1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    WITH gone AS (
        DELETE FROM job_statistics_changes WHERE id = ANY (ARRAY(
            SELECT id FROM job_statistics_changes ORDER BY id LIMIT max_changes))
        RETURNING *
    ), durations AS (
        INSERT INTO job_durations AS d (day, bucket, jobs)
        SELECT (hour AT TIME ZONE 'UTC')::date, bucket, sum(timed_jobs) FROM gone
        WHERE bucket IS NOT NULL GROUP BY 1, 2
        ON CONFLICT (day, bucket) DO UPDATE SET jobs = d.jobs + excluded.jobs
    ), statistics AS (
        INSERT INTO job_statistics AS s (hour, status, jobs, timed_jobs, processing_seconds, output_bytes, elements)
        SELECT hour, status, sum(jobs), sum(timed_jobs), sum(processing_seconds), sum(output_bytes), sum(elements)
        FROM gone GROUP BY hour, status
        ON CONFLICT (hour, status) DO UPDATE SET jobs = s.jobs + excluded.jobs,
            timed_jobs = s.timed_jobs + excluded.timed_jobs,
            processing_seconds = s.processing_seconds + excluded.processing_seconds,
            output_bytes = s.output_bytes + excluded.output_bytes, elements = s.elements + excluded.elements
    )
    SELECT count(*) INTO folded FROM gone;
    -- What counts no job counts nothing else: each change that takes a job away follows the one that brought it.
    DELETE FROM job_statistics WHERE jobs = 0;
    DELETE FROM job_durations WHERE jobs = 0;
    changes := ARRAY(SELECT id FROM url_access_changes ORDER BY id LIMIT max_changes);
    -- A job that was removed may have been made again, with the same id: what follows its removal counts.
    DELETE FROM url_access_totals WHERE job_id IN (
        SELECT job_id FROM url_access_changes WHERE id = ANY (changes) AND is_removed);
    WITH gone AS (
        DELETE FROM url_access_changes WHERE id = ANY (changes) RETURNING *
    )
    INSERT INTO url_access_totals AS t (
        job_id, accesses, errors, total_bytes, responses, response_time_ms, first_access, last_access)
    SELECT g.job_id, sum(g.accesses), sum(g.errors), sum(g.total_bytes), sum(g.responses), sum(g.response_time_ms),
        min(g.first_access), max(g.last_access)
    FROM gone g LEFT JOIN (
        SELECT r.job_id, max(r.id) AS id FROM gone r WHERE r.is_removed GROUP BY r.job_id) removal
        ON removal.job_id = g.job_id
    WHERE g.id > coalesce(removal.id, 0)
    GROUP BY g.job_id
    ON CONFLICT (job_id) DO UPDATE SET accesses = t.accesses + excluded.accesses,
        errors = t.errors + excluded.errors, total_bytes = t.total_bytes + excluded.total_bytes,
        responses = t.responses + excluded.responses,
        response_time_ms = t.response_time_ms + excluded.response_time_ms,
        first_access = least(t.first_access, excluded.first_access),
        last_access = greatest(t.last_access, excluded.last_access);
    RETURN folded + cardinality(changes);
END $$;

-- Makes the summaries anew from the tables: after rows were changed without the triggers, as a restore of single tables
-- does. Nobody can write to the tables meanwhile. Accesses whose log entries have been removed are counted no more.
CREATE FUNCTION rebuild_statistics() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    -- An old snapshot does not show all that is to be counted.
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'statistics are made anew in a transaction of the isolation level %',
            upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state', HINT = 'use READ COMMITTED';
    END IF;
    LOCK TABLE jobs, elements, url_access_logs IN SHARE ROW EXCLUSIVE MODE;
    TRUNCATE job_statistics, job_durations, job_statistics_changes, url_access_totals, url_access_changes;
    UPDATE jobs j SET total_elements = e.total, completed_elements = e.completed, failed_elements = e.failed
    FROM (
        SELECT i.id, count(x.id) AS total, count(*) FILTER (WHERE x.processing_status = 'completed') AS completed,
            count(*) FILTER (WHERE x.processing_status = 'failed') AS failed
        FROM jobs i LEFT JOIN elements x ON x.job_id = i.id GROUP BY i.id) e
    WHERE e.id = j.id AND (j.total_elements, j.completed_elements, j.failed_elements)
        IS DISTINCT FROM (e.total::integer, e.completed::integer, e.failed::integer);
    -- The counters are right now, and what the triggers said of them counts for nothing.
    TRUNCATE job_statistics_changes;
    INSERT INTO job_statistics (hour, status, jobs, timed_jobs, processing_seconds, output_bytes, elements)
    SELECT date_trunc('hour', j.created_at, 'UTC'), j.status, count(*), count(job_seconds(j)),
        coalesce(sum(job_seconds(j)), 0), coalesce(sum(j.file_size_bytes), 0), sum(j.total_elements)
    FROM jobs j GROUP BY 1, 2;
    INSERT INTO job_durations (day, bucket, jobs)
    SELECT (date_trunc('hour', j.created_at, 'UTC') AT TIME ZONE 'UTC')::date, duration_bucket(job_seconds(j)), count(*)
    FROM jobs j WHERE job_seconds(j) IS NOT NULL GROUP BY 1, 2;
    INSERT INTO url_access_totals
    SELECT job_id, count(*), count(*) FILTER (WHERE http_status >= 400), coalesce(sum(bytes_sent), 0),
        count(response_time_ms), coalesce(sum(response_time_ms), 0), min(accessed_at), max(accessed_at)
    FROM url_access_logs WHERE job_id IS NOT NULL GROUP BY job_id;
END $$;

CREATE FUNCTION clear_statistics() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM rebuild_statistics();
    RETURN NULL;
END $$;

-- What subscribers hear: job_updates and timeline_updates, each with a small JSON object.
CREATE FUNCTION notify_job_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_notify('job_updates', json_build_object(
        'operation', TG_OP, 'id', NEW.id, 'status', NEW.status, 'progress_percentage', NEW.progress_percentage,
        'current_step', NEW.current_step)::text);
    RETURN NULL;
END $$;

CREATE FUNCTION notify_timeline_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_notify('timeline_updates', json_build_object(
        'operation', TG_OP, 'id', NEW.id, 'job_id', NEW.job_id, 'step', NEW.step, 'success', NEW.success)::text);
    RETURN NULL;
END $$;

CREATE TRIGGER touch_elements BEFORE UPDATE ON elements FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER touch_jobs BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER restrict_client_job BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION restrict_client_job();
CREATE TRIGGER restrict_client_element BEFORE INSERT ON elements
    FOR EACH ROW EXECUTE FUNCTION restrict_client_element();
CREATE TRIGGER validate_job BEFORE INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION validate_job();
CREATE TRIGGER validate_element BEFORE INSERT OR UPDATE OF job_id, element_type, source_url, text_content, start_time
    ON elements FOR EACH ROW EXECUTE FUNCTION validate_element();
CREATE TRIGGER complete_timeline_entry BEFORE INSERT OR UPDATE ON processing_timeline
    FOR EACH ROW EXECUTE FUNCTION complete_timeline_entry();
CREATE TRIGGER reset_elements AFTER UPDATE OF status ON jobs FOR EACH ROW
    WHEN (NEW.status = 'pending' AND OLD.status <> 'pending') EXECUTE FUNCTION reset_elements();
CREATE TRIGGER follow_steps_inserted AFTER INSERT ON processing_timeline REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION follow_steps();
CREATE TRIGGER follow_steps_updated AFTER UPDATE ON processing_timeline
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION follow_steps();
CREATE TRIGGER follow_steps_deleted AFTER DELETE ON processing_timeline REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION follow_steps();
CREATE TRIGGER follow_elements_inserted AFTER INSERT ON elements REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION follow_elements();
CREATE TRIGGER follow_elements_updated AFTER UPDATE ON elements REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION follow_elements();
CREATE TRIGGER follow_elements_deleted AFTER DELETE ON elements REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION follow_elements();
CREATE TRIGGER count_job_added AFTER INSERT OR DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION count_job();
CREATE TRIGGER count_job_changed AFTER UPDATE ON jobs FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.created_at IS DISTINCT FROM NEW.created_at
        OR OLD.started_at IS DISTINCT FROM NEW.started_at OR OLD.completed_at IS DISTINCT FROM NEW.completed_at
        OR OLD.file_size_bytes IS DISTINCT FROM NEW.file_size_bytes
        OR OLD.total_elements IS DISTINCT FROM NEW.total_elements)
    EXECUTE FUNCTION count_job();
CREATE TRIGGER clear_job_statistics AFTER TRUNCATE ON jobs FOR EACH STATEMENT EXECUTE FUNCTION clear_statistics();
CREATE TRIGGER clear_element_statistics AFTER TRUNCATE ON elements FOR EACH STATEMENT EXECUTE FUNCTION clear_statistics();
CREATE TRIGGER count_url_accesses AFTER INSERT ON url_access_logs REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_url_accesses();
CREATE TRIGGER count_url_accesses_changed AFTER UPDATE ON url_access_logs
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_url_accesses();
CREATE TRIGGER notify_job_insert AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION notify_job_change();
CREATE TRIGGER notify_job_update AFTER UPDATE ON jobs FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.progress_percentage IS DISTINCT FROM NEW.progress_percentage
        OR OLD.current_step IS DISTINCT FROM NEW.current_step)
    EXECUTE FUNCTION notify_job_change();
CREATE TRIGGER notify_timeline AFTER INSERT OR UPDATE ON processing_timeline
    FOR EACH ROW EXECUTE FUNCTION notify_timeline_change();

-- The order of locks, in every function and trigger: batches by their id FOR KEY SHARE, so that their deletion waits; then
-- workers; then rows by their id; then batches by their id FOR NO KEY UPDATE, for their counters. Who holds the counters
-- of a batch never waits for a row. SKIP LOCKED does not free a statement from this order: PostgreSQL waits all the same
-- where a row is updated once more while it is being locked.
--
-- A transaction of your own that changes rows begins with SELECT … FROM csv_batches WHERE id IN (…) ORDER BY id FOR KEY
-- SHARE. It locks several rows in the order of their ids: … WHERE id IN (SELECT id FROM csv_row_jobs WHERE … ORDER BY id
-- FOR UPDATE).

-- Refuses an argument: its name and value in the message, what is allowed in the hint.
CREATE FUNCTION require_argument(is_allowed boolean, name text, value text, allowed text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF is_allowed THEN
        RETURN;
    END IF;
    RAISE EXCEPTION '% is %', name, coalesce(left(value, 100), 'NULL') USING
        ERRCODE = CASE WHEN value IS NULL THEN 'null_value_not_allowed' ELSE 'invalid_parameter_value' END,
        HINT = allowed;
END $$;

-- What a row says to the image generator: country, product type, size, part number and description, as far as they
-- are there.
CREATE FUNCTION build_csv_trigger_text(row_data jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $$
    SELECT concat_ws(' ', nullif(row_data ->> 'country', ''), nullif(row_data ->> 'product_type', ''),
        nullif(row_data ->> 'size', ''), nullif(row_data ->> 'mpn', ''), nullif(row_data ->> 'description', ''))
$$;

-- Gives rows back that their workers did not finish: to the queue while retries are left, else as failed. Rows that
-- nobody holds, and rows that are being changed at this moment, stay as they are. Returns how many were given back.
CREATE FUNCTION release_csv_row_jobs(job_ids uuid[], reason text) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    released integer;
BEGIN
    PERFORM require_argument(array_position(job_ids, NULL) IS NULL AND job_ids IS NOT NULL, 'job_ids',
        CASE WHEN array_position(job_ids, NULL) IS NULL THEN job_ids::text END, 'it must be an array of ids without NULL');
    PERFORM require_argument(reason IS NOT NULL, 'reason', reason, 'it must be a text');
    PERFORM b.id FROM csv_batches b
    WHERE b.id IN (SELECT j.batch_id FROM csv_row_jobs j WHERE j.id = ANY (job_ids))
    ORDER BY b.id FOR KEY SHARE;
    UPDATE csv_row_jobs j SET
        status = CASE WHEN j.retry_count < j.max_retries THEN 'pending' ELSE 'failed' END,
        retry_count = CASE WHEN j.retry_count < j.max_retries THEN j.retry_count + 1 ELSE j.retry_count END,
        error_message = reason
    WHERE j.id IN (
        SELECT r.id FROM csv_row_jobs r WHERE r.id = ANY (job_ids) AND r.status IN ('claimed', 'processing')
        ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED);
    GET DIAGNOSTICS released = ROW_COUNT;
    RETURN released;
END $$;

-- Gives back up to 100 rows that were held longer than the timeout: of one batch or user, or of all. It never waits: a
-- batch that is being changed is left to the next call. Returns how many rows were given back.
CREATE FUNCTION release_expired_csv_row_jobs(only_batch uuid, only_user uuid, timeout_minutes integer) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz;
    expired uuid[];
    batches uuid[];
BEGIN
    PERFORM require_argument(timeout_minutes BETWEEN 1 AND 10080, 'timeout_minutes', timeout_minutes::text,
        'it must be between 1 and 10080');
    cutoff := now() - make_interval(mins => timeout_minutes);
    IF only_batch IS NOT NULL THEN
        SELECT array_agg(j.id) INTO expired FROM (
            SELECT r.id FROM csv_row_jobs r
            WHERE r.status IN ('claimed', 'processing') AND r.batch_id = only_batch AND r.claimed_at < cutoff
            ORDER BY r.claimed_at LIMIT 100) j;
    ELSE
        SELECT array_agg(j.id) INTO expired FROM (
            SELECT r.id FROM csv_row_jobs r
            WHERE r.status IN ('claimed', 'processing') AND r.claimed_at < cutoff
              AND (only_user IS NULL
                OR EXISTS (SELECT FROM csv_batches b WHERE b.id = r.batch_id AND b.user_id = only_user))
            ORDER BY r.claimed_at LIMIT 100) j;
    END IF;
    IF expired IS NULL THEN
        RETURN 0;
    END IF;
    SELECT array_agg(b.id) INTO batches FROM (
        SELECT c.id FROM csv_batches c
        WHERE c.id IN (SELECT j.batch_id FROM csv_row_jobs j WHERE j.id = ANY (expired))
        ORDER BY c.id FOR KEY SHARE SKIP LOCKED) b;
    -- Read again what the first look did not lock: it may be done by now, or be claimed anew.
    SELECT array_agg(j.id), array_agg(DISTINCT j.batch_id) INTO expired, batches FROM (
        SELECT r.id, r.batch_id FROM csv_row_jobs r
        WHERE r.id = ANY (expired) AND r.batch_id = ANY (batches)
          AND r.status IN ('claimed', 'processing') AND r.claimed_at < cutoff
        ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED) j;
    SELECT array_agg(b.id) INTO batches FROM (
        SELECT c.id FROM csv_batches c WHERE c.id = ANY (batches) ORDER BY c.id FOR NO KEY UPDATE SKIP LOCKED) b;
    SELECT array_agg(r.id) INTO expired FROM csv_row_jobs r WHERE r.id = ANY (expired) AND r.batch_id = ANY (batches);
    IF expired IS NULL THEN
        RETURN 0;
    END IF;
    RETURN release_csv_row_jobs(expired, format('held for more than %s minutes', timeout_minutes));
END $$;

-- Moves a batch's first_pending_row up to the first row that is pending, or to null. Whoever makes a row pending
-- changes the batch afterwards (count_csv_rows), so what is read under the lock of the batch misses no row. Only this
-- and the triggers write it: hence SECURITY DEFINER.
CREATE FUNCTION advance_first_pending_csv_row(batch uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    known integer;
    first integer;
BEGIN
    PERFORM require_argument(batch IS NOT NULL, 'batch', batch::text, 'it must be the id of a batch');
    SELECT b.first_pending_row INTO known FROM csv_batches b WHERE b.id = batch FOR NO KEY UPDATE SKIP LOCKED;
    IF known IS NULL THEN
        RETURN;
    END IF;
    SELECT min(j.row_number) INTO first FROM csv_row_jobs j
    WHERE j.batch_id = batch AND j.status = 'pending' AND j.row_number >= known;
    IF first IS DISTINCT FROM known THEN
        UPDATE csv_batches SET first_pending_row = first WHERE id = batch;
    END IF;
END $$;

-- Claims the next row that is to be worked on. A row is given to one worker only, however many ask at once; one that
-- was held longer than the timeout is first given back. A worker that is registered for a user or a batch gets only
-- theirs, also when it was stopped or its batch is gone. claim_number identifies the claim in the call that stores the
-- result.
CREATE FUNCTION claim_next_csv_row_job(worker_id text, batch_id uuid DEFAULT NULL, timeout_minutes integer DEFAULT 30)
RETURNS TABLE (
    job_id uuid, job_batch_id uuid, user_id uuid, row_number integer, row_data jsonb, trigger_text text,
    retry_count integer, claimed_at timestamptz, claim_number integer)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    only_batch uuid := claim_next_csv_row_job.batch_id;
    only_user uuid;
    dedicated_to uuid;
    candidates refcursor;
    candidate record;
    first integer;
    claimed csv_row_jobs;
BEGIN
    PERFORM require_argument(length(worker_id) BETWEEN 1 AND 200, 'worker_id', worker_id,
        'it must be a name of 1 to 200 characters');
    PERFORM require_argument(timeout_minutes BETWEEN 1 AND 10080, 'timeout_minutes', timeout_minutes::text,
        'it must be between 1 and 10080');
    SELECT w.user_id, w.batch_id INTO only_user, dedicated_to
    FROM csv_processing_workers w WHERE w.instance_id = worker_id;
    IF only_batch <> dedicated_to THEN
        RETURN;
    END IF;
    only_batch := coalesce(only_batch, dedicated_to);

    PERFORM release_expired_csv_row_jobs(only_batch, only_user, timeout_minutes);

    IF only_batch IS NOT NULL THEN
        OPEN candidates FOR SELECT b.id, b.user_id FROM csv_batches b
            WHERE b.id = only_batch AND (only_user IS NULL OR b.user_id = only_user)
              AND b.first_pending_row IS NOT NULL AND b.status IN ('uploaded', 'queued', 'processing');
    ELSIF only_user IS NOT NULL THEN
        OPEN candidates FOR SELECT b.id, b.user_id FROM csv_batches b
            WHERE b.user_id = only_user
              AND b.first_pending_row IS NOT NULL AND b.status IN ('uploaded', 'queued', 'processing')
            ORDER BY b.created_at, b.id;
    ELSE
        OPEN candidates FOR SELECT b.id, b.user_id FROM csv_batches b
            WHERE b.first_pending_row IS NOT NULL AND b.status IN ('uploaded', 'queued', 'processing')
            ORDER BY b.created_at, b.id;
    END IF;
    LOOP
        FETCH candidates INTO candidate;
        EXIT WHEN NOT FOUND;
        -- A claim waits for nobody, and only keeps the batch from being deleted: a user may add rows for a long time.
        SELECT b.first_pending_row INTO first FROM csv_batches b
        WHERE b.id = candidate.id AND b.status IN ('uploaded', 'queued', 'processing')
        FOR KEY SHARE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        UPDATE csv_row_jobs j SET status = 'claimed', claimed_by = worker_id, claimed_at = clock_timestamp()
        WHERE j.id = (
            SELECT q.id FROM csv_row_jobs q
            WHERE q.batch_id = candidate.id AND q.status = 'pending' AND q.row_number >= first
            ORDER BY q.row_number LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
        RETURNING j.* INTO claimed;
        IF claimed.id IS NULL OR claimed.row_number - first >= 100 THEN
            PERFORM advance_first_pending_csv_row(candidate.id);
        END IF;
        CONTINUE WHEN claimed.id IS NULL;
        CLOSE candidates;
        RETURN QUERY SELECT claimed.id, claimed.batch_id, candidate.user_id, claimed.row_number, claimed.row_data,
            coalesce(claimed.trigger_text, build_csv_trigger_text(claimed.row_data)), claimed.retry_count,
            claimed.claimed_at, claimed.claim_number;
        RETURN;
    END LOOP;
    CLOSE candidates;
END $$;

-- Stores what came of a row: 'processing', 'completed', 'failed', or 'pending' to give it back, also after it failed.
-- The batch's totals follow by trigger, and with its last row it is completed.
--
-- Returns whether the result is stored. It is not when the row is done already, or when its claim was taken away: who
-- passes worker_id, claim_number or both, as claim_next_csv_row_job had them, never overwrites what a later holder
-- does, and can repeat a call whose answer was lost. Without them, a result is refused when nobody holds the row any
-- more, but two holders cannot be told apart.
CREATE FUNCTION update_csv_row_job_result(
    job_id uuid, status text, trigger_text text DEFAULT NULL, generated_prompts jsonb DEFAULT NULL,
    generated_images jsonb DEFAULT NULL, generated_tags jsonb DEFAULT NULL,
    processing_time_seconds numeric DEFAULT NULL, error_message text DEFAULT NULL,
    worker_id text DEFAULT NULL, claim_number integer DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    is_identified boolean := worker_id IS NOT NULL OR claim_number IS NOT NULL;
    job csv_row_jobs;
BEGIN
    PERFORM require_argument(job_id IS NOT NULL, 'job_id', job_id::text, 'it must be the id of a row');
    PERFORM require_argument(status IN ('pending', 'processing', 'completed', 'failed'), 'status', status,
        'it must be processing, completed, failed, or pending to give the row back');
    PERFORM require_argument(processing_time_seconds IS NULL OR processing_time_seconds BETWEEN 0 AND 9999999,
        'processing_time_seconds', processing_time_seconds::text, 'it must be between 0 and 9999999');
    PERFORM require_argument(claim_number IS NULL OR claim_number >= 1, 'claim_number', claim_number::text,
        'it must be the number that claim_next_csv_row_job returned');
    PERFORM b.id FROM csv_batches b
    WHERE b.id = (SELECT j.batch_id FROM csv_row_jobs j WHERE j.id = job_id) FOR KEY SHARE;
    SELECT * INTO job FROM csv_row_jobs j WHERE j.id = job_id FOR NO KEY UPDATE;
    IF NOT FOUND OR job.claim_number <> claim_number
        OR (worker_id IS NOT NULL AND job.claimed_by IS DISTINCT FROM worker_id) THEN
        RETURN false;
    END IF;
    IF job.status = 'pending' THEN
        -- Given back: whoever held it reports too late. What nobody ever claimed may be reported by anybody.
        IF is_identified OR job.claim_number > 0 THEN
            RETURN false;
        END IF;
    ELSIF job.status IN ('completed', 'failed') AND NOT (job.status = 'failed' AND status = 'pending') THEN
        RETURN is_identified AND job.status = status;
    END IF;
    UPDATE csv_row_jobs j SET
        status = update_csv_row_job_result.status,
        trigger_text = coalesce(update_csv_row_job_result.trigger_text, j.trigger_text),
        generated_prompts = coalesce(update_csv_row_job_result.generated_prompts, j.generated_prompts),
        generated_images = coalesce(update_csv_row_job_result.generated_images, j.generated_images),
        generated_tags = coalesce(update_csv_row_job_result.generated_tags, j.generated_tags),
        processing_time_seconds = coalesce(
            update_csv_row_job_result.processing_time_seconds, j.processing_time_seconds),
        error_message = update_csv_row_job_result.error_message
    WHERE j.id = job.id;
    RETURN true;
END $$;

-- A worker's sign of life; registers it with the first. What is not passed stays as it was, the user and the batch that
-- the worker is dedicated to above all: only the deletion of its record makes it a worker for all.
CREATE FUNCTION update_csv_worker_heartbeat(
    instance_id text, status text DEFAULT 'idle', current_job_count integer DEFAULT NULL,
    total_jobs_processed integer DEFAULT NULL, total_jobs_failed integer DEFAULT NULL,
    average_processing_seconds numeric DEFAULT NULL, user_id uuid DEFAULT NULL, batch_id uuid DEFAULT NULL,
    max_concurrent_jobs integer DEFAULT NULL)
RETURNS uuid
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    worker uuid;
BEGIN
    PERFORM require_argument(length(instance_id) BETWEEN 1 AND 200, 'instance_id', instance_id,
        'it must be a name of 1 to 200 characters');
    PERFORM require_argument(status IN ('idle', 'processing', 'stopped'), 'status', status,
        'it must be idle, processing or stopped');
    PERFORM require_argument(current_job_count IS NULL OR current_job_count >= 0, 'current_job_count',
        current_job_count::text, 'it must be at least 0');
    PERFORM require_argument(total_jobs_processed IS NULL OR total_jobs_processed >= 0, 'total_jobs_processed',
        total_jobs_processed::text, 'it must be at least 0');
    PERFORM require_argument(total_jobs_failed IS NULL OR total_jobs_failed >= 0, 'total_jobs_failed',
        total_jobs_failed::text, 'it must be at least 0');
    PERFORM require_argument(average_processing_seconds IS NULL OR average_processing_seconds BETWEEN 0 AND 9999999,
        'average_processing_seconds', average_processing_seconds::text, 'it must be between 0 and 9999999');
    PERFORM require_argument(max_concurrent_jobs IS NULL OR max_concurrent_jobs BETWEEN 1 AND 1000,
        'max_concurrent_jobs', max_concurrent_jobs::text, 'it must be between 1 and 1000');
    -- A worker goes on telling the batch that it was made for, also when that was deleted meanwhile.
    PERFORM require_argument(
        batch_id IS NULL OR EXISTS (SELECT FROM csv_batches b WHERE b.id = batch_id)
            OR EXISTS (SELECT FROM csv_processing_workers w WHERE w.instance_id = instance_id AND w.batch_id = batch_id),
        'batch_id', batch_id::text, 'it must be the id of a batch');
    INSERT INTO csv_processing_workers AS w (
        instance_id, status, current_job_count, total_jobs_processed, total_jobs_failed, average_processing_seconds,
        user_id, batch_id, max_concurrent_jobs, stopped_at)
    VALUES (
        instance_id, status, coalesce(current_job_count, 0), coalesce(total_jobs_processed, 0),
        coalesce(total_jobs_failed, 0), average_processing_seconds, user_id, batch_id,
        coalesce(max_concurrent_jobs, 1), CASE WHEN status = 'stopped' THEN now() END)
    ON CONFLICT ON CONSTRAINT csv_processing_workers_instance_id_key DO UPDATE SET
        status = excluded.status,
        current_job_count = coalesce(update_csv_worker_heartbeat.current_job_count, w.current_job_count),
        total_jobs_processed = coalesce(update_csv_worker_heartbeat.total_jobs_processed, w.total_jobs_processed),
        total_jobs_failed = coalesce(update_csv_worker_heartbeat.total_jobs_failed, w.total_jobs_failed),
        average_processing_seconds = coalesce(excluded.average_processing_seconds, w.average_processing_seconds),
        user_id = coalesce(excluded.user_id, w.user_id),
        batch_id = coalesce(excluded.batch_id, w.batch_id),
        max_concurrent_jobs = coalesce(update_csv_worker_heartbeat.max_concurrent_jobs, w.max_concurrent_jobs),
        last_heartbeat = now(),
        stopped_at = excluded.stopped_at
    RETURNING w.id INTO worker;
    RETURN worker;
END $$;

-- How far a batch is, in one row.
CREATE FUNCTION get_csv_batch_progress(batch_id uuid)
RETURNS TABLE (
    id uuid, filename text, status text, total_rows integer, processed_rows integer, successful_rows integer,
    failed_rows integer, pending_rows integer, active_rows integer, progress_percentage numeric,
    processing_rate_rows_per_minute numeric, estimated_minutes_remaining numeric, processing_started_at timestamptz,
    processing_completed_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    PERFORM require_argument(get_csv_batch_progress.batch_id IS NOT NULL, 'batch_id', NULL,
        'it must be the id of a batch');
    RETURN QUERY SELECT b.id, b.filename, b.status, b.total_rows, b.processed_rows, b.successful_rows, b.failed_rows,
        greatest(b.total_rows - b.processed_rows - held.count, 0), held.count,
        CASE WHEN b.total_rows = 0 THEN CASE WHEN b.status = 'completed' THEN 100.00 ELSE 0.00 END
             ELSE least(round(b.processed_rows::numeric / b.total_rows * 100, 2), 100.00) END,
        b.processing_rate_rows_per_minute,
        CASE WHEN b.processing_rate_rows_per_minute > 0
             THEN round(greatest(b.total_rows - b.processed_rows, 0) / b.processing_rate_rows_per_minute, 1) END,
        b.processing_started_at, b.processing_completed_at
    FROM csv_batches b
    CROSS JOIN LATERAL (
        SELECT count(*)::integer AS count FROM csv_row_jobs j
        WHERE j.batch_id = b.id AND j.status IN ('claimed', 'processing')) held
    WHERE b.id = get_csv_batch_progress.batch_id;
END $$;

-- Stops workers that gave no sign of life for so long, and gives back what they held, and what is held by workers
-- that never registered. Returns how many workers were stopped.
CREATE FUNCTION cleanup_stale_csv_workers(timeout_minutes integer DEFAULT 10) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz;
    batches uuid[];
    stopped text[];
    held uuid[];
BEGIN
    PERFORM require_argument(timeout_minutes BETWEEN 1 AND 10080, 'timeout_minutes', timeout_minutes::text,
        'it must be between 1 and 10080');
    cutoff := now() - make_interval(mins => timeout_minutes);
    -- The batches first, before anything else is locked. Rows of a batch that is being changed are left to the next call.
    SELECT array_agg(DISTINCT j.batch_id) INTO batches FROM (
        SELECT r.batch_id FROM csv_row_jobs r
        WHERE r.status IN ('claimed', 'processing') AND r.claimed_by IN (
            SELECT w.instance_id FROM csv_processing_workers w
            WHERE w.status <> 'stopped' AND w.last_heartbeat < cutoff)
        UNION ALL
        SELECT r.batch_id FROM csv_row_jobs r
        WHERE r.status IN ('claimed', 'processing') AND r.claimed_at < cutoff AND NOT EXISTS (
            SELECT FROM csv_processing_workers w WHERE w.instance_id = r.claimed_by AND w.status <> 'stopped')) j;
    SELECT array_agg(b.id) INTO batches FROM (
        SELECT c.id FROM csv_batches c WHERE c.id = ANY (batches) ORDER BY c.id FOR KEY SHARE SKIP LOCKED) b;

    WITH gone AS (
        UPDATE csv_processing_workers SET status = 'stopped', stopped_at = now(), current_job_count = 0
        WHERE id IN (
            SELECT w.id FROM csv_processing_workers w WHERE w.status <> 'stopped' AND w.last_heartbeat < cutoff
            ORDER BY w.id FOR NO KEY UPDATE SKIP LOCKED)
        RETURNING instance_id)
    SELECT coalesce(array_agg(instance_id), '{}') INTO stopped FROM gone;

    SELECT array_agg(j.id), array_agg(DISTINCT j.batch_id) INTO held, batches FROM (
        SELECT r.id, r.batch_id FROM csv_row_jobs r
        WHERE r.batch_id = ANY (batches) AND r.status IN ('claimed', 'processing')
          AND (r.claimed_by = ANY (stopped)
            OR (r.claimed_at < cutoff AND NOT EXISTS (
                SELECT FROM csv_processing_workers w WHERE w.instance_id = r.claimed_by AND w.status <> 'stopped')))
        ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED) j;
    SELECT array_agg(b.id) INTO batches FROM (
        SELECT c.id FROM csv_batches c WHERE c.id = ANY (batches) ORDER BY c.id FOR NO KEY UPDATE SKIP LOCKED) b;
    SELECT array_agg(r.id) INTO held FROM csv_row_jobs r WHERE r.id = ANY (held) AND r.batch_id = ANY (batches);
    IF held IS NOT NULL THEN
        PERFORM release_csv_row_jobs(held, 'its worker gave no sign of life');
    END IF;
    INSERT INTO csv_processing_logs (log_level, message, operation, worker_instance_id)
    SELECT 'WARN', 'the worker gave no sign of life and was stopped', 'cleanup_stale_csv_workers', name
    FROM unnest(stopped) AS name;
    RETURN cardinality(stopped);
END $$;

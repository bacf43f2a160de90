-- What a row says to the image generator: country, product type, size, part number and description, as far as they
-- are there.
CREATE FUNCTION build_csv_trigger_text(row_data jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $$
    SELECT concat_ws(' ', nullif(row_data ->> 'country', ''), nullif(row_data ->> 'product_type', ''),
        nullif(row_data ->> 'size', ''), nullif(row_data ->> 'mpn', ''), nullif(row_data ->> 'description', ''))
$$;

-- Gives rows back that their workers did not finish in time: to the queue while retries are left, else as failed.
CREATE FUNCTION release_csv_row_jobs(job_ids uuid[], reason text) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    released integer;
BEGIN
    UPDATE csv_row_jobs j SET
        status = CASE WHEN j.retry_count < j.max_retries THEN 'pending' ELSE 'failed' END,
        retry_count = CASE WHEN j.retry_count < j.max_retries THEN j.retry_count + 1 ELSE j.retry_count END,
        completed_at = CASE WHEN j.retry_count < j.max_retries THEN NULL ELSE now() END,
        claimed_by = NULL, claimed_at = NULL, started_at = NULL, error_message = reason
    WHERE j.id = ANY (job_ids) AND j.status IN ('claimed', 'processing');
    GET DIAGNOSTICS released = ROW_COUNT;
    RETURN released;
END $$;

-- Claims the next row that is to be worked on. A row is given to one worker only, however many ask at once; one that
-- was held longer than the timeout is first given back. A worker that is registered for a user or a batch gets only
-- theirs.
CREATE FUNCTION claim_next_csv_row_job(worker_id text, batch_id uuid DEFAULT NULL, timeout_minutes integer DEFAULT 30)
RETURNS TABLE (
    job_id uuid, job_batch_id uuid, user_id uuid, row_number integer, row_data jsonb, trigger_text text,
    retry_count integer, claimed_at timestamptz)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    only_batch uuid := claim_next_csv_row_job.batch_id;
    only_user uuid;
    expired uuid[];
    candidate record;
    claimed csv_row_jobs;
BEGIN
    SELECT w.user_id, coalesce(only_batch, w.batch_id) INTO only_user, only_batch
    FROM csv_processing_workers w WHERE w.instance_id = worker_id AND w.status <> 'stopped';
    only_batch := coalesce(only_batch, claim_next_csv_row_job.batch_id);

    SELECT array_agg(held.id) INTO expired FROM (
        SELECT j.id FROM csv_row_jobs j
        WHERE j.status IN ('claimed', 'processing') AND j.claimed_at < now() - make_interval(mins => timeout_minutes)
        ORDER BY j.claimed_at LIMIT 100 FOR UPDATE SKIP LOCKED) held;
    IF expired IS NOT NULL THEN
        PERFORM release_csv_row_jobs(expired, format('held for more than %s minutes', timeout_minutes));
    END IF;

    FOR candidate IN
        SELECT b.id, b.user_id FROM csv_batches b
        WHERE b.status IN ('uploaded', 'queued', 'processing')
          AND (only_batch IS NULL OR b.id = only_batch) AND (only_user IS NULL OR b.user_id = only_user)
        ORDER BY b.created_at, b.id
    LOOP
        UPDATE csv_row_jobs j SET status = 'claimed', claimed_by = worker_id, claimed_at = clock_timestamp()
        WHERE j.id = (
            SELECT q.id FROM csv_row_jobs q WHERE q.batch_id = candidate.id AND q.status = 'pending'
            ORDER BY q.row_number LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING j.* INTO claimed;
        CONTINUE WHEN claimed.id IS NULL;
        RETURN QUERY SELECT claimed.id, claimed.batch_id, candidate.user_id, claimed.row_number, claimed.row_data,
            coalesce(claimed.trigger_text, build_csv_trigger_text(claimed.row_data)), claimed.retry_count,
            claimed.claimed_at;
        RETURN;
    END LOOP;
END $$;

-- Stores what came of a row. The batch's totals follow by trigger, and with its last row it is completed.
CREATE FUNCTION update_csv_row_job_result(
    job_id uuid, status text, trigger_text text DEFAULT NULL, generated_prompts jsonb DEFAULT NULL,
    generated_images jsonb DEFAULT NULL, generated_tags jsonb DEFAULT NULL,
    processing_time_seconds numeric DEFAULT NULL, error_message text DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    UPDATE csv_row_jobs j SET
        status = update_csv_row_job_result.status,
        trigger_text = coalesce(update_csv_row_job_result.trigger_text, j.trigger_text),
        generated_prompts = coalesce(update_csv_row_job_result.generated_prompts, j.generated_prompts),
        generated_images = coalesce(update_csv_row_job_result.generated_images, j.generated_images),
        generated_tags = coalesce(update_csv_row_job_result.generated_tags, j.generated_tags),
        processing_time_seconds = coalesce(
            update_csv_row_job_result.processing_time_seconds, j.processing_time_seconds),
        error_message = update_csv_row_job_result.error_message,
        started_at = CASE WHEN update_csv_row_job_result.status = 'processing'
            THEN coalesce(j.started_at, now()) ELSE j.started_at END,
        completed_at = CASE WHEN update_csv_row_job_result.status IN ('completed', 'failed') THEN now() END
    WHERE j.id = update_csv_row_job_result.job_id;
    RETURN FOUND;
END $$;

-- A worker's sign of life; registers it with the first.
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
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT b.id, b.filename, b.status, b.total_rows, b.processed_rows, b.successful_rows, b.failed_rows,
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
    WHERE b.id = get_csv_batch_progress.batch_id
$$;

-- Stops workers that gave no sign of life for so long, and gives back what they held, and what is held by workers
-- that never registered. Returns how many workers were stopped.
CREATE FUNCTION cleanup_stale_csv_workers(timeout_minutes integer DEFAULT 10) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz := now() - make_interval(mins => timeout_minutes);
    stopped text[];
    held uuid[];
BEGIN
    WITH gone AS (
        UPDATE csv_processing_workers SET status = 'stopped', stopped_at = now(), current_job_count = 0
        WHERE status <> 'stopped' AND last_heartbeat < cutoff
        RETURNING instance_id)
    SELECT coalesce(array_agg(instance_id), '{}') INTO stopped FROM gone;

    SELECT array_agg(j.id) INTO held FROM (
        SELECT r.id FROM csv_row_jobs r
        WHERE r.status IN ('claimed', 'processing') AND (
            r.claimed_by = ANY (stopped)
            OR (r.claimed_at < cutoff AND NOT EXISTS (
                SELECT FROM csv_processing_workers w
                WHERE w.instance_id = r.claimed_by AND w.status <> 'stopped')))
        FOR UPDATE SKIP LOCKED) j;
    IF held IS NOT NULL THEN
        PERFORM release_csv_row_jobs(held, 'its worker gave no sign of life');
    END IF;
    INSERT INTO csv_processing_logs (log_level, message, operation, worker_instance_id)
    SELECT 'WARN', 'the worker gave no sign of life and was stopped', 'cleanup_stale_csv_workers', name
    FROM unnest(stopped) AS name;
    RETURN cardinality(stopped);
END $$;

-- What running the system needs beyond its definition: indexes for what is asked, updated_at kept by itself, statuses
-- that do not go back, and functions that count exactly however many workers call them.
--
-- Locks are taken in one order: the batch, its posters by id, their failures. A worker that changes several of them in
-- one transaction without these functions keeps to it too. Each transaction changes one batch.
CREATE INDEX idx_generated_posters_job_status ON generated_posters (job_id, status);
CREATE INDEX idx_generated_posters_metadata ON generated_posters USING gin (metadata);
CREATE INDEX idx_generated_posters_username ON generated_posters (username);
CREATE INDEX idx_batch_jobs_created_at ON batch_jobs (created_at DESC);
CREATE INDEX idx_batch_jobs_status ON batch_jobs (status, created_at DESC);
CREATE INDEX idx_job_logs_job_id ON job_logs (job_id, created_at DESC);
CREATE INDEX idx_poster_failure_details_job_id ON poster_failure_details (job_id, created_at DESC);
CREATE INDEX idx_poster_failure_details_poster_id ON poster_failure_details (poster_id);

-- Refuses an argument that is not allowed.
CREATE FUNCTION require_argument(is_allowed boolean, name text, value text, allowed text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF is_allowed IS NOT TRUE THEN
        RAISE EXCEPTION '% is %', name, coalesce(value, 'NULL') USING HINT = allowed,
            ERRCODE = CASE WHEN value IS NULL THEN 'null_value_not_allowed' ELSE 'invalid_parameter_value' END;
    END IF;
END $$;

CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE TRIGGER touch_generated_posters BEFORE UPDATE ON generated_posters
    FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER touch_batch_jobs BEFORE UPDATE ON batch_jobs
    FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

-- What is completed stays so. What failed may be tried again, and what is processing may be given back by whoever finds
-- that its worker has died.
CREATE FUNCTION refuse_status_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION '% % is completed and cannot become %',
        CASE TG_TABLE_NAME WHEN 'batch_jobs' THEN 'batch' ELSE 'poster' END,
        CASE TG_TABLE_NAME WHEN 'batch_jobs' THEN to_jsonb(OLD) ->> 'job_id' ELSE OLD.id::text END, NEW.status
        USING ERRCODE = 'check_violation', TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA, COLUMN = 'status',
        HINT = CASE TG_TABLE_NAME
            WHEN 'batch_jobs' THEN 'retry_failed_posters opens a batch again; so does the change of status that also sets completed_at to NULL'
            ELSE 'insert another poster for the same user' END;
END $$;

CREATE TRIGGER keep_completed_posters BEFORE UPDATE OF status ON generated_posters
    FOR EACH ROW WHEN (OLD.status = 'completed' AND NEW.status <> 'completed') EXECUTE FUNCTION refuse_status_change();
-- A late 'processing' of a worker does not open a finished batch; who means to open it also clears completed_at.
CREATE TRIGGER keep_completed_batches BEFORE UPDATE OF status ON batch_jobs
    FOR EACH ROW WHEN (
        OLD.status = 'completed' AND NEW.status <> 'completed'
        AND NOT (NEW.status IN ('pending', 'processing') AND OLD.completed_at IS NOT NULL AND NEW.completed_at IS NULL))
    EXECUTE FUNCTION refuse_status_change();

-- Records what became of a poster, and counts it in its batch: once, whoever else records it at the same time. The first
-- result starts the batch. The last one, when as many are processed as total_items says and no poster is open, completes
-- it. A poster that failed and is now completed moves from one counter to the other. A failure with a type also gets a
-- row in poster_failure_details.
--
-- Returns whether the result was recorded: not if the poster was completed or failed before, or is gone.
CREATE FUNCTION finish_poster(
    poster_id uuid, outcome job_status, poster_url text DEFAULT NULL, s3_key text DEFAULT NULL,
    processing_time_ms integer DEFAULT NULL, error_message text DEFAULT NULL, failure_type text DEFAULT NULL,
    error_details jsonb DEFAULT '{}')
RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    batch varchar;
    is_held boolean;
    former job_status;
    is_new integer; -- 1, or 0 if the poster was counted as failed before
BEGIN
    PERFORM require_argument(poster_id IS NOT NULL, 'poster_id', poster_id::text, 'it must be the id of a poster');
    PERFORM require_argument(outcome IN ('completed', 'failed'), 'outcome', outcome::text,
        'it must be completed or failed');
    PERFORM require_argument(coalesce(processing_time_ms, 0) >= 0, 'processing_time_ms', processing_time_ms::text,
        'it must not be negative');
    PERFORM require_argument(coalesce(length(poster_url), 0) <= 500, 'poster_url', left(poster_url, 40) || '…',
        'it must be at most 500 characters long');
    PERFORM require_argument(coalesce(length(s3_key), 0) <= 500, 's3_key', left(s3_key, 40) || '…',
        'it must be at most 500 characters long');
    PERFORM require_argument(failure_type IS NULL OR (outcome = 'failed' AND length(failure_type) <= 100),
        'failure_type', left(failure_type, 110),
        'it must be at most 100 characters long, and NULL for a poster that is completed');
    PERFORM require_argument(coalesce(jsonb_typeof(error_details), 'object') = 'object', 'error_details',
        left(error_details::text, 40), 'it must be a JSON object');

    SELECT p.job_id INTO batch FROM generated_posters p WHERE p.id = finish_poster.poster_id;
    -- The batch first. There may be none; one that begins after this does not count the poster.
    PERFORM FROM batch_jobs b WHERE b.job_id = batch FOR NO KEY UPDATE;
    is_held := FOUND;
    SELECT p.status INTO former FROM generated_posters p
    WHERE p.id = finish_poster.poster_id AND p.job_id = batch FOR NO KEY UPDATE;
    IF former IS NULL OR former = 'completed' OR former = outcome THEN
        RETURN false;
    END IF;

    UPDATE generated_posters p SET
        status = outcome,
        poster_url = coalesce(finish_poster.poster_url, p.poster_url),
        s3_key = coalesce(finish_poster.s3_key, p.s3_key),
        processing_time_ms = coalesce(finish_poster.processing_time_ms, p.processing_time_ms),
        error_message = finish_poster.error_message
    WHERE p.id = finish_poster.poster_id;

    is_new := (former <> 'failed')::integer;
    UPDATE batch_jobs b SET
        processed_items = b.processed_items + is_new,
        success_count = b.success_count + (outcome = 'completed')::integer,
        -- The application may have set the counter back: never below 0.
        failure_count = greatest(b.failure_count + (outcome = 'failed')::integer - (1 - is_new), 0),
        status = CASE
            WHEN b.status NOT IN ('pending', 'processing') THEN b.status
            WHEN is_last THEN 'completed'
            ELSE 'processing' END,
        started_at = coalesce(b.started_at, now()),
        completed_at = CASE WHEN is_last AND b.status IN ('pending', 'processing') THEN now() ELSE b.completed_at END
    FROM (
        SELECT c.total_items > 0 AND c.processed_items + is_new >= c.total_items
            AND NOT EXISTS (
                SELECT FROM generated_posters p WHERE p.job_id = batch AND p.status IN ('pending', 'processing'))
            AS is_last
        FROM batch_jobs c WHERE c.job_id = batch) last
    WHERE b.job_id = batch AND is_held;
    IF failure_type IS NOT NULL THEN
        INSERT INTO poster_failure_details (
            job_id, poster_id, user_identifier, username, failure_type, error_message, error_details)
        SELECT p.job_id, p.id, p.user_identifier, p.username, finish_poster.failure_type, finish_poster.error_message,
            finish_poster.error_details
        FROM generated_posters p WHERE p.id = finish_poster.poster_id;
    END IF;
    RETURN true;
END $$;

-- Puts the failed posters of a batch back, to be tried again, and takes them out of its counters. A finished batch is
-- opened again if there are any. Returns how many there are. Who puts a failed poster back in another way also takes it
-- out of the counters, else its next result is counted beside the first.
CREATE FUNCTION retry_failed_posters(job_id text) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    batch varchar := job_id;
    is_held boolean;
    retried integer;
BEGIN
    PERFORM require_argument(batch IS NOT NULL, 'job_id', batch, 'it must be the job_id of a batch');
    PERFORM FROM batch_jobs b WHERE b.job_id = batch FOR NO KEY UPDATE;
    is_held := FOUND;
    -- Without the lock, another batch of this name may begin meanwhile: nothing of it is touched.
    WITH failed AS MATERIALIZED (
        SELECT p.id FROM generated_posters p
        WHERE p.job_id = batch AND p.status = 'failed'
          AND (is_held OR NOT EXISTS (SELECT FROM batch_jobs b WHERE b.job_id = batch))
        ORDER BY p.id FOR NO KEY UPDATE
    ), put_back AS (
        UPDATE generated_posters p SET status = 'pending', error_message = NULL, processing_time_ms = NULL
        FROM failed f WHERE p.id = f.id
        RETURNING p.id
    ), counted AS (
        UPDATE poster_failure_details d SET retry_count = coalesce(d.retry_count, 0) + 1
        FROM put_back r WHERE d.poster_id = r.id
    )
    SELECT count(*) INTO retried FROM put_back;
    IF retried > 0 THEN
        -- The change that opens a batch again clears completed_at; see keep_completed_batches.
        UPDATE batch_jobs b SET completed_at = now()
        WHERE b.job_id = batch AND is_held AND b.status = 'completed' AND b.completed_at IS NULL;
        UPDATE batch_jobs b SET
            processed_items = greatest(b.processed_items - retried, 0),
            failure_count = greatest(b.failure_count - retried, 0),
            status = CASE WHEN b.status = 'pending' THEN b.status ELSE 'processing' END,
            completed_at = NULL,
            error_message = NULL
        WHERE b.job_id = batch AND is_held;
    END IF;
    RETURN retried;
END $$;

-- Deletes a batch with its posters, failures and logs, also while workers are at it: their results then find nothing to
-- count. Returns whether there was anything.
CREATE FUNCTION delete_batch(job_id text) RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    batch varchar := job_id;
    is_held boolean;
    was_there boolean;
BEGIN
    PERFORM require_argument(batch IS NOT NULL, 'job_id', batch, 'it must be the job_id of a batch');
    PERFORM FROM batch_jobs b WHERE b.job_id = batch FOR UPDATE;
    is_held := FOUND;
    was_there := is_held;
    -- As in retry_failed_posters.
    PERFORM FROM generated_posters p
    WHERE p.job_id = batch AND (is_held OR NOT EXISTS (SELECT FROM batch_jobs b WHERE b.job_id = batch))
    ORDER BY p.id FOR UPDATE;
    DELETE FROM generated_posters p
    WHERE p.job_id = batch AND (is_held OR NOT EXISTS (SELECT FROM batch_jobs b WHERE b.job_id = batch));
    was_there := was_there OR FOUND;
    DELETE FROM poster_failure_details d
    WHERE d.job_id = batch AND (is_held OR NOT EXISTS (SELECT FROM batch_jobs b WHERE b.job_id = batch));
    was_there := was_there OR FOUND;
    DELETE FROM job_logs l
    WHERE l.job_id = batch AND (is_held OR NOT EXISTS (SELECT FROM batch_jobs b WHERE b.job_id = batch));
    was_there := was_there OR FOUND;
    IF is_held THEN
        DELETE FROM batch_jobs b WHERE b.job_id = batch;
    END IF;
    RETURN was_there;
END $$;

-- The system has no roles of its own: the owner grants its workers what they call. require_argument changes nothing and
-- is called by all the others, so that everybody may execute it.
REVOKE EXECUTE ON FUNCTION touch_updated_at(), refuse_status_change(),
    finish_poster(uuid, job_status, text, text, integer, text, text, jsonb), retry_failed_posters(text),
    delete_batch(text) FROM PUBLIC;

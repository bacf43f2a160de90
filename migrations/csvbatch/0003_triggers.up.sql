-- What follows from a row's status, however it was changed.
CREATE FUNCTION settle_csv_row_job() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    is_new_claim boolean := NEW.status IN ('claimed', 'processing');
BEGIN
    IF TG_OP = 'UPDATE' THEN
        NEW.updated_at := now();
        is_new_claim := is_new_claim
            AND (OLD.status NOT IN ('claimed', 'processing') OR NEW.claimed_by IS DISTINCT FROM OLD.claimed_by);
        IF is_new_claim AND NEW.claimed_at = OLD.claimed_at THEN
            NEW.claimed_at := NULL;
        END IF;
    END IF;
    IF NEW.status = 'pending' THEN
        NEW.claimed_by := NULL;
        NEW.claimed_at := NULL;
        NEW.started_at := NULL;
        NEW.completed_at := NULL;
    ELSIF NEW.status IN ('claimed', 'processing') THEN
        -- A row without this time, or with one in the future, would be held for ever.
        NEW.claimed_at := least(NEW.claimed_at, clock_timestamp());
        NEW.claim_number := NEW.claim_number + is_new_claim::integer;
        NEW.completed_at := NULL;
        IF NEW.status = 'processing' THEN
            NEW.started_at := coalesce(NEW.started_at, now());
        END IF;
    ELSE
        NEW.completed_at := coalesce(NEW.completed_at, now());
    END IF;
    RETURN NEW;
END $$;

-- What follows from a batch's counters. A batch that is under way is completed when nothing is open and nothing is to
-- come, also if it never had rows. It is under way again when rows are put back or follow later. 'failed' and
-- 'cancelled' are decisions of the application, and stay.
CREATE FUNCTION settle_csv_batch() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.total_rows < 0 THEN
        RAISE EXCEPTION 'total_rows is %', NEW.total_rows
            USING ERRCODE = 'check_violation', HINT = 'it must be 0, or the number of rows';
    END IF;
    NEW.total_rows := greatest(NEW.total_rows, NEW.processed_rows + NEW.open_rows);
    IF TG_OP = 'UPDATE' THEN
        NEW.updated_at := now();
        IF NEW.status = 'completed' AND OLD.status <> 'completed' AND NEW.open_rows > 0 THEN
            RAISE EXCEPTION 'the batch % has % open rows', NEW.id, NEW.open_rows USING
                ERRCODE = 'check_violation',
                HINT = 'it is completed with its last row; set it to cancelled if the rows are not to be worked on';
        ELSIF NEW.status = 'completed' AND OLD.status = 'completed'
            AND (NEW.open_rows > 0 OR (NEW.total_rows > OLD.total_rows AND NEW.processed_rows < NEW.total_rows)) THEN
            NEW.status := CASE WHEN NEW.processing_started_at IS NULL THEN 'queued' ELSE 'processing' END;
        END IF;
    END IF;
    IF NEW.status IN ('queued', 'processing') AND NEW.open_rows = 0 AND NEW.processed_rows >= NEW.total_rows THEN
        NEW.status := 'completed';
    END IF;
    IF NEW.status = 'processing' THEN
        NEW.processing_started_at := coalesce(NEW.processing_started_at, clock_timestamp());
    END IF;
    IF NEW.status = 'completed' THEN
        NEW.processing_completed_at := coalesce(NEW.processing_completed_at, clock_timestamp());
    ELSIF NEW.status IN ('uploaded', 'queued', 'processing') THEN
        NEW.processing_completed_at := NULL;
    END IF;
    RETURN NEW;
END $$;

-- Keeps the counters of batches from the rows' statuses. It counts what changed rather than all rows anew, and changes
-- the batches in one order. Users who may add and delete rows may not write counters: hence SECURITY DEFINER.
CREATE FUNCTION count_csv_rows() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    batches uuid[];
    rows integer[];
    successful integer[];
    failed integer[];
    started boolean[];
    first_pending integer[];
    -- Batches of which several rows at once may have ceased to be pending.
    drained boolean[];
BEGIN
    IF TG_OP = 'UPDATE' THEN
        SELECT array_agg(c.batch_id), array_agg(c.rows), array_agg(c.successful), array_agg(c.failed),
            array_agg(c.held > 0 OR c.successful + c.failed > 0), array_agg(c.first_pending),
            array_agg(c.pending < 0 AND c.many)
        INTO batches, rows, successful, failed, started, first_pending, drained
        FROM (
            SELECT s.batch_id, sum(weight) AS rows,
                coalesce(sum(weight) FILTER (WHERE status = 'completed'), 0) AS successful,
                coalesce(sum(weight) FILTER (WHERE status = 'failed'), 0) AS failed,
                coalesce(sum(weight) FILTER (WHERE status IN ('claimed', 'processing')), 0) AS held,
                coalesce(sum(weight) FILTER (WHERE status = 'pending'), 0) AS pending,
                min(row_number) FILTER (WHERE status = 'pending' AND weight = 1) AS first_pending,
                sum(count(*)) OVER () > 2 AS many
            FROM (
                SELECT batch_id, row_number, status, 1 AS weight FROM new_rows
                UNION ALL
                SELECT batch_id, row_number, status, -1 FROM old_rows) s
            GROUP BY s.batch_id) c
        WHERE c.rows <> 0 OR c.successful <> 0 OR c.failed <> 0 OR c.first_pending IS NOT NULL
           OR (c.pending < 0 AND c.many)
           -- A claim waits for nobody: the status of a batch that another changes follows with the next claim or result.
           OR (c.held > 0 AND EXISTS (
                SELECT FROM csv_batches b WHERE b.id = c.batch_id AND b.status IN ('uploaded', 'queued')
                FOR NO KEY UPDATE SKIP LOCKED));
    ELSE
        SELECT array_agg(c.batch_id), array_agg(c.weight * c.rows), array_agg(c.weight * c.successful),
            array_agg(c.weight * c.failed), array_agg(c.weight > 0 AND c.held + c.successful + c.failed > 0),
            array_agg(CASE WHEN c.weight > 0 THEN c.first_pending END), array_agg(c.weight < 0 AND c.rows > 1)
        INTO batches, rows, successful, failed, started, first_pending, drained
        FROM (
            SELECT batch_id, CASE TG_OP WHEN 'DELETE' THEN -1 ELSE 1 END AS weight, count(*) AS rows,
                count(*) FILTER (WHERE status = 'completed') AS successful,
                count(*) FILTER (WHERE status = 'failed') AS failed,
                count(*) FILTER (WHERE status IN ('claimed', 'processing')) AS held,
                min(row_number) FILTER (WHERE status = 'pending') AS first_pending
            FROM changed_rows GROUP BY batch_id) c;
    END IF;
    IF batches IS NULL THEN
        RETURN NULL;
    END IF;
    -- The lock comes in a statement of its own, so that the next one sees the rows of whoever held it before.
    IF cardinality(batches) > 1 OR drained[1] THEN
        PERFORM b.id FROM csv_batches b WHERE b.id = ANY (batches) ORDER BY b.id FOR NO KEY UPDATE;
    END IF;
    -- It changes a batch also where only rows became pending: advance_first_pending_csv_row relies on it.
    UPDATE csv_batches b SET
        successful_rows = b.successful_rows + c.successful,
        failed_rows = b.failed_rows + c.failed,
        processed_rows = b.processed_rows + c.successful + c.failed,
        open_rows = b.open_rows + c.rows - c.successful - c.failed,
        -- A row that is deleted is not to come any more.
        total_rows = greatest(b.total_rows + least(c.rows, 0), 0),
        first_pending_row = CASE
            WHEN c.drained THEN (
                SELECT min(j.row_number) FROM csv_row_jobs j WHERE j.batch_id = b.id AND j.status = 'pending'
                    AND j.row_number >= least(b.first_pending_row, c.first_pending))
            ELSE least(b.first_pending_row, c.first_pending)
        END,
        status = CASE
            WHEN b.status IN ('uploaded', 'queued') AND c.started THEN 'processing'
            -- The last row was deleted, and none is to come.
            WHEN b.status = 'uploaded' AND c.rows < 0 AND b.open_rows + c.rows - c.successful - c.failed = 0
                AND b.processed_rows + c.successful + c.failed >= b.total_rows + c.rows THEN 'queued'
            ELSE b.status
        END,
        processing_rate_rows_per_minute = CASE
            WHEN c.successful + c.failed = 0 THEN b.processing_rate_rows_per_minute
            ELSE least(9999999999.99, round((b.processed_rows + c.successful + c.failed)
                / greatest(extract(epoch FROM clock_timestamp()
                    - coalesce(b.processing_started_at, clock_timestamp()))::numeric / 60, 1.0 / 60), 2))
        END
    FROM unnest(batches, rows, successful, failed, started, first_pending, drained)
        AS c (batch_id, rows, successful, failed, started, first_pending, drained)
    WHERE b.id = c.batch_id;
    RETURN NULL;
END $$;

-- All rows are gone at once.
CREATE FUNCTION count_no_csv_rows() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    -- An old snapshot does not show the counters that TRUNCATE makes wrong.
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'TRUNCATE of % in a transaction of the isolation level %', TG_TABLE_NAME,
            upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state', HINT = 'use READ COMMITTED';
    END IF;
    UPDATE csv_batches SET successful_rows = 0, failed_rows = 0, processed_rows = 0, open_rows = 0,
        first_pending_row = NULL, total_rows = total_rows - processed_rows - open_rows
    WHERE processed_rows + open_rows > 0;
    RETURN NULL;
END $$;

CREATE TRIGGER settle_csv_batches BEFORE INSERT OR UPDATE ON csv_batches
    FOR EACH ROW EXECUTE FUNCTION settle_csv_batch();
-- A new row usually has nothing to settle.
CREATE TRIGGER settle_csv_row_jobs_inserted BEFORE INSERT ON csv_row_jobs
    FOR EACH ROW WHEN (NEW.status <> 'pending' OR NEW.claimed_by IS NOT NULL OR NEW.claimed_at IS NOT NULL
        OR NEW.started_at IS NOT NULL OR NEW.completed_at IS NOT NULL)
    EXECUTE FUNCTION settle_csv_row_job();
CREATE TRIGGER settle_csv_row_jobs_updated BEFORE UPDATE ON csv_row_jobs
    FOR EACH ROW EXECUTE FUNCTION settle_csv_row_job();
CREATE TRIGGER count_csv_rows_inserted AFTER INSERT ON csv_row_jobs REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_csv_rows();
CREATE TRIGGER count_csv_rows_updated AFTER UPDATE ON csv_row_jobs
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_csv_rows();
CREATE TRIGGER count_csv_rows_deleted AFTER DELETE ON csv_row_jobs REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_csv_rows();
CREATE TRIGGER count_csv_rows_truncated AFTER TRUNCATE ON csv_row_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION count_no_csv_rows();

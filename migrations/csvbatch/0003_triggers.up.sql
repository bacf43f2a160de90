-- Keeps the totals of batches from the rows' statuses. It counts what changed rather than all rows anew, and locks
-- the batches in one order, so that workers do not wait for each other in a circle.
CREATE FUNCTION count_csv_rows() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    change record;
    sums text;
BEGIN
    sums := CASE TG_OP
        WHEN 'INSERT' THEN 'SELECT batch_id, status, 1 AS weight FROM new_rows'
        WHEN 'DELETE' THEN 'SELECT batch_id, status, -1 AS weight FROM old_rows'
        ELSE 'SELECT batch_id, status, 1 AS weight FROM new_rows UNION ALL SELECT batch_id, status, -1 FROM old_rows'
    END;
    FOR change IN EXECUTE format(
        'SELECT batch_id, coalesce(sum(weight) FILTER (WHERE status = ''completed''), 0) AS successful,
                coalesce(sum(weight) FILTER (WHERE status = ''failed''), 0) AS failed,
                coalesce(sum(weight) FILTER (WHERE status IN (''claimed'', ''processing'')), 0) AS held
         FROM (%s) s GROUP BY batch_id ORDER BY batch_id', sums)
    LOOP
        IF change.held > 0 THEN
            -- Only the first claim of a batch finds something to change here.
            UPDATE csv_batches SET status = 'processing', processing_started_at = clock_timestamp()
            WHERE id = change.batch_id AND status IN ('uploaded', 'queued');
        END IF;
        CONTINUE WHEN change.successful = 0 AND change.failed = 0;
        UPDATE csv_batches b SET
            successful_rows = b.successful_rows + change.successful,
            failed_rows = b.failed_rows + change.failed,
            processed_rows = b.processed_rows + change.successful + change.failed,
            status = CASE WHEN b.status IN ('uploaded', 'queued') THEN 'processing' ELSE b.status END,
            processing_started_at = coalesce(b.processing_started_at, clock_timestamp()),
            processing_rate_rows_per_minute = round((b.processed_rows + change.successful + change.failed)
                / greatest(extract(epoch FROM clock_timestamp()
                    - coalesce(b.processing_started_at, clock_timestamp())) / 60, 1.0 / 60), 2)
        WHERE b.id = change.batch_id;
        CONTINUE WHEN change.successful + change.failed <= 0;
        UPDATE csv_batches b SET status = 'completed', processing_completed_at = clock_timestamp()
        WHERE b.id = change.batch_id AND b.status = 'processing' AND b.processed_rows >= b.total_rows
          AND NOT EXISTS (
            SELECT FROM csv_row_jobs j
            WHERE j.batch_id = b.id AND j.status IN ('pending', 'claimed', 'processing'));
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER count_csv_rows_inserted AFTER INSERT ON csv_row_jobs REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_csv_rows();
CREATE TRIGGER count_csv_rows_updated AFTER UPDATE ON csv_row_jobs
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_csv_rows();
CREATE TRIGGER count_csv_rows_deleted AFTER DELETE ON csv_row_jobs REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_csv_rows();

CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE TRIGGER touch_csv_batches BEFORE UPDATE ON csv_batches FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER touch_csv_row_jobs BEFORE UPDATE ON csv_row_jobs FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_publication_tables
               WHERE pubname = 'supabase_realtime' AND schemaname = current_schema() AND tablename = 'csv_batches') THEN
        EXECUTE format(
            'ALTER PUBLICATION supabase_realtime DROP TABLE %1$I.csv_batches, %1$I.csv_row_jobs', current_schema());
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION claim_next_csv_row_job(text, uuid, integer),
    update_csv_row_job_result(uuid, text, text, jsonb, jsonb, jsonb, numeric, text, text, integer),
    update_csv_worker_heartbeat(text, text, integer, integer, integer, numeric, uuid, uuid, integer),
    cleanup_stale_csv_workers(integer), release_csv_row_jobs(uuid[], text),
    release_expired_csv_row_jobs(uuid, uuid, integer), advance_first_pending_csv_row(uuid),
    build_csv_trigger_text(jsonb), get_csv_batch_progress(uuid), require_argument(boolean, text, text, text),
    settle_csv_row_job(), settle_csv_batch(), count_csv_rows(), count_no_csv_rows() TO PUBLIC;
REVOKE EXECUTE ON FUNCTION claim_next_csv_row_job(text, uuid, integer),
    update_csv_row_job_result(uuid, text, text, jsonb, jsonb, jsonb, numeric, text, text, integer),
    update_csv_worker_heartbeat(text, text, integer, integer, integer, numeric, uuid, uuid, integer),
    cleanup_stale_csv_workers(integer), release_csv_row_jobs(uuid[], text),
    release_expired_csv_row_jobs(uuid, uuid, integer), advance_first_pending_csv_row(uuid),
    build_csv_trigger_text(jsonb), get_csv_batch_progress(uuid), require_argument(boolean, text, text, text)
    FROM authenticated, service_role;
DROP POLICY service_logs ON csv_processing_logs;
DROP POLICY own_logs ON csv_processing_logs;
DROP POLICY service_workers ON csv_processing_workers;
DROP POLICY workers_are_public ON csv_processing_workers;
DROP POLICY service_rows ON csv_row_jobs;
DROP POLICY own_rows ON csv_row_jobs;
DROP POLICY service_batches ON csv_batches;
DROP POLICY own_batches ON csv_batches;
REVOKE ALL ON csv_batches, csv_row_jobs, csv_processing_workers, csv_processing_logs
    FROM anon, authenticated, service_role;
DO $$
BEGIN
    EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM anon, authenticated, service_role', current_schema());
END $$;
ALTER TABLE csv_processing_logs DISABLE ROW LEVEL SECURITY;
ALTER TABLE csv_processing_workers DISABLE ROW LEVEL SECURITY;
ALTER TABLE csv_row_jobs DISABLE ROW LEVEL SECURITY;
ALTER TABLE csv_batches DISABLE ROW LEVEL SECURITY;
DROP FUNCTION requesting_user_id();

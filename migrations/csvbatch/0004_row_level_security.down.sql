DO $$
DECLARE
    published name;
BEGIN
    FOR published IN
        SELECT tablename FROM pg_publication_tables WHERE pubname = 'supabase_realtime'
        AND schemaname = current_schema() AND tablename IN ('csv_batches', 'csv_row_jobs')
    LOOP
        EXECUTE format('ALTER PUBLICATION supabase_realtime DROP TABLE %I.%I', current_schema(), published);
    END LOOP;
EXCEPTION WHEN undefined_object OR insufficient_privilege OR object_not_in_prerequisite_state THEN
    -- Published by another, or with all tables. A table that is dropped leaves the publication.
    RAISE NOTICE 'the publication supabase_realtime is not ours to change (%)', sqlerrm;
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
DROP TRIGGER restrict_csv_path_updated ON csv_batches;
DROP TRIGGER restrict_csv_path_inserted ON csv_batches;
DROP FUNCTION restrict_csv_path();
REVOKE ALL ON csv_batches, csv_row_jobs, csv_processing_workers, csv_processing_logs
    FROM anon, authenticated, service_role;
ALTER TABLE csv_processing_logs DISABLE ROW LEVEL SECURITY;
ALTER TABLE csv_processing_workers DISABLE ROW LEVEL SECURITY;
ALTER TABLE csv_row_jobs DISABLE ROW LEVEL SECURITY;
ALTER TABLE csv_batches DISABLE ROW LEVEL SECURITY;
DROP FUNCTION requesting_user_id();

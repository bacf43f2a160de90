-- Who asks: the user whom the verified token names. The API gateway sets the claims for each transaction.
CREATE FUNCTION requesting_user_id() RETURNS uuid LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT nullif(coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}')::jsonb ->> 'sub', '')::uuid
$$;

ALTER TABLE csv_batches ENABLE ROW LEVEL SECURITY;
ALTER TABLE csv_row_jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE csv_processing_workers ENABLE ROW LEVEL SECURITY;
ALTER TABLE csv_processing_logs ENABLE ROW LEVEL SECURITY;

DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO anon, authenticated, service_role', current_schema());
END $$;
-- What default privileges have given, as on Supabase in public, counts for nothing.
REVOKE ALL ON csv_batches, csv_row_jobs, csv_processing_workers, csv_processing_logs
    FROM PUBLIC, anon, authenticated, service_role;
REVOKE ALL ON SEQUENCE csv_processing_logs_id_seq FROM PUBLIC, anon, authenticated, service_role;
-- Users bring files and rows and take them away. Statuses, counters, claims, limits, and the times that decide whose
-- turn it is are the service's; the counters are the triggers' alone.
GRANT SELECT, DELETE ON csv_batches, csv_row_jobs TO authenticated;
GRANT INSERT (user_id, filename, original_filename, file_size_bytes, csv_headers, storage_path, total_rows, metadata),
    UPDATE (filename, original_filename, file_size_bytes, csv_headers, storage_path, total_rows, metadata)
    ON csv_batches TO authenticated;
GRANT INSERT (batch_id, row_number, row_data) ON csv_row_jobs TO authenticated;
GRANT SELECT ON csv_processing_workers TO anon, authenticated;
GRANT SELECT ON csv_processing_logs TO authenticated;
GRANT SELECT, DELETE ON csv_batches TO service_role;
GRANT INSERT (id, user_id, filename, original_filename, file_size_bytes, csv_headers, storage_path, status, total_rows,
        max_concurrent_jobs, error_message, metadata, created_at),
    UPDATE (user_id, filename, original_filename, file_size_bytes, csv_headers, storage_path, status, total_rows,
        max_concurrent_jobs, processing_rate_rows_per_minute, error_message, metadata,
        processing_started_at, processing_completed_at, created_at, updated_at)
    ON csv_batches TO service_role;
GRANT SELECT, INSERT, UPDATE, DELETE ON csv_row_jobs, csv_processing_workers, csv_processing_logs TO service_role;

-- A file is parsed for the user in whose folder it lies. Its path may begin with the bucket or with the folder. A path
-- that a service has set stays when the user changes something else.
CREATE FUNCTION restrict_csv_path() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    own text := requesting_user_id() || '/';
BEGIN
    IF row_security_active(TG_RELID) AND NOT pg_has_role(current_user, 'service_role', 'USAGE')
        AND ((starts_with(NEW.storage_path, own) OR starts_with(NEW.storage_path, 'csv-uploads/' || own)) IS NOT TRUE
            OR NEW.storage_path ~ '(^|/)\.{0,2}(/|$)|\\') THEN
        RAISE EXCEPTION 'storage_path is not in the folder of the user' USING
            ERRCODE = 'insufficient_privilege', HINT = format('it must be csv-uploads/%s and a name', own);
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER restrict_csv_path_inserted BEFORE INSERT ON csv_batches
    FOR EACH ROW WHEN (NEW.storage_path IS NOT NULL) EXECUTE FUNCTION restrict_csv_path();
CREATE TRIGGER restrict_csv_path_updated BEFORE UPDATE OF storage_path ON csv_batches
    FOR EACH ROW WHEN (NEW.storage_path IS NOT NULL AND NEW.storage_path IS DISTINCT FROM OLD.storage_path)
    EXECUTE FUNCTION restrict_csv_path();

CREATE POLICY own_batches ON csv_batches FOR ALL TO authenticated
    USING (user_id = (SELECT requesting_user_id())) WITH CHECK (user_id = (SELECT requesting_user_id()));
CREATE POLICY service_batches ON csv_batches FOR ALL TO service_role USING (true) WITH CHECK (true);

CREATE POLICY own_rows ON csv_row_jobs FOR ALL TO authenticated
    USING (batch_id IN (SELECT id FROM csv_batches WHERE user_id = (SELECT requesting_user_id())))
    WITH CHECK (batch_id IN (SELECT id FROM csv_batches WHERE user_id = (SELECT requesting_user_id())));
CREATE POLICY service_rows ON csv_row_jobs FOR ALL TO service_role USING (true) WITH CHECK (true);

CREATE POLICY workers_are_public ON csv_processing_workers FOR SELECT USING (true);
CREATE POLICY service_workers ON csv_processing_workers FOR ALL TO service_role USING (true) WITH CHECK (true);

CREATE POLICY own_logs ON csv_processing_logs FOR SELECT TO authenticated
    USING (batch_id IN (SELECT id FROM csv_batches WHERE user_id = (SELECT requesting_user_id())));
CREATE POLICY service_logs ON csv_processing_logs FOR ALL TO service_role USING (true) WITH CHECK (true);

-- Working rows off is the service's, whoever can see them. Nobody calls the functions of triggers.
REVOKE EXECUTE ON FUNCTION claim_next_csv_row_job(text, uuid, integer),
    update_csv_row_job_result(uuid, text, text, jsonb, jsonb, jsonb, numeric, text, text, integer),
    update_csv_worker_heartbeat(text, text, integer, integer, integer, numeric, uuid, uuid, integer),
    cleanup_stale_csv_workers(integer), release_csv_row_jobs(uuid[], text),
    release_expired_csv_row_jobs(uuid, uuid, integer), advance_first_pending_csv_row(uuid),
    build_csv_trigger_text(jsonb), get_csv_batch_progress(uuid), require_argument(boolean, text, text, text),
    requesting_user_id(), settle_csv_row_job(), settle_csv_batch(), count_csv_rows(), count_no_csv_rows(),
    restrict_csv_path() FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION claim_next_csv_row_job(text, uuid, integer),
    update_csv_row_job_result(uuid, text, text, jsonb, jsonb, jsonb, numeric, text, text, integer),
    update_csv_worker_heartbeat(text, text, integer, integer, integer, numeric, uuid, uuid, integer),
    cleanup_stale_csv_workers(integer), release_csv_row_jobs(uuid[], text),
    release_expired_csv_row_jobs(uuid, uuid, integer), advance_first_pending_csv_row(uuid) TO service_role;
GRANT EXECUTE ON FUNCTION build_csv_trigger_text(jsonb), get_csv_batch_progress(uuid),
    require_argument(boolean, text, text, text), requesting_user_id() TO authenticated, service_role;

-- Changes that subscribers see.
DO $$
BEGIN
    EXECUTE format('ALTER PUBLICATION supabase_realtime ADD TABLE %1$I.csv_batches, %1$I.csv_row_jobs', current_schema());
EXCEPTION WHEN undefined_object OR insufficient_privilege OR duplicate_object OR object_not_in_prerequisite_state THEN
    RAISE NOTICE 'the publication supabase_realtime is not ours to change; add csv_batches and csv_row_jobs to it';
END $$;

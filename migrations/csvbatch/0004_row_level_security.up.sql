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
GRANT SELECT, INSERT, UPDATE, DELETE ON csv_batches, csv_row_jobs TO authenticated;
GRANT SELECT ON csv_processing_workers TO anon, authenticated;
GRANT SELECT ON csv_processing_logs TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON csv_batches, csv_row_jobs, csv_processing_workers, csv_processing_logs
    TO service_role;

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

-- Working rows off is the service's, whoever can see them.
REVOKE EXECUTE ON FUNCTION claim_next_csv_row_job(text, uuid, integer),
    update_csv_row_job_result(uuid, text, text, jsonb, jsonb, jsonb, numeric, text),
    update_csv_worker_heartbeat(text, text, integer, integer, integer, numeric, uuid, uuid, integer),
    cleanup_stale_csv_workers(integer), release_csv_row_jobs(uuid[], text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_next_csv_row_job(text, uuid, integer),
    update_csv_row_job_result(uuid, text, text, jsonb, jsonb, jsonb, numeric, text),
    update_csv_worker_heartbeat(text, text, integer, integer, integer, numeric, uuid, uuid, integer),
    cleanup_stale_csv_workers(integer), release_csv_row_jobs(uuid[], text) TO service_role;

-- Changes that subscribers see.
DO $$
BEGIN
    EXECUTE format('ALTER PUBLICATION supabase_realtime ADD TABLE %1$I.csv_batches, %1$I.csv_row_jobs', current_schema());
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'the publication supabase_realtime is not ours to change; add csv_batches and csv_row_jobs to it';
END $$;

ALTER TABLE jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE elements ENABLE ROW LEVEL SECURITY;
ALTER TABLE storage_operations ENABLE ROW LEVEL SECURITY;
ALTER TABLE processing_timeline ENABLE ROW LEVEL SECURITY;
ALTER TABLE url_access_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE system_metrics ENABLE ROW LEVEL SECURITY;
ALTER TABLE client_ip_source ENABLE ROW LEVEL SECURITY;

DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO anon, authenticated, service_role, service_account, admin', current_schema());
    -- The functions of the policies are asked by everybody whom a policy is asked for.
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO anon, authenticated', current_schema());
    EXECUTE format(
        'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO service_role, service_account, admin',
        current_schema());
    EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %I TO service_role, service_account, admin', current_schema());
END $$;
REVOKE ALL ON client_ip_source FROM anon, authenticated, service_role, service_account;
REVOKE ALL ON url_access_logs, system_metrics FROM anon, authenticated;
GRANT SELECT ON url_access_logs TO anon, authenticated;
GRANT INSERT ON jobs, elements TO anon, authenticated;
DO $$
BEGIN
    -- What statements others run is not for everybody.
    IF to_regclass(format('%I.pg_stat_statements', current_schema())) IS NOT NULL THEN
        EXECUTE format('REVOKE ALL ON %I.pg_stat_statements FROM anon, authenticated', current_schema());
    END IF;
END $$;

-- Jobs: anybody may ask for one, and sees those from the address they come from.
CREATE POLICY jobs_create ON jobs FOR INSERT TO anon, authenticated
    WITH CHECK (client_ip IS NOT DISTINCT FROM (SELECT client_ip()) AND status = 'pending' AND worker_id IS NULL);
CREATE POLICY jobs_own ON jobs FOR SELECT TO anon, authenticated USING (client_ip = (SELECT client_ip()));
CREATE POLICY jobs_service ON jobs FOR ALL TO service_role, service_account USING (true) WITH CHECK (true);
CREATE POLICY jobs_admin ON jobs FOR ALL TO admin USING (true) WITH CHECK (true);

-- What belongs to a job is seen by those who see the job: the inner question is asked under the policies above.
CREATE POLICY elements_add ON elements FOR INSERT TO anon, authenticated
    WITH CHECK (processing_status = 'pending' AND EXISTS (
        SELECT FROM jobs j WHERE j.id = job_id AND j.status = 'pending'));
CREATE POLICY elements_own ON elements FOR SELECT TO anon, authenticated
    USING (EXISTS (SELECT FROM jobs j WHERE j.id = job_id));
CREATE POLICY elements_service ON elements FOR ALL TO service_role, service_account USING (true) WITH CHECK (true);
CREATE POLICY elements_admin ON elements FOR ALL TO admin USING (true) WITH CHECK (true);

CREATE POLICY storage_operations_own ON storage_operations FOR SELECT TO anon, authenticated
    USING (EXISTS (SELECT FROM jobs j WHERE j.id = job_id));
CREATE POLICY storage_operations_service ON storage_operations FOR ALL TO service_role, service_account
    USING (true) WITH CHECK (true);
CREATE POLICY storage_operations_admin ON storage_operations FOR ALL TO admin USING (true) WITH CHECK (true);

CREATE POLICY timeline_own ON processing_timeline FOR SELECT TO anon, authenticated
    USING (EXISTS (SELECT FROM jobs j WHERE j.id = job_id));
CREATE POLICY timeline_service ON processing_timeline FOR ALL TO service_role, service_account
    USING (true) WITH CHECK (true);
CREATE POLICY timeline_admin ON processing_timeline FOR ALL TO admin USING (true) WITH CHECK (true);

CREATE POLICY url_access_logs_own ON url_access_logs FOR SELECT TO anon, authenticated
    USING (EXISTS (SELECT FROM jobs j WHERE j.id = job_id));
CREATE POLICY url_access_logs_service ON url_access_logs FOR ALL TO service_role, service_account, admin
    USING (true) WITH CHECK (true);

CREATE POLICY system_metrics_service ON system_metrics FOR ALL TO service_role, service_account, admin
    USING (true) WITH CHECK (true);
CREATE POLICY client_ip_source_admin ON client_ip_source FOR ALL TO admin USING (true) WITH CHECK (true);

-- The names auth.… by which applications ask, made only where the schema auth is ours.
DO $$
DECLARE
    home text := current_schema();
BEGIN
    IF obj_description(to_regnamespace('auth'), 'pg_namespace') IS NULL
        OR obj_description(to_regnamespace('auth'), 'pg_namespace') NOT LIKE '%(made by reeve)'
        OR NOT has_schema_privilege('auth', 'CREATE')
    THEN
        RAISE NOTICE 'the schema auth is not ours; call user_role() and the others in schema % instead', home;
        RETURN;
    END IF;
    EXECUTE format('CREATE FUNCTION auth.user_role() RETURNS text LANGUAGE sql STABLE
        SET search_path = pg_catalog, pg_temp AS ''SELECT %I.user_role()''', home);
    EXECUTE format('CREATE FUNCTION auth.is_admin() RETURNS boolean LANGUAGE sql STABLE
        SET search_path = pg_catalog, pg_temp AS ''SELECT %I.is_admin()''', home);
    EXECUTE format('CREATE FUNCTION auth.client_ip() RETURNS inet LANGUAGE sql STABLE
        SET search_path = pg_catalog, pg_temp AS ''SELECT %I.client_ip()''', home);
    EXECUTE format('CREATE FUNCTION auth.can_subscribe_to_job(job_id uuid) RETURNS boolean LANGUAGE sql STABLE
        SET search_path = pg_catalog, pg_temp AS ''SELECT %I.can_subscribe_to_job(job_id)''', home);
END $$;

-- Changes that subscribers see.
DO $$
BEGIN
    EXECUTE format('ALTER PUBLICATION supabase_realtime ADD TABLE %1$I.jobs, %1$I.processing_timeline', current_schema());
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'the publication supabase_realtime is not ours to change; add jobs and processing_timeline to it';
END $$;

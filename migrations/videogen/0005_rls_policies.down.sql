DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_publication_tables
               WHERE pubname = 'supabase_realtime' AND schemaname = current_schema() AND tablename = 'jobs') THEN
        EXECUTE format(
            'ALTER PUBLICATION supabase_realtime DROP TABLE %1$I.jobs, %1$I.processing_timeline', current_schema());
    END IF;
    IF obj_description(to_regnamespace('auth'), 'pg_namespace') LIKE '%(made by reeve)' THEN
        DROP FUNCTION IF EXISTS auth.can_subscribe_to_job(uuid), auth.client_ip(), auth.is_admin(), auth.user_role();
    END IF;
END $$;

DROP POLICY url_access_changes_service ON url_access_changes;
DROP POLICY url_access_changes_own ON url_access_changes;
DROP POLICY url_access_totals_service ON url_access_totals;
DROP POLICY url_access_totals_own ON url_access_totals;
DROP POLICY job_statistics_changes_service ON job_statistics_changes;
DROP POLICY job_durations_service ON job_durations;
DROP POLICY job_statistics_service ON job_statistics;
DROP POLICY client_limits_admin ON client_limits;
DROP POLICY client_ip_source_admin ON client_ip_source;
DROP POLICY system_metrics_service ON system_metrics;
DROP POLICY url_access_logs_service ON url_access_logs;
DROP POLICY url_access_logs_own ON url_access_logs;
DROP POLICY timeline_admin ON processing_timeline;
DROP POLICY timeline_service ON processing_timeline;
DROP POLICY timeline_own ON processing_timeline;
DROP POLICY storage_operations_admin ON storage_operations;
DROP POLICY storage_operations_service ON storage_operations;
DROP POLICY storage_operations_own ON storage_operations;
DROP POLICY elements_admin ON elements;
DROP POLICY elements_service ON elements;
DROP POLICY elements_own ON elements;
DROP POLICY elements_add ON elements;
DROP POLICY jobs_admin ON jobs;
DROP POLICY jobs_service ON jobs;
DROP POLICY jobs_own ON jobs;
DROP POLICY jobs_create ON jobs;

DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %I FROM anon, authenticated, service_role, service_account, admin', current_schema());
    EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA %I TO PUBLIC', current_schema());
    EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA %I FROM anon, authenticated, service_role, service_account, admin', current_schema());
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM anon, authenticated, service_role, service_account, admin', current_schema());
    EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM anon, authenticated, service_role, service_account, admin', current_schema());
END $$;

ALTER TABLE url_access_changes DISABLE ROW LEVEL SECURITY;
ALTER TABLE url_access_totals DISABLE ROW LEVEL SECURITY;
ALTER TABLE job_statistics_changes DISABLE ROW LEVEL SECURITY;
ALTER TABLE job_durations DISABLE ROW LEVEL SECURITY;
ALTER TABLE job_statistics DISABLE ROW LEVEL SECURITY;
ALTER TABLE locks DISABLE ROW LEVEL SECURITY;
ALTER TABLE client_limits DISABLE ROW LEVEL SECURITY;
ALTER TABLE client_ip_source DISABLE ROW LEVEL SECURITY;
ALTER TABLE system_metrics DISABLE ROW LEVEL SECURITY;
ALTER TABLE url_access_logs DISABLE ROW LEVEL SECURITY;
ALTER TABLE processing_timeline DISABLE ROW LEVEL SECURITY;
ALTER TABLE storage_operations DISABLE ROW LEVEL SECURITY;
ALTER TABLE elements DISABLE ROW LEVEL SECURITY;
ALTER TABLE jobs DISABLE ROW LEVEL SECURITY;

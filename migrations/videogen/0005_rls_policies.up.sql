ALTER TABLE jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE elements ENABLE ROW LEVEL SECURITY;
ALTER TABLE storage_operations ENABLE ROW LEVEL SECURITY;
ALTER TABLE processing_timeline ENABLE ROW LEVEL SECURITY;
ALTER TABLE url_access_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE system_metrics ENABLE ROW LEVEL SECURITY;
ALTER TABLE client_ip_source ENABLE ROW LEVEL SECURITY;
ALTER TABLE client_limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE locks ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_statistics ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_durations ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_statistics_changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE url_access_totals ENABLE ROW LEVEL SECURITY;
ALTER TABLE url_access_changes ENABLE ROW LEVEL SECURITY;

-- The schema may be public and hold what is another's, so tables and functions are named one by one.
DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO anon, authenticated, service_role, service_account, admin', current_schema());
END $$;
-- What default privileges have given, as on Supabase in public, counts for nothing.
REVOKE ALL ON jobs, elements, storage_operations, processing_timeline, url_access_logs, system_metrics, client_ip_source,
    client_limits, locks, job_statistics, job_durations, job_statistics_changes, url_access_totals, url_access_changes,
    job_summary, active_jobs, completed_jobs, failed_jobs, element_summary, processing_step_performance,
    storage_performance, url_access_analytics, hourly_job_statistics, daily_job_statistics, error_analysis, recent_alerts,
    security_log, system_health, pg_stat_statements
    FROM PUBLIC, anon, authenticated, service_role, service_account, admin;
REVOKE ALL ON SEQUENCE url_access_logs_id_seq, system_metrics_id_seq, job_statistics_changes_id_seq, url_access_changes_id_seq
    FROM PUBLIC, anon, authenticated, service_role, service_account, admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobs, elements, storage_operations, processing_timeline, url_access_logs,
    system_metrics TO service_role, service_account, admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON client_ip_source, client_limits TO admin;
-- Only the triggers write to the summaries, and only functions use locks.
GRANT SELECT ON job_statistics, job_durations, job_statistics_changes, url_access_totals, url_access_changes,
    job_summary, active_jobs, completed_jobs, failed_jobs, element_summary, processing_step_performance,
    storage_performance, url_access_analytics, hourly_job_statistics, daily_job_statistics, error_analysis, recent_alerts,
    security_log, system_health, pg_stat_statements TO service_role, service_account, admin;
GRANT SELECT ON jobs, elements, storage_operations, processing_timeline, url_access_logs, url_access_totals,
    url_access_changes, job_summary, active_jobs, completed_jobs, failed_jobs, element_summary,
    processing_step_performance, storage_performance, url_access_analytics, error_analysis TO anon, authenticated;
-- What a client says of a job and its elements; the rest has its default, or is the service's to say.
GRANT INSERT (
    id, response_type, output_format, width, height, fps, duration_seconds, request_payload, client_ip, user_agent)
    ON jobs TO anon, authenticated;
GRANT INSERT (
    id, job_id, element_type, source_url, text_content, track, z_index, x, y, width, height, fit_mode, rotation, opacity,
    volume, start_time, duration, properties)
    ON elements TO anon, authenticated;

-- Who may execute what: the owner alone, and those who are named with each group.
REVOKE EXECUTE ON FUNCTION require_argument, require_id, user_role_of, user_role, calling_role, is_admin, is_service,
    client_ip, can_access_job, can_subscribe_to_job, require_service, require_admin, create_job, add_job_element,
    claim_next_job, update_job_status, complete_job, fail_job, cancel_job, retry_job, timeout_stalled_jobs, step_weight,
    calculate_job_progress, lock_job, start_processing_step, complete_processing_step, update_element_status,
    log_storage_operation, log_url_access, record_metric, log_security_event, check_rate_limit, take_lock_of,
    has_room_for_job, get_job_statistics, get_job_details, get_job_timeline, get_storage_statistics, get_system_health,
    retention_cutoff, tell_what_is_left, cleanup_old_jobs, cleanup_old_metrics, cleanup_old_access_logs,
    enforce_data_retention, touch_updated_at, latest_step, validate_job, restrict_client_job, validate_element,
    reset_elements, complete_timeline_entry, follow_elements, check_added_elements, refresh_progress, follow_steps,
    append_job_change, job_seconds, duration_bucket, count_job, count_url_accesses, fold_statistics, rebuild_statistics, clear_statistics,
    notify_job_change, notify_timeline_change, inet_or_null, statement_statistics, restrict_client_element
    FROM PUBLIC, anon, authenticated, service_role, service_account, admin;
-- What clients call, and what these functions call in turn.
GRANT EXECUTE ON FUNCTION require_argument, require_id, user_role_of, user_role, is_admin, is_service, client_ip,
    can_access_job, can_subscribe_to_job, step_weight, create_job, add_job_element, calculate_job_progress,
    get_job_details, get_job_timeline, check_rate_limit, log_security_event
    TO anon, authenticated, service_role, service_account, admin;
GRANT EXECUTE ON FUNCTION require_service, require_admin, claim_next_job, update_job_status, complete_job,
    fail_job, cancel_job, retry_job, timeout_stalled_jobs, lock_job, start_processing_step, complete_processing_step,
    latest_step, update_element_status, log_storage_operation, log_url_access, record_metric, get_job_statistics,
    get_storage_statistics, get_system_health, inet_or_null, statement_statistics, fold_statistics
    TO service_role, service_account, admin;
GRANT EXECUTE ON FUNCTION retention_cutoff, tell_what_is_left, cleanup_old_jobs, cleanup_old_metrics,
    cleanup_old_access_logs, enforce_data_retention, rebuild_statistics TO admin;

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
CREATE POLICY client_limits_admin ON client_limits FOR ALL TO admin USING (true) WITH CHECK (true);

CREATE POLICY job_statistics_service ON job_statistics FOR SELECT TO service_role, service_account, admin USING (true);
CREATE POLICY job_durations_service ON job_durations FOR SELECT TO service_role, service_account, admin USING (true);
CREATE POLICY job_statistics_changes_service ON job_statistics_changes FOR SELECT
    TO service_role, service_account, admin USING (true);
CREATE POLICY url_access_totals_own ON url_access_totals FOR SELECT TO anon, authenticated
    USING (EXISTS (SELECT FROM jobs j WHERE j.id = job_id));
CREATE POLICY url_access_totals_service ON url_access_totals FOR SELECT TO service_role, service_account, admin
    USING (true);
CREATE POLICY url_access_changes_own ON url_access_changes FOR SELECT TO anon, authenticated
    USING (EXISTS (SELECT FROM jobs j WHERE j.id = job_id));
CREATE POLICY url_access_changes_service ON url_access_changes FOR SELECT TO service_role, service_account, admin
    USING (true);

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
EXCEPTION WHEN undefined_object OR insufficient_privilege OR duplicate_object OR object_not_in_prerequisite_state THEN
    RAISE NOTICE 'the publication supabase_realtime is not ours to change; add jobs and processing_timeline to it';
END $$;

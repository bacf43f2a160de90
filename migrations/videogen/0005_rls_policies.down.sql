DO $$
DECLARE
    published name;
BEGIN
    FOR published IN
        SELECT tablename FROM pg_publication_tables WHERE pubname = 'supabase_realtime'
        AND schemaname = current_schema() AND tablename IN ('jobs', 'processing_timeline')
    LOOP
        EXECUTE format('ALTER PUBLICATION supabase_realtime DROP TABLE %I.%I', current_schema(), published);
    END LOOP;
EXCEPTION WHEN undefined_object OR insufficient_privilege OR object_not_in_prerequisite_state THEN
    -- Published by another, or with all tables. A table that is dropped leaves the publication.
    RAISE NOTICE 'the publication supabase_realtime is not ours to change (%)', sqlerrm;
END $$;
DO $$
BEGIN
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

REVOKE ALL ON jobs, elements, storage_operations, processing_timeline, url_access_logs, system_metrics, client_ip_source,
    client_limits, job_statistics, job_durations, job_statistics_changes, url_access_totals, url_access_changes,
    job_summary, active_jobs, completed_jobs, failed_jobs, element_summary, processing_step_performance,
    storage_performance, url_access_analytics, hourly_job_statistics, daily_job_statistics, error_analysis, recent_alerts,
    security_log, system_health, pg_stat_statements FROM anon, authenticated, service_role, service_account, admin;
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
    notify_job_change, notify_timeline_change, inet_or_null, statement_statistics
    FROM anon, authenticated, service_role, service_account, admin;
GRANT EXECUTE ON FUNCTION require_argument, require_id, user_role_of, user_role, calling_role, is_admin, is_service,
    client_ip, can_access_job, can_subscribe_to_job, require_service, require_admin, create_job, add_job_element,
    claim_next_job, update_job_status, complete_job, fail_job, cancel_job, retry_job, timeout_stalled_jobs, step_weight,
    calculate_job_progress, lock_job, start_processing_step, complete_processing_step, update_element_status,
    log_storage_operation, log_url_access, record_metric, log_security_event, check_rate_limit, take_lock_of,
    has_room_for_job, get_job_statistics, get_job_details, get_job_timeline, get_storage_statistics, get_system_health,
    retention_cutoff, tell_what_is_left, cleanup_old_jobs, cleanup_old_metrics, cleanup_old_access_logs,
    enforce_data_retention, touch_updated_at, latest_step, validate_job, restrict_client_job, validate_element,
    reset_elements, complete_timeline_entry, follow_elements, check_added_elements, refresh_progress, follow_steps,
    append_job_change, job_seconds, duration_bucket, count_job, count_url_accesses, fold_statistics, rebuild_statistics, clear_statistics,
    notify_job_change, notify_timeline_change, inet_or_null, statement_statistics, restrict_client_element TO PUBLIC;

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

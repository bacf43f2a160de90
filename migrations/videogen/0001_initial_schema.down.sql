DROP TABLE url_access_changes, url_access_totals, job_statistics_changes, job_durations, job_statistics;
DROP TABLE system_metrics, url_access_logs, processing_timeline, storage_operations, elements, jobs;
DROP TYPE response_type, storage_operation, processing_step, fit_mode, element_type, job_status;
-- What others have in the same schema still needs it.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = current_schema()::regnamespace)
        AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = current_schema()::regnamespace) THEN
        EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM anon, authenticated, service_role, service_account, admin', current_schema());
    END IF;
END $$;

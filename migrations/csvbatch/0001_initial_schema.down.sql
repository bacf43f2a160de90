DROP TABLE csv_processing_logs, csv_processing_workers, csv_row_jobs, csv_batches;
-- What others have in the same schema still needs it.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = current_schema()::regnamespace)
        AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = current_schema()::regnamespace) THEN
        EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM anon, authenticated, service_role', current_schema());
    END IF;
END $$;

DROP TABLE url_access_changes, url_access_totals, job_statistics_changes, job_durations, job_statistics;
DROP TABLE system_metrics, url_access_logs, processing_timeline, storage_operations, elements, jobs;
DROP TYPE response_type, storage_operation, processing_step, fit_mode, element_type, job_status;

DROP TABLE system_metrics, url_access_logs, processing_timeline, storage_operations, elements, jobs;
DROP TYPE response_type, storage_operation, processing_step, fit_mode, element_type, job_status;

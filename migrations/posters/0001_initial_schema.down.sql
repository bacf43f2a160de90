DROP TABLE poster_failure_details, job_logs, batch_jobs, generated_posters;
DROP TYPE log_level, job_status;

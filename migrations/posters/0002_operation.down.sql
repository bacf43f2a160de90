DROP TRIGGER touch_batch_jobs ON batch_jobs;
DROP TRIGGER touch_generated_posters ON generated_posters;
DROP FUNCTION touch_updated_at();
DROP INDEX idx_generated_posters_job_status, idx_generated_posters_metadata, idx_generated_posters_username,
    idx_batch_jobs_created_at, idx_batch_jobs_unfinished, idx_job_logs_job_id,
    idx_poster_failure_details_job_id, idx_poster_failure_details_poster_id;

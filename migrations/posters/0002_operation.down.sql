DROP FUNCTION delete_batch(text);
DROP FUNCTION retry_failed_posters(text);
DROP FUNCTION finish_poster(uuid, job_status, text, text, integer, text, text, jsonb);
DROP TRIGGER keep_completed_batches ON batch_jobs;
DROP TRIGGER keep_completed_posters ON generated_posters;
DROP FUNCTION refuse_status_change();
DROP TRIGGER touch_batch_jobs ON batch_jobs;
DROP TRIGGER touch_generated_posters ON generated_posters;
DROP FUNCTION touch_updated_at();
DROP FUNCTION require_argument(boolean, text, text, text);
DROP INDEX idx_generated_posters_job_status, idx_generated_posters_metadata, idx_generated_posters_username,
    idx_batch_jobs_created_at, idx_batch_jobs_status, idx_job_logs_job_id,
    idx_poster_failure_details_job_id, idx_poster_failure_details_poster_id;

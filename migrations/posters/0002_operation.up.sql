-- What running the system needs beyond its definition: indexes for what is asked, and updated_at kept by itself.
CREATE INDEX idx_generated_posters_job_status ON generated_posters (job_id, status);
CREATE INDEX idx_generated_posters_metadata ON generated_posters USING gin (metadata);
CREATE INDEX idx_generated_posters_username ON generated_posters (username);
CREATE INDEX idx_batch_jobs_created_at ON batch_jobs (created_at DESC);
CREATE INDEX idx_batch_jobs_unfinished ON batch_jobs (status) WHERE status IN ('pending', 'processing');
CREATE INDEX idx_job_logs_job_id ON job_logs (job_id, created_at DESC);
CREATE INDEX idx_poster_failure_details_job_id ON poster_failure_details (job_id);
CREATE INDEX idx_poster_failure_details_poster_id ON poster_failure_details (poster_id);

CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE TRIGGER touch_generated_posters BEFORE UPDATE ON generated_posters
    FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER touch_batch_jobs BEFORE UPDATE ON batch_jobs
    FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

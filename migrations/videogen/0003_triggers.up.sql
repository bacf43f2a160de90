CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$;

-- Checks that a job goes only where it can go from where it is, and keeps its times.
CREATE FUNCTION validate_job() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.status <> OLD.status AND NOT (CASE OLD.status
        WHEN 'pending' THEN NEW.status IN ('processing', 'completed', 'failed', 'cancelled', 'timeout')
        WHEN 'processing' THEN true
        WHEN 'failed' THEN NEW.status = 'pending'
        WHEN 'timeout' THEN NEW.status = 'pending'
        ELSE false END)
    THEN
        RAISE EXCEPTION 'a job that is % cannot become %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', HINT = 'a failed job is put back with retry_job()';
    END IF;
    IF NEW.output_format IN ('mp4', 'mov') AND (NEW.width % 2 = 1 OR NEW.height % 2 = 1) THEN
        RAISE EXCEPTION 'a % of % by % cannot be encoded, for both sides must be even',
            NEW.output_format, NEW.width, NEW.height USING ERRCODE = 'check_violation';
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.status <> OLD.status THEN
        CASE
            WHEN NEW.status = 'processing' THEN
                NEW.started_at := clock_timestamp();
                NEW.completed_at := NULL;
            WHEN NEW.status = 'pending' THEN
                NEW.started_at := NULL;
                NEW.completed_at := NULL;
                NEW.current_step := NULL;
                NEW.progress_percentage := 0;
            ELSE
                NEW.started_at := coalesce(NEW.started_at, clock_timestamp());
                NEW.completed_at := clock_timestamp();
                IF NEW.status = 'completed' THEN
                    NEW.progress_percentage := 100;
                END IF;
        END CASE;
    END IF;
    RETURN NEW;
END $$;

-- An element needs what its type is made of, and belongs to a job that still takes elements.
CREATE FUNCTION validate_element() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    job_duration numeric;
BEGIN
    IF NEW.element_type = 'text' AND coalesce(NEW.text_content, '') = '' THEN
        RAISE EXCEPTION 'a text element has no text' USING ERRCODE = 'check_violation', COLUMN = 'text_content';
    END IF;
    IF NEW.element_type IN ('video', 'image', 'audio') AND coalesce(NEW.source_url, '') = '' THEN
        RAISE EXCEPTION 'a % element has no source', NEW.element_type
            USING ERRCODE = 'check_violation', COLUMN = 'source_url';
    END IF;
    SELECT duration_seconds INTO job_duration FROM jobs WHERE id = NEW.job_id;
    IF NEW.start_time >= job_duration THEN
        RAISE EXCEPTION 'the element begins at % s, and the video ends at % s', NEW.start_time, job_duration
            USING ERRCODE = 'check_violation', COLUMN = 'start_time';
    END IF;
    RETURN NEW;
END $$;

-- The time that a step took, and the step that the job is at.
CREATE FUNCTION complete_timeline_entry() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.success IS NOT NULL AND NEW.completed_at IS NULL THEN
        NEW.completed_at := clock_timestamp();
    END IF;
    IF NEW.completed_at IS NOT NULL AND NEW.duration_ms IS NULL THEN
        NEW.duration_ms := round(extract(epoch FROM NEW.completed_at - NEW.started_at) * 1000);
    END IF;
    RETURN NEW;
END $$;

-- Progress follows from the steps and the elements. It is kept by the owner's right, for a user who adds an element
-- may not otherwise change the job.
CREATE FUNCTION follow_progress() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    job uuid := coalesce(NEW.job_id, OLD.job_id);
BEGIN
    IF TG_TABLE_NAME = 'processing_timeline' AND TG_OP <> 'DELETE' THEN
        UPDATE jobs SET current_step = NEW.step, progress_percentage = coalesce(calculate_job_progress(job), 0)
        WHERE id = job AND status = 'processing';
    ELSE
        UPDATE jobs SET progress_percentage = coalesce(calculate_job_progress(job), 0)
        WHERE id = job AND status = 'processing'
          AND progress_percentage IS DISTINCT FROM coalesce(calculate_job_progress(job), 0);
    END IF;
    RETURN NULL;
END $$;

-- What subscribers hear: job_updates and timeline_updates, each with a small JSON object.
CREATE FUNCTION notify_job_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_notify('job_updates', json_build_object(
        'operation', TG_OP, 'id', NEW.id, 'status', NEW.status, 'progress_percentage', NEW.progress_percentage,
        'current_step', NEW.current_step)::text);
    RETURN NULL;
END $$;

CREATE FUNCTION notify_timeline_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_notify('timeline_updates', json_build_object(
        'operation', TG_OP, 'id', NEW.id, 'job_id', NEW.job_id, 'step', NEW.step, 'success', NEW.success)::text);
    RETURN NULL;
END $$;

CREATE TRIGGER touch_elements BEFORE UPDATE ON elements FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER touch_jobs BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER validate_job BEFORE INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION validate_job();
CREATE TRIGGER validate_element BEFORE INSERT OR UPDATE ON elements FOR EACH ROW EXECUTE FUNCTION validate_element();
CREATE TRIGGER complete_timeline_entry BEFORE INSERT OR UPDATE ON processing_timeline
    FOR EACH ROW EXECUTE FUNCTION complete_timeline_entry();
CREATE TRIGGER follow_steps AFTER INSERT OR UPDATE OF success ON processing_timeline
    FOR EACH ROW EXECUTE FUNCTION follow_progress();
CREATE TRIGGER follow_elements AFTER INSERT OR DELETE OR UPDATE OF processing_status ON elements
    FOR EACH ROW EXECUTE FUNCTION follow_progress();
CREATE TRIGGER notify_job_insert AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION notify_job_change();
CREATE TRIGGER notify_job_update AFTER UPDATE ON jobs FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.progress_percentage IS DISTINCT FROM NEW.progress_percentage
        OR OLD.current_step IS DISTINCT FROM NEW.current_step)
    EXECUTE FUNCTION notify_job_change();
CREATE TRIGGER notify_timeline AFTER INSERT OR UPDATE ON processing_timeline
    FOR EACH ROW EXECUTE FUNCTION notify_timeline_change();

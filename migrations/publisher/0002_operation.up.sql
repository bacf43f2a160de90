-- What running the system needs beyond its definition: indexes on foreign keys and on what is asked, and takedowns that
-- only go forward.
CREATE INDEX idx_media_files_post_id ON media_files (post_id);
CREATE INDEX idx_token_usage_post_id ON token_usage (post_id);
CREATE INDEX idx_processing_logs_created_at ON processing_logs (created_at);
CREATE INDEX idx_posts_takedown ON posts (takedown_status, updated_at) WHERE takedown_status <> 'active';
CREATE INDEX idx_posts_unpublished ON posts (created_ts) WHERE ghost_post_id IS NULL AND takedown_status = 'active';

-- A takedown has two stages, one after the other: active, takedown_pending, removed. There is no way back and no way
-- around the first stage, whoever writes: an import that collects the post again, a worker with an old copy of the row,
-- or a deletion that was scheduled for a post whose takedown nobody has begun. A removed post is not published again.
--
-- While a takedown is pending, ghost_post_id can still be recorded: who published the post just before tells the second
-- stage what to delete.
CREATE FUNCTION keep_takedown() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF (OLD.takedown_status, NEW.takedown_status) NOT IN (
        ('active', 'active'), ('active', 'takedown_pending'), ('takedown_pending', 'takedown_pending'),
        ('takedown_pending', 'removed'), ('removed', 'removed')) THEN
        RAISE EXCEPTION 'post % is % and cannot become %', OLD.reddit_post_id, OLD.takedown_status, NEW.takedown_status
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
            COLUMN = 'takedown_status', HINT = CASE OLD.takedown_status
                WHEN 'active' THEN 'a takedown begins with takedown_pending'
                WHEN 'takedown_pending' THEN 'a takedown that was begun ends with removed'
                ELSE 'a removed post stays removed; leave takedown_status out of the update' END;
    END IF;
    IF OLD.takedown_status = 'removed' THEN
        IF NEW.reddit_post_id <> OLD.reddit_post_id THEN
            RAISE EXCEPTION 'post % is removed and keeps its id', OLD.reddit_post_id
                USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                COLUMN = 'reddit_post_id', HINT = 'by its id it is known when it is collected again';
        END IF;
        IF NEW.ghost_post_id IS NOT NULL AND NEW.ghost_post_id IS DISTINCT FROM OLD.ghost_post_id
            OR NEW.ghost_url IS NOT NULL AND NEW.ghost_url IS DISTINCT FROM OLD.ghost_url
            OR NEW.ghost_slug IS NOT NULL AND NEW.ghost_slug IS DISTINCT FROM OLD.ghost_slug THEN
            RAISE EXCEPTION 'post % is removed and cannot be published', OLD.reddit_post_id
                USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                COLUMN = 'ghost_post_id', HINT = 'delete what was published in Ghost';
        END IF;
    END IF;
    -- By its hash a repost is known, also after an import has found the post edited.
    NEW.content_hash := coalesce(OLD.content_hash, NEW.content_hash);
    RETURN NEW;
END $$;

CREATE TRIGGER keep_takedown BEFORE UPDATE ON posts
    FOR EACH ROW WHEN (OLD.takedown_status <> 'active' OR NEW.takedown_status <> 'active')
    EXECUTE FUNCTION keep_takedown();

REVOKE EXECUTE ON FUNCTION keep_takedown() FROM PUBLIC;

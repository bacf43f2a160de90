DROP TRIGGER keep_takedown ON posts;
DROP FUNCTION keep_takedown();
DROP INDEX idx_media_files_post_id, idx_token_usage_post_id, idx_processing_logs_created_at, idx_posts_takedown,
    idx_posts_unpublished;

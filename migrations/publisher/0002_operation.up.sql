-- What running the system needs beyond its definition: indexes on foreign keys and on what is asked.
CREATE INDEX idx_media_files_post_id ON media_files (post_id);
CREATE INDEX idx_token_usage_post_id ON token_usage (post_id);
CREATE INDEX idx_processing_logs_created_at ON processing_logs (created_at);
CREATE INDEX idx_posts_takedown ON posts (takedown_status, updated_at) WHERE takedown_status <> 'active';
CREATE INDEX idx_posts_unpublished ON posts (created_ts) WHERE ghost_post_id IS NULL AND takedown_status = 'active';

DROP TABLE token_usage, processing_logs, media_files, posts;
DROP FUNCTION update_updated_at_column();

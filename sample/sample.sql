-- A small sample for each of the five systems, loaded in one transaction: psql -f sample.sql, from this folder.
\set ON_ERROR_STOP on
BEGIN;

-- The demo user of the ad video generator (password: demo123).
INSERT INTO advideo.users (email, password_hash, full_name)
VALUES ('demo@example.com', '$2b$12$LQv3c1yqBWVHxkd0LHAkCOYz6TtxMQJqhN8/LdQmJq5rMJHvQJJwe', 'Demo User')
ON CONFLICT (email) DO NOTHING;

WITH session AS (
    INSERT INTO advideo.sessions (user_id, status, user_product_prompt, product_category)
    SELECT id, 'generating_images', 'pink tennis shoes', 'footwear' FROM advideo.users WHERE email = 'demo@example.com'
    RETURNING id
), images AS (
    INSERT INTO advideo.assets (session_id, type, source, status, url, view_type, seed, generation_cost)
    SELECT id, 'image', 'flux-pro', 'completed', 'https://assets.example.com/' || view || '.png', view, 789456, 0.05
    FROM session, unnest(ARRAY['front', 'side']) AS view
    RETURNING id, session_id
)
INSERT INTO advideo.generation_costs (session_id, asset_id, category, amount, provider, model_name, api_latency_ms)
SELECT session_id, id, 'image_generation', 0.05, 'replicate', 'flux-pro', 2100 FROM images;

-- One file of products, a row a job.
CREATE TEMPORARY TABLE sample_products (
    country text, product_type text, size text, mpn text, description text, title text, color text) ON COMMIT DROP;
\copy sample_products FROM 'products.csv' (FORMAT csv, HEADER)
WITH batch AS (
    INSERT INTO csvbatch.csv_batches (user_id, filename, original_filename, total_rows, csv_headers, storage_path, status)
    SELECT '00000000-0000-4000-8000-000000000001', 'sample_products.csv', 'products.csv', count(*),
        ARRAY['country', 'product_type', 'size', 'mpn', 'description', 'title', 'color'],
        'csv-uploads/00000000-0000-4000-8000-000000000001/products.csv', 'queued'
    FROM sample_products
    RETURNING id
)
INSERT INTO csvbatch.csv_row_jobs (batch_id, row_number, row_data)
SELECT batch.id, row_number() OVER (), to_jsonb(p) FROM batch, sample_products p;

-- Posts to analyse and publish.
CREATE TEMPORARY TABLE sample_posts (
    id text, subreddit text, title text, score integer, num_comments integer, created_utc double precision) ON COMMIT DROP;
\copy sample_posts FROM 'posts.csv' (FORMAT csv, HEADER)
INSERT INTO publisher.posts (reddit_post_id, title, subreddit, score, num_comments, created_ts)
SELECT id, title, subreddit, score, num_comments, to_timestamp(created_utc) FROM sample_posts ORDER BY id
ON CONFLICT DO NOTHING;

-- A batch of posters, one of which failed.
INSERT INTO posters.batch_jobs (
    job_id, campaign_name, status, total_items, processed_items, success_count, failure_count, poster_size, model,
    user_identifiers, started_at, completed_at)
VALUES ('job_sample', 'Sample campaign', 'completed', 3, 3, 2, 1, 'instagram-square', 'flash', 'ada,grace,linus',
    now() - interval '2 minutes', now())
ON CONFLICT (job_id) DO NOTHING;
WITH made AS (
    INSERT INTO posters.generated_posters (job_id, user_identifier, username, display_name, status, processing_time_ms, metadata)
    VALUES
        ('job_sample', 'ada', 'ada', 'Ada', 'completed', 2341, '{"user_id": 1, "fetched_from_api": true}'),
        ('job_sample', 'grace', 'grace', 'Grace', 'completed', 1987, '{"user_id": 2}'),
        ('job_sample', 'linus', 'linus', NULL, 'failed', NULL, '{}')
    RETURNING id, username
)
INSERT INTO posters.poster_failure_details (job_id, poster_id, username, failure_type, error_message)
SELECT 'job_sample', id, username, 'api_error', 'the profile was not found' FROM made WHERE username = 'linus';
INSERT INTO posters.job_logs (job_id, message) VALUES ('job_sample', 'CSV job processing started - 3 posters to generate');

-- A video of two elements.
WITH job AS (SELECT videogen.create_job('mp4', 1920, 1080, 25, '127.0.0.1'::inet, 'sample', '{"title": "sample"}') AS id)
SELECT videogen.add_job_element(id, 'image', 'https://assets.example.com/front.png', 0, 3) FROM job
UNION ALL
SELECT videogen.add_job_element(id, 'text', NULL, 1, 2, 1, text_content => 'Pink, and fast') FROM job;

COMMIT;

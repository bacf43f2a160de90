"""publisher: a row is a post. Each has two log entries and an analysis with its tokens, every second a picture."""
from . import Call, key

# The newest two thousand posts are not published, and of the others one in a hundred is to be taken down.
NUMBERED = """(SELECT n, now() - interval '365 days' * (n::float8 / :rows) AS made, CASE WHEN n <= 2000 THEN 'active'
        WHEN n % 5000 = 0 THEN 'takedown_pending' WHEN n % 100 = 0 THEN 'removed' ELSE 'active' END AS takedown
    FROM generate_series(:rows, 1, -1) n) s"""

FILL = f"""
INSERT INTO posts (
    id, reddit_post_id, title, subreddit, score, num_comments, created_ts, summary_ko, tags, pain_points, product_ideas,
    ghost_url, ghost_post_id, ghost_slug, content_hash, takedown_status, created_at, updated_at)
SELECT md5('post' || n)::uuid, 't3_' || n, 'A question about product ' || n, 'subreddit' || n % 40, n % 3000, n % 400,
    made, CASE WHEN n > 1000 THEN repeat('summary ', 20) END, CASE WHEN n > 1000 THEN '["tools", "startup"]'::jsonb END,
    CASE WHEN n > 1000 THEN '["too slow", "too expensive"]'::jsonb END,
    CASE WHEN n > 1000 THEN '["a quicker one"]'::jsonb END,
    CASE WHEN n > 2000 THEN 'https://blog.example.com/post-' || n END, CASE WHEN n > 2000 THEN md5('ghost' || n) END,
    CASE WHEN n > 2000 THEN 'post-' || n END, encode(sha256(('post' || n)::bytea), 'hex'), takedown, made, made
FROM {NUMBERED};
INSERT INTO media_files (post_id, original_url, ghost_url, file_type, file_size, processed_at, created_at)
SELECT md5('post' || n)::uuid, 'https://i.example.com/' || n || '.png', 'https://blog.example.com/' || n || '.png',
    'image/png', 200000, made, made
FROM {NUMBERED} WHERE n % 2 = 0;
INSERT INTO processing_logs (post_id, service_name, status, error_message, processing_time_ms, created_at)
SELECT md5('post' || n)::uuid, service, CASE WHEN n % 50 = 0 THEN 'failure' ELSE 'success' END,
    CASE WHEN n % 50 = 0 THEN 'the service did not answer' END, 200 + n % 4000, made
FROM {NUMBERED}, unnest(ARRAY['collector', 'publisher']) service;
INSERT INTO token_usage (post_id, service, model, input_tokens, output_tokens, cost_usd, created_at)
SELECT md5('post' || n)::uuid, 'analysis', 'gpt-4o-mini', 900 + n % 900, 200 + n % 200, 0.0006, made FROM {NUMBERED};
"""

PUBLISHED, WAITING = key("post", 7777), key("post", 1777)

CALLS = [
    # Applications and dashboards
    Call("post_by_reddit_id", "SELECT * FROM posts WHERE reddit_post_id = 't3_7777'"),
    Call("posts_newest", "SELECT * FROM posts ORDER BY created_ts DESC LIMIT 50"),
    Call("posts_of_subreddit_newest",
        "SELECT * FROM posts WHERE subreddit = 'subreddit7' ORDER BY created_ts DESC LIMIT 50"),
    Call("posts_to_publish", """SELECT id, title FROM posts
        WHERE ghost_post_id IS NULL AND takedown_status = 'active' ORDER BY created_ts LIMIT 20"""),
    Call("takedowns_pending",
        "SELECT * FROM posts WHERE takedown_status = 'takedown_pending' ORDER BY updated_at LIMIT 50"),
    Call("logs_of_post", f"SELECT * FROM processing_logs WHERE post_id = {PUBLISHED} ORDER BY created_at DESC"),
    Call("failures_of_day", """SELECT service_name, count(*) FROM processing_logs
        WHERE created_at > now() - interval '1 day' AND status = 'failure' GROUP BY service_name"""),
    Call("tokens_of_day", """SELECT model, sum(input_tokens + output_tokens), sum(cost_usd) FROM token_usage
        WHERE created_at >= current_date GROUP BY model"""),
    Call("tokens_of_month", """SELECT model, sum(input_tokens + output_tokens), sum(cost_usd) FROM token_usage
        WHERE created_at >= current_date - 30 GROUP BY model""", "report"),
    Call("posts_count", "SELECT COUNT(*) FROM posts", "report"),
    # Workers
    Call("import_post", """INSERT INTO posts (reddit_post_id, title, subreddit, created_ts, content_hash)
        VALUES ('t3_new', 'A question', 'startups', now(), md5('new')) ON CONFLICT (reddit_post_id) DO NOTHING"""),
    Call("import_100_posts", """INSERT INTO posts (reddit_post_id, title, subreddit, created_ts, content_hash)
        SELECT 't3_new' || n, 'A question', 'startups', now(), md5('new' || n) FROM generate_series(1, 100) n
        ON CONFLICT (reddit_post_id) DO NOTHING"""),
    Call("store_analysis", f"""UPDATE posts SET summary_ko = 'summary', tags = '["tools"]', pain_points = '["slow"]',
        product_ideas = '["quick"]' WHERE id = {WAITING}"""),
    Call("publish", f"""UPDATE posts SET ghost_url = 'https://blog.example.com/x', ghost_post_id = 'x', ghost_slug = 'x'
        WHERE id = {WAITING}"""),
    Call("ask_takedown", f"UPDATE posts SET takedown_status = 'takedown_pending' WHERE id = {PUBLISHED}"),
    Call("insert_log", f"""INSERT INTO processing_logs (post_id, service_name, status)
        VALUES ({PUBLISHED}, 'publisher', 'success')"""),
    Call("insert_tokens", f"""INSERT INTO token_usage (post_id, service, model, input_tokens, output_tokens, cost_usd)
        VALUES ({PUBLISHED}, 'analysis', 'gpt-4o-mini', 900, 200, 0.0006)"""),
    Call("delete_post", f"DELETE FROM posts WHERE id = {PUBLISHED}"),
]

CHURN = """INSERT INTO posts (reddit_post_id, title, subreddit, created_ts, content_hash)
VALUES ('t3_' || gen_random_uuid(), 'A question', 'startups', now(), md5(gen_random_uuid()::text))
RETURNING id AS post \\gset
UPDATE posts SET summary_ko = 'summary', tags = '["tools"]' WHERE id = :post::uuid;
INSERT INTO token_usage (post_id, service, model, input_tokens, output_tokens, cost_usd)
VALUES (:post::uuid, 'analysis', 'gpt-4o-mini', 900, 200, 0.0006);
UPDATE posts SET ghost_post_id = reddit_post_id WHERE id = :post::uuid;
UPDATE posts SET takedown_status = 'takedown_pending' WHERE id = :post::uuid;
UPDATE posts SET takedown_status = 'removed' WHERE id = :post::uuid;
DELETE FROM posts WHERE id = :post::uuid;
"""

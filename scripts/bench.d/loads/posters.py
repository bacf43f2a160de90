"""posters: a row is a poster. A batch has a hundred of them, of which two failed, and each has a log entry."""
from . import Call

# The newest ten batches are open.
NUMBERED = """(SELECT n, b, now() - interval '365 days' * (b::float8 * 100 / :rows) AS made,
        CASE WHEN b <= 10 THEN 'pending' WHEN n % 50 = 0 THEN 'failed' ELSE 'completed' END AS status
    FROM (SELECT n, (n - 1) / 100 + 1 AS b FROM generate_series(:rows, 1, -1) n) t) s"""

FILL = f"""
INSERT INTO batch_jobs (
    job_id, campaign_name, status, total_items, processed_items, success_count, failure_count, template_html,
    poster_size, model, user_identifiers, created_at, started_at, completed_at, updated_at)
SELECT 'job_' || b, 'Campaign ' || b, CASE WHEN b <= 10 THEN 'pending' ELSE 'completed' END::job_status, 100,
    CASE WHEN b <= 10 THEN 0 ELSE 100 END, CASE WHEN b <= 10 THEN 0 ELSE 98 END, CASE WHEN b <= 10 THEN 0 ELSE 2 END,
    repeat('<div style="color: red">Poster</div>', 30), 'instagram-square', 'flash', repeat('user,', 100), made,
    CASE WHEN b > 10 THEN made END, CASE WHEN b > 10 THEN made + interval '9 minutes' END, made
FROM (SELECT b, now() - interval '365 days' * (b::float8 * 100 / :rows) AS made
    FROM generate_series(:rows / 100, 1, -1) b) s;
INSERT INTO generated_posters (
    id, job_id, user_identifier, username, display_name, poster_url, s3_key, status, processing_time_ms, error_message,
    metadata, created_at, updated_at)
SELECT md5('poster' || n)::uuid, 'job_' || b, 'user' || n % 90000, 'user' || n % 90000, 'User ' || n % 90000,
    CASE WHEN status = 'completed' THEN 'https://posters.example.com/' || n || '.png' END,
    CASE WHEN status = 'completed' THEN 'job_' || b || '/' || n || '.png' END, status::job_status,
    CASE WHEN status <> 'pending' THEN 1000 + n % 4000 END, CASE WHEN status = 'failed' THEN 'the model refused' END,
    CASE WHEN n % 10 = 1 THEN '{{}}'::jsonb ELSE jsonb_build_object(
        'user_id', n % 90000, 'display_name', 'User ' || n % 90000,
        'profile_pic', 'https://profiles.example.com/' || n % 90000 || '.jpg', 'fetched_from_api', true) END, made, made
FROM {NUMBERED};
INSERT INTO job_logs (job_id, level, message, created_at)
SELECT 'job_' || b, CASE WHEN status = 'failed' THEN 'ERROR' ELSE 'INFO' END::log_level, 'poster ' || n || ' ended',
    made
FROM {NUMBERED};
INSERT INTO poster_failure_details (job_id, poster_id, username, failure_type, error_message, created_at)
SELECT 'job_' || b, md5('poster' || n)::uuid, 'user' || n % 90000, 'api_error', 'the model refused', made
FROM {NUMBERED} WHERE status = 'failed';
"""

CALLS = [
    # Applications
    Call("job_statistics", """SELECT job_id, campaign_name, status, total_items, success_count, failure_count,
        (success_count::float / NULLIF(total_items, 0) * 100) as success_rate,
        completed_at - started_at as processing_duration FROM batch_jobs WHERE job_id = 'job_77'"""),
    Call("jobs_newest", """SELECT job_id, campaign_name, status, total_items, success_count FROM batch_jobs
        ORDER BY created_at DESC LIMIT 10"""),
    Call("jobs_unfinished", "SELECT * FROM batch_jobs WHERE status IN ('pending', 'processing')"),
    Call("posters_of_job", """SELECT username, display_name, status, metadata->>'user_id' as user_id
        FROM generated_posters WHERE job_id = 'job_77'"""),
    Call("posters_for_save", """SELECT username, poster_url, metadata->>'user_id' as user_id FROM generated_posters
        WHERE job_id = 'job_77' AND status = 'completed'"""),
    Call("posters_with_user_id", """SELECT username, poster_url, metadata->>'user_id' as user_id,
        metadata->>'display_name' as display_name, metadata->>'profile_pic' as profile_pic FROM generated_posters
        WHERE job_id = 'job_77' AND status = 'completed' AND metadata ? 'user_id'"""),
    Call("posters_without_user_id", """SELECT username, poster_url FROM generated_posters
        WHERE job_id = 'job_77' AND status = 'completed' AND NOT (metadata ? 'user_id')"""),
    Call("posters_fetched_from_api", """SELECT username, metadata->>'user_id' as user_id,
        metadata->>'fetched_from_api' as fetched_from_api FROM generated_posters
        WHERE job_id = 'job_77' AND metadata ? 'fetched_from_api'"""),
    Call("posters_of_user", "SELECT * FROM generated_posters WHERE username = 'user777'"),
    Call("logs_of_job", """SELECT level, message, created_at FROM job_logs WHERE job_id = 'job_77'
        ORDER BY created_at DESC"""),
    Call("failures_of_job", "SELECT * FROM poster_failure_details WHERE job_id = 'job_77'"),
    # Workers
    Call("insert_job", """INSERT INTO batch_jobs (job_id, campaign_name, total_items)
        VALUES ('job_bench', 'Bench', 100)"""),
    Call("insert_posters_100", """INSERT INTO generated_posters (job_id, user_identifier, username)
        SELECT 'job_5', 'bench' || n, 'bench' || n FROM generate_series(1, 100) n"""),
    Call("start_poster", """UPDATE generated_posters SET status = 'processing'
        WHERE id = md5('poster7')::uuid"""),
    Call("complete_poster", """UPDATE generated_posters SET status = 'completed', processing_time_ms = 2341,
        poster_url = 'https://posters.example.com/x.png' WHERE id = md5('poster7')::uuid"""),
    Call("finish_poster", """SELECT finish_poster(md5('poster7')::uuid, 'completed',
        'https://posters.example.com/x.png', 'job_1/x.png', 2341)"""),
    Call("retry_failed_posters", "SELECT retry_failed_posters('job_77')"),
    Call("insert_log", "INSERT INTO job_logs (job_id, message) VALUES ('job_5', 'CSV job processing started')"),
    Call("insert_failure", """INSERT INTO poster_failure_details (job_id, poster_id, failure_type, error_message)
        VALUES ('job_5', md5('poster7')::uuid, 'timeout', 'took too long')"""),
    Call("delete_batch", "SELECT delete_batch('job_77')"),
]

CHURN = """\\set n random(1, 10)
INSERT INTO generated_posters (job_id, username) VALUES ('job_' || :n::int, 'churn') RETURNING id AS poster \\gset
UPDATE generated_posters SET status = 'processing' WHERE id = :poster::uuid;
SELECT finish_poster(:poster::uuid, 'completed', 'https://posters.example.com/x.png');
INSERT INTO job_logs (job_id, message) VALUES ('job_' || :n::int, 'poster ended');
DELETE FROM generated_posters WHERE id = :poster::uuid;
"""

"""csvbatch: a row is a row of a file. A batch has a hundred of them, of which two failed, and each has a log entry."""
from . import OPEN, Call, key

# What has ended is made with the triggers off. The newest twenty batches are open and made as workers make them: of
# ten, half the rows are done and ten are held.
MADE = "now() - interval '365 days' * (b::float8 * 100 / :rows)"
STATUS = "CASE WHEN r % 50 = 0 THEN 'failed' ELSE 'completed' END"
NUMBERED = f"""(SELECT *, {STATUS} AS status, {MADE} AS made
    FROM (SELECT n, (n - 1) / 100 + 1 AS b, (n - 1) % 100 + 1 AS r
        FROM generate_series(:rows, {OPEN} + 1, -1) n) t) s"""
ROW = """jsonb_build_object(
    'country', 'Germany', 'product_type', 'shoe', 'size', r, 'mpn', 'MPN-' || n, 'title', 'Shoe ' || n)"""

FILL = f"""
INSERT INTO csv_batches (
    id, user_id, filename, original_filename, file_size_bytes, csv_headers, storage_path, status, total_rows,
    processed_rows, successful_rows, failed_rows, processing_rate_rows_per_minute, processing_started_at,
    processing_completed_at, created_at, updated_at)
SELECT md5('batch' || b)::uuid, md5('user' || b % 200)::uuid, 'products-' || b || '.csv', 'products.csv', 20000,
    ARRAY['country', 'product_type', 'mpn', 'title'],
    'csv-uploads/' || md5('user' || b % 200)::uuid || '/' || b || '.csv', 'completed', 100, 100, 98, 2, 12.5,
    {MADE}, {MADE} + interval '8 minutes', {MADE}, {MADE} + interval '8 minutes'
FROM generate_series(:rows / 100, {OPEN} / 100 + 1, -1) b;
INSERT INTO csv_row_jobs (
    id, batch_id, row_number, row_data, status, trigger_text, generated_prompts, generated_images, generated_tags,
    claimed_by, claimed_at, started_at, completed_at, processing_time_seconds, retry_count, error_message, created_at,
    updated_at)
SELECT md5('row' || n)::uuid, md5('batch' || b)::uuid, r, {ROW}, status, 'Germany shoe ' || r || ' MPN-' || n,
    CASE WHEN status = 'completed' THEN
        jsonb_build_object('prompts', jsonb_build_array('lifestyle ' || n, 'white ' || n)) END,
    CASE WHEN status = 'completed' THEN
        jsonb_build_object('images', jsonb_build_array('https://images.example.com/' || n || '.png')) END,
    CASE WHEN status = 'completed' THEN '{{"tags": ["shoe", "running"]}}'::jsonb END,
    'worker-' || 1 + n % 40, made, made, made + interval '5 minutes',
    CASE WHEN status = 'completed' THEN 20 + n % 30 END, CASE WHEN status = 'failed' THEN 3 ELSE 0 END,
    CASE WHEN status = 'failed' THEN 'the image was refused' END, made, made + interval '5 minutes'
FROM {NUMBERED};
INSERT INTO csv_processing_workers (instance_id, status, last_heartbeat, started_at, stopped_at)
SELECT 'worker-' || w, CASE WHEN w <= 50 THEN 'processing' ELSE 'stopped' END,
    CASE WHEN w <= 50 THEN now() + interval '2 hours' ELSE now() - w * interval '1 hour' END,
    now() - w * interval '1 hour', CASE WHEN w > 50 THEN now() - w * interval '1 hour' END
FROM generate_series(1, 1000) w;
INSERT INTO csv_processing_logs (batch_id, row_job_id, worker_instance_id, log_level, message, operation, created_at)
SELECT md5('batch' || b)::uuid, md5('row' || n)::uuid, 'worker-' || 1 + n % 40,
    CASE WHEN status = 'failed' THEN 'ERROR' ELSE 'INFO' END, 'row ' || r || ' ended', 'process_row', made
FROM {NUMBERED};
SET session_replication_role = origin;
INSERT INTO csv_batches (id, user_id, filename, original_filename, status, total_rows, created_at)
SELECT md5('batch' || b)::uuid, md5('user' || b % 200)::uuid, 'products-' || b || '.csv', 'products.csv', 'queued', 100,
    now() - b * interval '1 minute'
FROM generate_series(1, {OPEN} / 100) b;
INSERT INTO csv_row_jobs (id, batch_id, row_number, row_data)
SELECT md5('row' || n)::uuid, md5('batch' || (n - 1) / 100 + 1)::uuid, r, {ROW}
FROM generate_series(1, {OPEN}) n, LATERAL (SELECT (n - 1) % 100 + 1) s (r);
UPDATE csv_row_jobs SET status = 'claimed', claimed_by = 'worker-' || 1 + row_number % 40, claimed_at = now()
WHERE row_number <= 60 AND batch_id IN (SELECT md5('batch' || b)::uuid FROM generate_series(1, 10) b);
UPDATE csv_row_jobs r SET status = {STATUS.replace("r %", "r.row_number %")}, completed_at = now()
WHERE row_number <= 50 AND status = 'claimed';
"""

HELD, BATCH, OLD_BATCH = key("row", 55), key("batch", 5), key("batch", 90)
USER = key("user", 5).split("'")[1]
SIGNED_IN = f"""SET LOCAL request.jwt.claims = '{{"sub": "{USER}"}}';"""
NEW = key("new", 1)
NEW_BATCH = f"""INSERT INTO csv_batches (id, user_id, filename, original_filename, total_rows, status)
VALUES ({NEW}, '{USER}', 'new.csv', 'new.csv', 5000, 'queued');"""
NEW_ROWS = f"""INSERT INTO csv_row_jobs (batch_id, row_number, row_data)
SELECT {NEW}, n, '{{"country": "Germany"}}' FROM generate_series(1, %s) n;"""
RESULT = """'completed', 'Generated trigger text', '{"prompts": ["prompt1", "prompt2"]}',
    '{"images": [{"url": "...", "model": "gpt-image-1"}]}', '{"tags": ["tag1", "tag2"]}', 45.2"""
CLAIM_ALL = f"""UPDATE csv_row_jobs SET status = 'claimed', claimed_by = 'worker-1', claimed_at = now()
WHERE batch_id = {NEW};"""
DEDICATE = f"UPDATE csv_processing_workers SET batch_id = {NEW} WHERE instance_id = 'worker-41';"
EXPIRE = "UPDATE csv_row_jobs SET claimed_at = now() - interval '1 hour' WHERE status = 'claimed';"
SILENCE = """UPDATE csv_processing_workers SET last_heartbeat = now() - interval '1 hour'
WHERE instance_id = 'worker-12';"""


def service(name, sql, target="<50", before=""):
    return Call(name, sql, target, "service_role", before)


def user(name, sql):
    return Call(name, sql, "<50", "authenticated", SIGNED_IN)


CALLS = [
    # Dashboards
    service("active_batches", """SELECT b.*, ROUND((b.processed_rows::NUMERIC / b.total_rows) * 100, 2) as progress_pct
        FROM csv_batches b WHERE status IN ('processing', 'queued') ORDER BY created_at DESC"""),
    service("worker_health", """SELECT instance_id, status, last_heartbeat, current_job_count, total_jobs_processed
        FROM csv_processing_workers WHERE last_heartbeat > NOW() - INTERVAL '5 minutes'
        ORDER BY last_heartbeat DESC"""),
    service("failed_jobs_by_batch", """SELECT b.filename, COUNT(*) as failed_count
        FROM csv_batches b JOIN csv_row_jobs rj ON b.id = rj.batch_id WHERE rj.status = 'failed'
        GROUP BY b.id, b.filename ORDER BY failed_count DESC"""),
    service("get_csv_batch_progress", f"SELECT * FROM get_csv_batch_progress({BATCH})"),
    service("logs_of_batch",
        f"SELECT * FROM csv_processing_logs WHERE batch_id = {OLD_BATCH} ORDER BY created_at DESC LIMIT 50"),
    service("logs_errors_newest", """SELECT * FROM csv_processing_logs WHERE log_level IN ('ERROR', 'FATAL')
        ORDER BY created_at DESC LIMIT 50"""),
    # Users, through the policies
    user("user_batches", "SELECT * FROM csv_batches ORDER BY created_at DESC LIMIT 20"),
    user("user_batch_progress", f"SELECT * FROM get_csv_batch_progress({BATCH})"),
    user("user_rows_of_batch", f"SELECT * FROM csv_row_jobs WHERE batch_id = {BATCH} ORDER BY row_number"),
    user("user_logs_of_batch",
        f"SELECT * FROM csv_processing_logs WHERE batch_id = {BATCH} ORDER BY created_at DESC LIMIT 50"),
    # Workers
    service("claim_next_csv_row_job", "SELECT * FROM claim_next_csv_row_job('worker-1')"),
    service("claim_of_batch", f"SELECT * FROM claim_next_csv_row_job('worker-1', {NEW})",
        before=NEW_BATCH + NEW_ROWS % 100),
    service("claim_of_dedicated_worker", "SELECT * FROM claim_next_csv_row_job('worker-41')",
        before=NEW_BATCH + NEW_ROWS % 100 + DEDICATE),
    service("claim_with_expired", "SELECT * FROM claim_next_csv_row_job('worker-1')", before=EXPIRE),
    service("update_result_processing", f"SELECT update_csv_row_job_result({HELD}, 'processing')"),
    service("update_result_completed", f"SELECT update_csv_row_job_result({HELD}, {RESULT})"),
    service("update_csv_worker_heartbeat", "SELECT update_csv_worker_heartbeat('worker-1', 'processing', 1)"),
    service("cleanup_stale_csv_workers", "SELECT cleanup_stale_csv_workers()"),
    service("cleanup_of_stale_worker", "SELECT cleanup_stale_csv_workers()", before=SILENCE),
    service("insert_batch_of_100", NEW_ROWS % 100, before=NEW_BATCH),
    service("rows_5000_in_one_update",
        f"UPDATE csv_row_jobs SET status = 'completed', completed_at = now() WHERE batch_id = {NEW}",
        "<1000", NEW_BATCH + NEW_ROWS % 5000 + CLAIM_ALL),
    service("delete_batch", f"DELETE FROM csv_batches WHERE id = {OLD_BATCH}"),
]

SUPPLY = """WITH made AS (
    INSERT INTO csv_batches (user_id, filename, original_filename, total_rows, status)
    SELECT md5('user' || n)::uuid, 'supply.csv', 'supply.csv', 100, 'queued' FROM generate_series(1, 20) n RETURNING id)
INSERT INTO csv_row_jobs (batch_id, row_number, row_data)
SELECT id, n, '{"country": "Germany", "mpn": "12"}' FROM made, generate_series(1, 100) n;"""
CLAIM = """SELECT job_id AS job FROM claim_next_csv_row_job('bench-' || :client_id::int) \\gset
SELECT update_csv_row_job_result(:job::uuid, 'completed', 'Germany 12');
"""
CHURN_ROLE = "service_role"
CHURN_SUPPLY = SUPPLY * 5
CHURN = """SELECT job_id AS job FROM claim_next_csv_row_job('bench-' || :client_id::int) \\gset
SELECT update_csv_row_job_result(:job::uuid, 'processing');
SELECT update_csv_row_job_result(:job::uuid, 'completed', 'Germany 12');
SELECT update_csv_worker_heartbeat('bench-' || :client_id::int, 'processing', 1);
"""

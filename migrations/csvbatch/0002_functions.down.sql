DROP FUNCTION cleanup_stale_csv_workers(integer);
DROP FUNCTION get_csv_batch_progress(uuid);
DROP FUNCTION update_csv_worker_heartbeat(text, text, integer, integer, integer, numeric, uuid, uuid, integer);
DROP FUNCTION update_csv_row_job_result(uuid, text, text, jsonb, jsonb, jsonb, numeric, text);
DROP FUNCTION claim_next_csv_row_job(text, uuid, integer);
DROP FUNCTION release_csv_row_jobs(uuid[], text);
DROP FUNCTION build_csv_trigger_text(jsonb);

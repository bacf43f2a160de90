-- A batch that is done has dealt with each of its items, and knows of no more posters than it has items.
SELECT b.job_id, b.status, b.processed_items, b.total_items
FROM %schema%.batch_jobs b
WHERE b.processed_items > b.total_items
    OR b.success_count + b.failure_count > b.total_items
    OR (SELECT count(*) FROM %schema%.generated_posters p WHERE p.job_id = b.job_id) > b.total_items;

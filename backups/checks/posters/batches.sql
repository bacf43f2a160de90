-- A batch is there once, and nothing was counted below zero. How many posters there are says nothing: the application
-- counts items that never became a poster, total_items is 0 while they still come, and a batch that was run twice has more.
SELECT 'twice', b.job_id, NULL::integer, NULL::integer, NULL::integer, NULL::integer
FROM %schema%.batch_jobs b GROUP BY b.job_id HAVING count(*) > 1
UNION ALL
SELECT 'counters', b.job_id, b.total_items, b.processed_items, b.success_count, b.failure_count
FROM %schema%.batch_jobs b
WHERE least(b.total_items, b.processed_items, b.success_count, b.failure_count) < 0;

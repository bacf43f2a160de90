-- Every poster, log and failure belongs to a batch that is there.
SELECT 'poster', p.id::text FROM %schema%.generated_posters p
WHERE NOT EXISTS (SELECT FROM %schema%.batch_jobs b WHERE b.job_id = p.job_id)
UNION ALL
SELECT 'log', l.id::text FROM %schema%.job_logs l
WHERE NOT EXISTS (SELECT FROM %schema%.batch_jobs b WHERE b.job_id = l.job_id);

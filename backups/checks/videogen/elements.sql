-- Every element belongs to a job, and a job that is complete says when it was.
SELECT 'element', e.id::text FROM %schema%.elements e
WHERE NOT EXISTS (SELECT FROM %schema%.jobs j WHERE j.id = e.job_id)
UNION ALL
SELECT 'job', j.id::text FROM %schema%.jobs j WHERE j.status::text = 'completed' AND j.completed_at IS NULL;

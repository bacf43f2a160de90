-- What belongs to a job belongs to one that is there. Times and counters are not checked: jobs may be loaded as they were
-- elsewhere.
SELECT 'element', e.id::text FROM %schema%.elements e
WHERE NOT EXISTS (SELECT FROM %schema%.jobs j WHERE j.id = e.job_id)
UNION ALL
SELECT 'step', t.id::text FROM %schema%.processing_timeline t
WHERE NOT EXISTS (SELECT FROM %schema%.jobs j WHERE j.id = t.job_id)
UNION ALL
SELECT 'storage operation', o.id::text FROM %schema%.storage_operations o
WHERE o.job_id IS NOT NULL AND NOT EXISTS (SELECT FROM %schema%.jobs j WHERE j.id = o.job_id)
UNION ALL
SELECT 'access', l.id::text FROM %schema%.url_access_logs l
WHERE l.job_id IS NOT NULL AND NOT EXISTS (SELECT FROM %schema%.jobs j WHERE j.id = l.job_id);

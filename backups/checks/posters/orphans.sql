-- A failure that names a poster has one. Posters and logs may be of a job_id without a batch: the application also logs
-- what it does itself, and a batch can be deleted before them.
SELECT 'failure', f.id::text, f.poster_id::text FROM %schema%.poster_failure_details f
WHERE f.poster_id IS NOT NULL AND NOT EXISTS (SELECT FROM %schema%.generated_posters p WHERE p.id = f.poster_id);

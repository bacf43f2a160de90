-- No post is kept twice, by its id at Reddit, its content or its place in Ghost, and what was spent, stored and logged
-- for a post belongs to one that is there.
SELECT 'twice', p.reddit_post_id FROM %schema%.posts p GROUP BY p.reddit_post_id HAVING count(*) > 1
UNION ALL
SELECT 'content', p.content_hash FROM %schema%.posts p
WHERE p.content_hash IS NOT NULL GROUP BY p.content_hash HAVING count(*) > 1
UNION ALL
SELECT 'ghost', p.ghost_post_id FROM %schema%.posts p
WHERE p.ghost_post_id IS NOT NULL GROUP BY p.ghost_post_id HAVING count(*) > 1
UNION ALL
SELECT 'tokens', t.id::text FROM %schema%.token_usage t
WHERE t.post_id IS NOT NULL AND NOT EXISTS (SELECT FROM %schema%.posts p WHERE p.id = t.post_id)
UNION ALL
SELECT 'media', m.id::text FROM %schema%.media_files m
WHERE m.post_id IS NOT NULL AND NOT EXISTS (SELECT FROM %schema%.posts p WHERE p.id = m.post_id)
UNION ALL
SELECT 'logs', l.id::text FROM %schema%.processing_logs l
WHERE l.post_id IS NOT NULL AND NOT EXISTS (SELECT FROM %schema%.posts p WHERE p.id = l.post_id);

-- No post of Reddit is kept twice, and what was spent and stored belongs to a post.
SELECT 'twice', p.reddit_post_id FROM %schema%.posts p GROUP BY p.reddit_post_id HAVING count(*) > 1
UNION ALL
SELECT 'tokens', t.id::text FROM %schema%.token_usage t
WHERE t.post_id IS NOT NULL AND NOT EXISTS (SELECT FROM %schema%.posts p WHERE p.id = t.post_id)
UNION ALL
SELECT 'media', m.id::text FROM %schema%.media_files m
WHERE m.post_id IS NOT NULL AND NOT EXISTS (SELECT FROM %schema%.posts p WHERE p.id = m.post_id);

-- Every session has its user, every asset and cost its session.
SELECT 'session', s.id::text FROM %schema%.sessions s
WHERE s.user_id IS NOT NULL AND NOT EXISTS (SELECT FROM %schema%.users u WHERE u.id = s.user_id)
UNION ALL
SELECT 'asset', a.id::text FROM %schema%.assets a
WHERE NOT EXISTS (SELECT FROM %schema%.sessions s WHERE s.id = a.session_id)
UNION ALL
SELECT 'cost', c.id::text FROM %schema%.generation_costs c
WHERE NOT EXISTS (SELECT FROM %schema%.sessions s WHERE s.id = c.session_id);

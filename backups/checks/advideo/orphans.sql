-- Every session has its user; every asset, cost and connection its session; every source image and every asset of a
-- cost is there. Totals are not checked: they keep the costs of months that were dropped.
SELECT 'session', s.id::text FROM %schema%.sessions s
WHERE NOT EXISTS (SELECT FROM %schema%.users u WHERE u.id = s.user_id)
UNION ALL
SELECT 'asset', a.id::text FROM %schema%.assets a
WHERE NOT EXISTS (SELECT FROM %schema%.sessions s WHERE s.id = a.session_id)
UNION ALL
SELECT 'source image', a.id::text FROM %schema%.assets a
WHERE a.source_image_id IS NOT NULL AND NOT EXISTS (SELECT FROM %schema%.assets i WHERE i.id = a.source_image_id)
UNION ALL
SELECT 'cost', c.id::text FROM %schema%.generation_costs c
WHERE NOT EXISTS (SELECT FROM %schema%.sessions s WHERE s.id = c.session_id)
UNION ALL
SELECT 'asset of cost', c.id::text FROM %schema%.generation_costs c
WHERE c.asset_id IS NOT NULL AND NOT EXISTS (SELECT FROM %schema%.assets a WHERE a.id = c.asset_id)
UNION ALL
SELECT 'connection', w.id::text FROM %schema%.websocket_connections w
WHERE NOT EXISTS (SELECT FROM %schema%.sessions s WHERE s.id = w.session_id);

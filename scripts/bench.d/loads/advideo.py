"""advideo: a row is a cost. A session has five of them and five assets."""
from . import Call, key

# The newest four hundred sessions are open.
NUMBERED = """(SELECT s, now() - interval '365 days' * (s::float8 * 5 / :rows) AS made, CASE
        WHEN s <= 400 THEN 'generating_images' WHEN s % 50 = 0 THEN 'failed' ELSE 'completed' END AS status
    FROM generate_series(:rows / 5, 1, -1) s) t"""

FILL = f"""
INSERT INTO users (email, password_hash, full_name)
SELECT 'user' || u || '@example.com', '$2b$12$' || md5('user' || u), 'User ' || u FROM generate_series(1, 1000) u;
INSERT INTO sessions (
    id, user_id, status, current_stage, progress_percentage, product_category, user_product_prompt, user_video_prompt,
    consistency_seed, style_keywords, total_cost, created_at, updated_at, completed_at, metadata)
SELECT md5('session' || s)::uuid, 1 + s % 1000, status::session_status, 'image_gen',
    CASE status WHEN 'completed' THEN 100 ELSE 40 END, 'footwear', 'pink tennis shoes ' || s, 'a walk along the beach',
    s % 1000000, ARRAY['bright', 'summer', 'style' || s % 50], 0.6, made, made + interval '9 minutes',
    CASE WHEN status = 'completed' THEN made + interval '9 minutes' END, jsonb_build_object('campaign', s % 300)
FROM {NUMBERED};
INSERT INTO assets (
    id, session_id, type, source, status, url, file_size_bytes, mime_type, resolution, generation_cost, view_type, seed,
    user_selected, selection_order, created_at, updated_at, metadata)
SELECT md5('asset' || s || '/' || a)::uuid, md5('session' || s)::uuid,
    (ARRAY['image', 'image', 'image', 'video_clip', 'final_video'])[a]::asset_type,
    (ARRAY['flux-pro', 'flux-pro', 'sdxl', 'stable-video-diffusion', 'ffmpeg'])[a]::asset_source,
    CASE WHEN a = 1 THEN 'approved' ELSE 'completed' END::asset_status,
    'https://assets.example.com/' || s || '/' || a, 900000, 'image/png', '1024x1024', 0.05, 'front', s % 1000000,
    a = 1, CASE WHEN a = 1 THEN 1 END, made + a * interval '1 minute', made + a * interval '1 minute',
    jsonb_build_object('model', a)
FROM {NUMBERED}, generate_series(1, 5) a;
INSERT INTO generation_costs (
    session_id, asset_id, category, amount, provider, model_name, api_call_id, tokens_used, api_latency_ms, success,
    created_at)
SELECT md5('session' || s)::uuid, md5('asset' || s || '/' || a)::uuid,
    (ARRAY['llm', 'image_generation', 'image_generation', 'video_generation', 'composition'])[a]::cost_category,
    0.04 * a, CASE WHEN a = 1 THEN 'openai' ELSE 'replicate' END, 'model-' || a, md5('call' || s || '/' || a),
    CASE WHEN a = 1 THEN 900 END, 400 + s % 3000, s % 50 <> 0, made + a * interval '1 minute'
FROM {NUMBERED}, generate_series(1, 5) a;
INSERT INTO websocket_connections (
    session_id, connection_id, client_ip, connected_at, last_heartbeat_at, disconnected_at)
SELECT md5('session' || s)::uuid, 'connection-' || s, '10.0.0.1', made, CASE WHEN s <= 400 THEN now() ELSE made END,
    CASE WHEN s > 400 THEN made + interval '10 minutes' END
FROM {NUMBERED};
"""

SESSION, OPEN_SESSION, ASSET = key("session", 777), key("session", 77), key("asset", "77/2")

CALLS = [
    # Applications
    Call("session_with_assets", f"""SELECT s.*,
        (SELECT json_agg(a.* ORDER BY a.created_at) FROM assets a
            WHERE a.session_id = s.id AND a.type = 'image') AS images,
        (SELECT json_agg(a.* ORDER BY a.created_at) FROM assets a
            WHERE a.session_id = s.id AND a.type = 'video_clip') AS video_clips,
        (SELECT json_agg(a.*) FROM assets a WHERE a.session_id = s.id AND a.type = 'final_video') AS final_video
        FROM sessions s WHERE s.id = {SESSION}"""),
    Call("mood_board", f"""SELECT a.* FROM assets a
        WHERE a.session_id = {SESSION} AND a.user_selected = TRUE AND a.deleted_at IS NULL
        ORDER BY a.selection_order ASC, a.created_at ASC"""),
    Call("cost_breakdown", f"""SELECT gc.category, gc.provider, COUNT(*) AS api_calls, SUM(gc.amount) AS total_cost,
        AVG(gc.api_latency_ms) AS avg_latency_ms FROM generation_costs gc
        WHERE gc.session_id = {SESSION} GROUP BY gc.category, gc.provider ORDER BY total_cost DESC"""),
    Call("active_sessions_of_user", """SELECT s.*, COUNT(DISTINCT a.id) FILTER (WHERE a.type = 'image') AS image_count,
        COUNT(DISTINCT a.id) FILTER (WHERE a.type = 'video_clip') AS clip_count
        FROM sessions s LEFT JOIN assets a ON a.session_id = s.id
        WHERE s.user_id = 78 AND s.status != 'completed' AND s.deleted_at IS NULL
        GROUP BY s.id ORDER BY s.updated_at DESC"""),
    Call("sessions_newest", "SELECT * FROM sessions ORDER BY created_at DESC LIMIT 50"),
    Call("costs_newest", "SELECT * FROM generation_costs ORDER BY created_at DESC LIMIT 50"),
    Call("costs_of_day", """SELECT category, SUM(amount) FROM generation_costs
        WHERE created_at > now() - interval '1 day' GROUP BY category"""),
    Call("connections_stale", """SELECT * FROM websocket_connections
        WHERE disconnected_at IS NULL AND last_heartbeat_at < now() - interval '1 day'"""),
    # Workers
    Call("insert_session", """INSERT INTO sessions (user_id, status, user_product_prompt, product_category)
        VALUES (1, 'generating_images', 'pink tennis shoes', 'footwear') RETURNING id"""),
    Call("insert_assets", f"""INSERT INTO assets (
        session_id, type, source, status, url, view_type, seed, generation_cost)
        VALUES ({OPEN_SESSION}, 'image', 'flux-pro', 'completed', 'https://...', 'front', 789456, 0.05),
            ({OPEN_SESSION}, 'image', 'flux-pro', 'completed', 'https://...', 'side', 789456, 0.05)"""),
    Call("approve_asset", f"UPDATE assets SET user_selected = TRUE, selection_order = 1 WHERE id = {ASSET}"),
    Call("insert_cost", f"""INSERT INTO generation_costs (session_id, category, amount)
        VALUES ({OPEN_SESSION}, 'llm', 0.01)"""),
    Call("costs_4000_of_a_session", f"""INSERT INTO generation_costs (session_id, category, amount)
        SELECT {OPEN_SESSION}, 'llm', 0.01 FROM generate_series(1, 4000)""", "<1000"),
    Call("costs_4000_of_400_sessions", """INSERT INTO generation_costs (session_id, category, amount)
        SELECT md5('session' || 1 + n % 400)::uuid, 'llm', 0.01 FROM generate_series(1, 4000) n""", "<1000"),
    Call("delete_costs_of_session", f"DELETE FROM generation_costs WHERE session_id = {SESSION}"),
    Call("heartbeat", """UPDATE websocket_connections SET last_heartbeat_at = now()
        WHERE connection_id = 'connection-77'"""),
    Call("delete_session", f"DELETE FROM sessions WHERE id = {SESSION}"),
    Call("delete_user", "DELETE FROM users WHERE id = 500", "report"),
]

CHURN = """\\set n random(1, 400)
INSERT INTO generation_costs (session_id, category, amount)
VALUES (md5('session' || :n::int)::uuid, 'llm', 0.01) RETURNING id AS cost \\gset
UPDATE sessions SET progress_percentage = (progress_percentage + 1) % 100 WHERE id = md5('session' || :n::int)::uuid;
UPDATE generation_costs SET amount = 0.02 WHERE id = :cost::int;
UPDATE websocket_connections SET last_heartbeat_at = now() WHERE connection_id = 'connection-' || :n::int;
DELETE FROM generation_costs WHERE id = :cost::int;
"""

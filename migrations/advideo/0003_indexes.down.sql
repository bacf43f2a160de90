DROP INDEX idx_sessions_user_id_all, idx_assets_session_id_all, idx_websocket_stale, idx_sessions_finished,
    idx_sessions_active, idx_assets_mood_board;

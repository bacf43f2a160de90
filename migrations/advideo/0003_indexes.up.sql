-- What running the system needs beyond its definition. The specified indexes on session and user leave out the
-- soft-deleted rows, which a cascading delete has to find too.
CREATE INDEX idx_sessions_user_id_all ON sessions (user_id, updated_at DESC);
CREATE INDEX idx_assets_session_id_all ON assets (session_id, type, created_at);
CREATE INDEX idx_websocket_stale ON websocket_connections (last_heartbeat_at) WHERE disconnected_at IS NULL;
CREATE INDEX idx_sessions_finished ON sessions (completed_at) WHERE status = 'completed';
-- The sample queries 'active sessions for user' and 'mood board', in their order. The finished sessions of a user, and the
-- rejected images of a session, are not read.
CREATE INDEX idx_sessions_active ON sessions (user_id, updated_at DESC) WHERE status <> 'completed' AND deleted_at IS NULL;
CREATE INDEX idx_assets_mood_board ON assets (session_id, selection_order, created_at)
    WHERE user_selected = TRUE AND deleted_at IS NULL;

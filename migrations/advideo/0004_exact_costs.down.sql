GRANT EXECUTE ON FUNCTION update_updated_at_column(), calculate_session_total_cost() TO PUBLIC;
DROP TRIGGER lock_assets_of_session ON sessions;
DROP TRIGGER lock_sessions_of_user ON users;
DROP TRIGGER keep_session_cost_on_update ON sessions;
DROP TRIGGER keep_session_cost_on_insert ON sessions;
DROP TRIGGER clear_session_costs_on_truncate ON generation_costs;
DROP TRIGGER update_session_cost_on_delete ON generation_costs;
DROP TRIGGER update_session_cost_on_update ON generation_costs;
DROP TRIGGER defer_cost_keys ON generation_costs;
ALTER TABLE generation_costs
    ALTER CONSTRAINT generation_costs_session_id_fkey NOT DEFERRABLE,
    ALTER CONSTRAINT generation_costs_asset_id_fkey NOT DEFERRABLE;
DROP FUNCTION lock_assets_of_session();
DROP FUNCTION lock_sessions_of_user();
DROP FUNCTION defer_cost_keys();
DROP FUNCTION keep_session_cost();
DROP FUNCTION clear_session_costs();

DROP TRIGGER update_session_cost ON generation_costs;
DROP TRIGGER update_assets_updated_at ON assets;
DROP TRIGGER update_sessions_updated_at ON sessions;
DROP TRIGGER update_users_updated_at ON users;
DROP FUNCTION calculate_session_total_cost();
DROP FUNCTION update_updated_at_column();

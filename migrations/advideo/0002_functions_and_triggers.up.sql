CREATE OR REPLACE FUNCTION update_updated_at_column()
RETURNS TRIGGER SET search_path FROM CURRENT AS $$
BEGIN
    NEW.updated_at = NOW();
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;

-- Apply to relevant tables
CREATE TRIGGER update_users_updated_at
    BEFORE UPDATE ON users
    FOR EACH ROW
    EXECUTE FUNCTION update_updated_at_column();

CREATE TRIGGER update_sessions_updated_at
    BEFORE UPDATE ON sessions
    FOR EACH ROW
    EXECUTE FUNCTION update_updated_at_column();

CREATE TRIGGER update_assets_updated_at
    BEFORE UPDATE ON assets
    FOR EACH ROW
    EXECUTE FUNCTION update_updated_at_column();

CREATE OR REPLACE FUNCTION calculate_session_total_cost()
RETURNS TRIGGER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE sessions
    SET total_cost = (
        SELECT COALESCE(SUM(amount), 0)
        FROM generation_costs
        WHERE session_id = NEW.session_id
    )
    WHERE id = NEW.session_id;

    RETURN NEW;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER update_session_cost
    AFTER INSERT OR UPDATE ON generation_costs
    FOR EACH ROW
    EXECUTE FUNCTION calculate_session_total_cost();

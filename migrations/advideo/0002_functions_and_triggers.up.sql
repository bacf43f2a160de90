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

-- Adds what a statement changed to the totals of its sessions. The specification sums all costs of a session again for
-- each row: slow for many rows, and wrong when two transactions add costs of one session at the same time.
--
-- The order of locks: costs, then sessions by id, then what the foreign keys lock. A statement locks all its sessions
-- before it changes the first, so two statements never wait for each other in a circle. The sums are added to what the
-- totals are once the locks are held.
CREATE OR REPLACE FUNCTION calculate_session_total_cost()
RETURNS TRIGGER SET search_path FROM CURRENT AS $$
DECLARE
    ids UUID[];
    changes NUMERIC[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(session_id), array_agg(change) INTO ids, changes FROM (
            SELECT session_id, sum(amount) AS change FROM new_costs GROUP BY session_id) AS c;
    ELSIF TG_OP = 'UPDATE' THEN
        -- Sessions whose costs change in other columns only are left alone.
        SELECT array_agg(session_id), array_agg(change) INTO ids, changes FROM (
            SELECT session_id, sum(amount) AS change FROM (
                SELECT session_id, amount, 1 AS n FROM new_costs UNION ALL SELECT session_id, -amount, -1 FROM old_costs) AS a
            GROUP BY session_id HAVING sum(amount) <> 0 OR sum(n) <> 0) AS c;
    ELSE
        SELECT array_agg(session_id), array_agg(change) INTO ids, changes FROM (
            SELECT session_id, -sum(amount) AS change FROM old_costs GROUP BY session_id) AS c;
    END IF;
    IF ids IS NOT NULL THEN
        IF cardinality(ids) > 1 OR changes[1] = 0 THEN
            PERFORM FROM sessions WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE;
        END IF;
        UPDATE sessions s SET total_cost = coalesce(s.total_cost, 0) + c.change
        FROM unnest(ids, changes) AS c (id, change)
        WHERE s.id = c.id AND c.change <> 0;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        SET CONSTRAINTS generation_costs_session_id_fkey, generation_costs_asset_id_fkey IMMEDIATE;
    END IF;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql;

-- A trigger with transition tables has one event; the other events are in the migration exact_costs.
CREATE TRIGGER update_session_cost
    AFTER INSERT ON generation_costs
    REFERENCING NEW TABLE AS new_costs
    FOR EACH STATEMENT
    EXECUTE FUNCTION calculate_session_total_cost();

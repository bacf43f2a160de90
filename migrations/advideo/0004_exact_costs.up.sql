-- Makes a session's total right in every case, beside the specified trigger, which stays as it is.
--
-- Two transactions that insert costs of one session at the same time each sum what they see, and the later UPDATE
-- loses the other's amount. Locking the session's row before the change makes the second wait; its sum then sees the
-- first's row, for each statement of a trigger function has a snapshot of its own under READ COMMITTED.
CREATE FUNCTION lock_session_of_cost() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- In one order for all, so that a move from a to b and one from b to a do not wait for each other.
    PERFORM FROM sessions
    WHERE id IN (
        CASE WHEN TG_OP <> 'INSERT' THEN OLD.session_id END, CASE WHEN TG_OP <> 'DELETE' THEN NEW.session_id END)
    ORDER BY id FOR NO KEY UPDATE;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;

CREATE TRIGGER lock_session_cost BEFORE INSERT OR UPDATE OR DELETE ON generation_costs
    FOR EACH ROW EXECUTE FUNCTION lock_session_of_cost();

-- The session that a cost leaves, by a delete or a move.
CREATE FUNCTION recalculate_left_session_cost() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE sessions
    SET total_cost = (SELECT COALESCE(SUM(amount), 0) FROM generation_costs WHERE session_id = OLD.session_id)
    WHERE id = OLD.session_id;
    RETURN NULL;
END $$;

CREATE TRIGGER update_session_cost_on_delete AFTER DELETE ON generation_costs
    FOR EACH ROW EXECUTE FUNCTION recalculate_left_session_cost();
CREATE TRIGGER update_session_cost_on_move AFTER UPDATE OF session_id ON generation_costs
    FOR EACH ROW WHEN (OLD.session_id IS DISTINCT FROM NEW.session_id)
    EXECUTE FUNCTION recalculate_left_session_cost();

CREATE FUNCTION clear_session_costs() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE sessions SET total_cost = 0 WHERE total_cost IS DISTINCT FROM 0;
    RETURN NULL;
END $$;

CREATE TRIGGER clear_session_costs_on_truncate AFTER TRUNCATE ON generation_costs
    FOR EACH STATEMENT EXECUTE FUNCTION clear_session_costs();

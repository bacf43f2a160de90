-- Makes a session's total right in every case: changes, moves, deletes and TRUNCATE of costs, and writes to the total.

-- A foreign key locks the session of a row as soon as the row is there (FOR KEY SHARE). Two statements that hold such a
-- lock, and then want to write the total, wait in a circle with a third that deletes the session and stands in the queue
-- between them. So the keys are checked at the end of the statement, after calculate_session_total_cost has locked
-- the sessions; what they refuse is refused as before.
ALTER TABLE generation_costs
    ALTER CONSTRAINT generation_costs_session_id_fkey DEFERRABLE,
    ALTER CONSTRAINT generation_costs_asset_id_fkey DEFERRABLE;

CREATE FUNCTION defer_cost_keys() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    SET CONSTRAINTS generation_costs_session_id_fkey, generation_costs_asset_id_fkey DEFERRED;
    RETURN NULL;
END $$;

CREATE TRIGGER defer_cost_keys BEFORE INSERT OR UPDATE ON generation_costs
    FOR EACH STATEMENT EXECUTE FUNCTION defer_cost_keys();

CREATE TRIGGER update_session_cost_on_update
    AFTER UPDATE ON generation_costs
    REFERENCING OLD TABLE AS old_costs NEW TABLE AS new_costs
    FOR EACH STATEMENT
    EXECUTE FUNCTION calculate_session_total_cost();

CREATE TRIGGER update_session_cost_on_delete
    AFTER DELETE ON generation_costs
    REFERENCING OLD TABLE AS old_costs
    FOR EACH STATEMENT
    EXECUTE FUNCTION calculate_session_total_cost();

CREATE FUNCTION clear_session_costs() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- An old snapshot does not show the totals that TRUNCATE makes wrong.
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'TRUNCATE of % in a transaction of the isolation level %', TG_TABLE_NAME,
            upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state', HINT = 'use READ COMMITTED';
    END IF;
    PERFORM FROM sessions WHERE total_cost IS DISTINCT FROM 0 ORDER BY id FOR NO KEY UPDATE;
    UPDATE sessions SET total_cost = 0 WHERE total_cost IS DISTINCT FROM 0;
    RETURN NULL;
END $$;

CREATE TRIGGER clear_session_costs_on_truncate AFTER TRUNCATE ON generation_costs
    FOR EACH STATEMENT EXECUTE FUNCTION clear_session_costs();

-- The total belongs to the triggers above. A new session has none, also when it is loaded from a dump before its costs;
-- an object mapper that writes back the total that it once read changes nothing. Writing NULL sums the costs again, for
-- instance after rows were loaded with triggers off: UPDATE sessions SET total_cost = NULL WHERE id = …
CREATE FUNCTION keep_session_cost() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.total_cost IS NOT NULL THEN
        NEW.total_cost := OLD.total_cost;
    ELSE
        -- The row is locked, or not there for others, so no total changes meanwhile; a cost that is not yet committed
        -- is added by its own statement, which waits for the lock.
        NEW.total_cost := (SELECT coalesce(sum(amount), 0) FROM generation_costs WHERE session_id = NEW.id);
    END IF;
    RETURN NEW;
END $$;

-- At depth 0, a statement writes the total; deeper, a trigger of the costs does.
CREATE TRIGGER keep_session_cost_on_insert BEFORE INSERT ON sessions
    FOR EACH ROW WHEN (NEW.total_cost IS DISTINCT FROM 0)
    EXECUTE FUNCTION keep_session_cost();
CREATE TRIGGER keep_session_cost_on_update BEFORE UPDATE OF total_cost ON sessions
    FOR EACH ROW WHEN (pg_trigger_depth() = 0 AND NEW.total_cost IS DISTINCT FROM OLD.total_cost)
    EXECUTE FUNCTION keep_session_cost();

-- The sessions that go with a user are locked in the order in which the totals lock them.
CREATE FUNCTION lock_sessions_of_user() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM sessions WHERE user_id = OLD.id ORDER BY id FOR UPDATE;
    RETURN OLD;
END $$;

CREATE TRIGGER lock_sessions_of_user BEFORE DELETE ON users
    FOR EACH ROW EXECUTE FUNCTION lock_sessions_of_user();

-- The assets that go with a session are locked before its costs, as the deletion of an asset does. The triggers of the
-- foreign keys alone would take them in the order of their names, which hold object identifiers.
CREATE FUNCTION lock_assets_of_session() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM assets WHERE session_id = OLD.id ORDER BY id FOR UPDATE;
    RETURN OLD;
END $$;

CREATE TRIGGER lock_assets_of_session BEFORE DELETE ON sessions
    FOR EACH ROW EXECUTE FUNCTION lock_assets_of_session();

-- Triggers call these functions without asking for a right.
REVOKE EXECUTE ON FUNCTION update_updated_at_column(), calculate_session_total_cost(), clear_session_costs(),
    keep_session_cost(), defer_cost_keys(), lock_sessions_of_user(),
    lock_assets_of_session() FROM PUBLIC;

LOCK TABLE generation_costs IN ACCESS EXCLUSIVE MODE;

SELECT require_replaceable_costs();
DROP FUNCTION ensure_generation_cost_partitions(timestamptz, integer);
DROP FUNCTION require_argument(boolean, text, text, text);
ALTER TABLE generation_costs RENAME TO generation_costs_before;
ALTER TABLE generation_costs_before RENAME CONSTRAINT generation_costs_pkey TO generation_costs_before_pkey;
DROP INDEX idx_generation_costs_session_id, idx_generation_costs_asset_id, idx_generation_costs_category,
    idx_generation_costs_created_at, idx_generation_costs_provider;
ALTER SEQUENCE generation_costs_id_seq OWNED BY NONE;

CREATE TABLE generation_costs (
    LIKE generation_costs_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS,
    CONSTRAINT generation_costs_pkey PRIMARY KEY (id),
    CONSTRAINT generation_costs_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE DEFERRABLE,
    CONSTRAINT generation_costs_asset_id_fkey FOREIGN KEY (asset_id) REFERENCES assets(id) ON DELETE SET NULL DEFERRABLE
);
ALTER TABLE generation_costs ALTER COLUMN created_at DROP NOT NULL;
ALTER SEQUENCE generation_costs_id_seq OWNED BY generation_costs.id;

INSERT INTO generation_costs SELECT * FROM generation_costs_before;
SELECT copy_cost_properties();
DROP TABLE generation_costs_before;
DROP FUNCTION require_replaceable_costs();
DROP FUNCTION copy_cost_properties();

CREATE INDEX idx_generation_costs_session_id ON generation_costs(session_id);
CREATE INDEX idx_generation_costs_asset_id ON generation_costs(asset_id);
CREATE INDEX idx_generation_costs_category ON generation_costs(category);
CREATE INDEX idx_generation_costs_created_at ON generation_costs(created_at DESC);
CREATE INDEX idx_generation_costs_provider ON generation_costs(provider);

CREATE TRIGGER update_session_cost
    AFTER INSERT ON generation_costs
    REFERENCING NEW TABLE AS new_costs
    FOR EACH STATEMENT
    EXECUTE FUNCTION calculate_session_total_cost();
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
CREATE TRIGGER clear_session_costs_on_truncate AFTER TRUNCATE ON generation_costs
    FOR EACH STATEMENT EXECUTE FUNCTION clear_session_costs();
CREATE TRIGGER defer_cost_keys BEFORE INSERT OR UPDATE ON generation_costs
    FOR EACH STATEMENT EXECUTE FUNCTION defer_cost_keys();

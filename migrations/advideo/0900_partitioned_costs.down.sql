LOCK TABLE generation_costs IN ACCESS EXCLUSIVE MODE;

DROP FUNCTION ensure_generation_cost_partitions(timestamptz, integer);
ALTER TABLE generation_costs RENAME TO generation_costs_before;
ALTER TABLE generation_costs_before RENAME CONSTRAINT generation_costs_pkey TO generation_costs_before_pkey;
ALTER TABLE generation_costs_before RENAME CONSTRAINT generation_costs_session_id_fkey TO generation_costs_before_session_id_fkey;
ALTER TABLE generation_costs_before RENAME CONSTRAINT generation_costs_asset_id_fkey TO generation_costs_before_asset_id_fkey;
DROP INDEX idx_generation_costs_session_id, idx_generation_costs_asset_id, idx_generation_costs_category,
    idx_generation_costs_created_at, idx_generation_costs_provider;
ALTER SEQUENCE generation_costs_id_seq OWNED BY NONE;

CREATE TABLE generation_costs (
    id INTEGER NOT NULL DEFAULT nextval('generation_costs_id_seq') PRIMARY KEY,
    session_id UUID NOT NULL CONSTRAINT generation_costs_session_id_fkey REFERENCES sessions(id) ON DELETE CASCADE,
    asset_id UUID CONSTRAINT generation_costs_asset_id_fkey REFERENCES assets(id) ON DELETE SET NULL,
    category cost_category NOT NULL,
    amount DECIMAL(10, 4) NOT NULL,
    currency VARCHAR(3) DEFAULT 'USD',
    provider VARCHAR(50),
    model_name VARCHAR(100),
    api_call_id VARCHAR(255),
    tokens_used INTEGER,
    seconds_processed DECIMAL(8, 2),
    api_latency_ms INTEGER,
    success BOOLEAN DEFAULT TRUE,
    error_message TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    metadata JSONB DEFAULT '{}'::jsonb
);
ALTER SEQUENCE generation_costs_id_seq OWNED BY generation_costs.id;

INSERT INTO generation_costs SELECT * FROM generation_costs_before;
DROP TABLE generation_costs_before;

CREATE INDEX idx_generation_costs_session_id ON generation_costs(session_id);
CREATE INDEX idx_generation_costs_asset_id ON generation_costs(asset_id);
CREATE INDEX idx_generation_costs_category ON generation_costs(category);
CREATE INDEX idx_generation_costs_created_at ON generation_costs(created_at DESC);
CREATE INDEX idx_generation_costs_provider ON generation_costs(provider);

CREATE TRIGGER update_session_cost
    AFTER INSERT OR UPDATE ON generation_costs
    FOR EACH ROW
    EXECUTE FUNCTION calculate_session_total_cost();
CREATE TRIGGER lock_session_cost BEFORE INSERT OR UPDATE OR DELETE ON generation_costs
    FOR EACH ROW EXECUTE FUNCTION lock_session_of_cost();
CREATE TRIGGER update_session_cost_on_delete AFTER DELETE ON generation_costs
    FOR EACH ROW EXECUTE FUNCTION recalculate_left_session_cost();
CREATE TRIGGER update_session_cost_on_move AFTER UPDATE OF session_id ON generation_costs
    FOR EACH ROW WHEN (OLD.session_id IS DISTINCT FROM NEW.session_id)
    EXECUTE FUNCTION recalculate_left_session_cost();
CREATE TRIGGER clear_session_costs_on_truncate AFTER TRUNCATE ON generation_costs
    FOR EACH STATEMENT EXECUTE FUNCTION clear_session_costs();

-- reeve: opt-in partitioned-costs
--
-- Keeps generation_costs in monthly partitions by created_at, as the specification recommends for growth. The key
-- becomes (id, created_at), since a partitioned table's key holds its partition column. The table is copied, and
-- nobody can write to it meanwhile.
LOCK TABLE generation_costs IN ACCESS EXCLUSIVE MODE;

ALTER TABLE generation_costs RENAME TO generation_costs_before;
ALTER TABLE generation_costs_before RENAME CONSTRAINT generation_costs_pkey TO generation_costs_before_pkey;
ALTER TABLE generation_costs_before RENAME CONSTRAINT generation_costs_session_id_fkey TO generation_costs_before_session_id_fkey;
ALTER TABLE generation_costs_before RENAME CONSTRAINT generation_costs_asset_id_fkey TO generation_costs_before_asset_id_fkey;
DROP INDEX idx_generation_costs_session_id, idx_generation_costs_asset_id, idx_generation_costs_category,
    idx_generation_costs_created_at, idx_generation_costs_provider;
ALTER SEQUENCE generation_costs_id_seq OWNED BY NONE;

CREATE TABLE generation_costs (
    id INTEGER NOT NULL DEFAULT nextval('generation_costs_id_seq'),
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
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    metadata JSONB DEFAULT '{}'::jsonb,
    CONSTRAINT generation_costs_pkey PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
ALTER SEQUENCE generation_costs_id_seq OWNED BY generation_costs.id;

CREATE INDEX idx_generation_costs_session_id ON generation_costs(session_id);
CREATE INDEX idx_generation_costs_asset_id ON generation_costs(asset_id);
CREATE INDEX idx_generation_costs_category ON generation_costs(category);
CREATE INDEX idx_generation_costs_created_at ON generation_costs(created_at DESC);
CREATE INDEX idx_generation_costs_provider ON generation_costs(provider);

-- What no month holds; rows in it are moved when their month is made.
CREATE TABLE generation_costs_default PARTITION OF generation_costs DEFAULT;

-- Makes the partitions from the month of `first` to `months_ahead` months from now that are not there yet.
CREATE FUNCTION ensure_generation_cost_partitions(first timestamptz DEFAULT now(), months_ahead integer DEFAULT 3)
RETURNS integer LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone TO 'UTC' AS $$
DECLARE
    month timestamptz := date_trunc('month', first);
    made integer := 0;
    partition text;
BEGIN
    WHILE month <= date_trunc('month', now()) + make_interval(months => months_ahead) LOOP
        partition := 'generation_costs_' || to_char(month, 'YYYY_MM');
        IF to_regclass(partition) IS NULL THEN
            EXECUTE format('CREATE TABLE %I (LIKE generation_costs INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition);
            EXECUTE format(
                'WITH moved AS (DELETE FROM ONLY generation_costs_default WHERE created_at >= %L AND created_at < %L RETURNING *) '
                'INSERT INTO %I SELECT * FROM moved', month, month + interval '1 month', partition);
            EXECUTE format(
                'ALTER TABLE generation_costs ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                partition, month, month + interval '1 month');
            -- The triggers saw the rows leave and not come back.
            EXECUTE format(
                'UPDATE sessions s SET total_cost = (
                    SELECT COALESCE(SUM(c.amount), 0) FROM generation_costs c WHERE c.session_id = s.id)
                 WHERE s.id IN (SELECT session_id FROM %I)', partition);
            made := made + 1;
        END IF;
        month := month + interval '1 month';
    END LOOP;
    RETURN made;
END $$;

SELECT ensure_generation_cost_partitions(coalesce((SELECT min(created_at) FROM generation_costs_before), now()));

INSERT INTO generation_costs
SELECT id, session_id, asset_id, category, amount, currency, provider, model_name, api_call_id, tokens_used,
       seconds_processed, api_latency_ms, success, error_message, coalesce(created_at, now()), metadata
FROM generation_costs_before;

DROP TABLE generation_costs_before;

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

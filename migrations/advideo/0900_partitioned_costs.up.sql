-- reeve: opt-in partitioned-costs
--
-- Keeps generation_costs in monthly partitions by created_at, as the specification recommends for growth. The key
-- becomes (id, created_at), since a partitioned table's key holds its partition column. The table is copied, and
-- nobody can write to it meanwhile.
--
-- Totals follow the statements that name generation_costs. Statements that name a partition leave them as they are:
-- dropping, detaching or truncating an old month keeps what its sessions cost.
LOCK TABLE generation_costs IN ACCESS EXCLUSIVE MODE;

-- Refuses to replace the table if it has something that would be lost with it. The downward migration asks too.
CREATE FUNCTION require_replaceable_costs() RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    costs CONSTANT regclass := 'generation_costs';
    additions text;
BEGIN
    SELECT string_agg(what, ', ' ORDER BY what) INTO additions FROM (
        SELECT format('column %I', attname) AS what FROM pg_catalog.pg_attribute
        WHERE attrelid = costs AND attnum > 0 AND NOT attisdropped AND attname NOT IN (
            'id', 'session_id', 'asset_id', 'category', 'amount', 'currency', 'provider', 'model_name', 'api_call_id',
            'tokens_used', 'seconds_processed', 'api_latency_ms', 'success', 'error_message', 'created_at', 'metadata')
        UNION ALL
        SELECT format('constraint %I', conname) FROM pg_catalog.pg_constraint
        WHERE conrelid = costs AND contype NOT IN ('c', 'n') AND conname NOT IN (
            'generation_costs_pkey', 'generation_costs_session_id_fkey', 'generation_costs_asset_id_fkey')
        UNION ALL
        SELECT format('index %I', c.relname) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = costs AND c.relname NOT IN (
            'generation_costs_pkey', 'idx_generation_costs_session_id', 'idx_generation_costs_asset_id',
            'idx_generation_costs_category', 'idx_generation_costs_created_at', 'idx_generation_costs_provider')
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid)
        UNION ALL
        SELECT format('trigger %I', tgname) FROM pg_catalog.pg_trigger
        WHERE tgrelid = costs AND NOT tgisinternal AND tgname NOT IN (
            'update_session_cost', 'update_session_cost_on_update', 'update_session_cost_on_delete',
            'clear_session_costs_on_truncate', 'defer_cost_keys')
        UNION ALL
        SELECT format('state of the trigger %I', tgname) FROM pg_catalog.pg_trigger
        WHERE tgrelid = costs AND NOT tgisinternal AND tgenabled <> 'O'
        UNION ALL
        SELECT 'replica identity' FROM pg_catalog.pg_class WHERE oid = costs AND relreplident <> 'd'
        UNION ALL
        SELECT 'storage parameters' FROM pg_catalog.pg_class WHERE oid = costs AND reloptions IS NOT NULL
        UNION ALL
        SELECT format('statistics target of the column %I', attname) FROM pg_catalog.pg_attribute
        WHERE attrelid = costs AND attnum > 0 AND NOT attisdropped
          AND (coalesce(attstattarget, -1) <> -1 OR attoptions IS NOT NULL)
        UNION ALL
        SELECT format('rule %I', rulename) FROM pg_catalog.pg_rewrite WHERE ev_class = costs
        UNION ALL
        SELECT format('statistics %I', stxname) FROM pg_catalog.pg_statistic_ext WHERE stxrelid = costs
        UNION ALL
        SELECT format('policy %I', polname) FROM pg_catalog.pg_policy WHERE polrelid = costs
        UNION ALL
        SELECT 'row-level security' FROM pg_catalog.pg_class
        WHERE oid = costs AND (relrowsecurity OR relforcerowsecurity)
        UNION ALL
        SELECT format('publication %I', p.pubname)
        FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
        WHERE r.prrelid = costs) a;
    IF additions IS NOT NULL THEN
        RAISE EXCEPTION 'generation_costs has what would be lost: %', additions USING
            ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'drop or reset it, and add it again to the new table';
    END IF;
END $$;

-- Gives the new table the comments and the privileges of the one before, and no others. The downward migration does so
-- too.
CREATE FUNCTION copy_cost_properties() RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    before CONSTANT regclass := 'generation_costs_before';
    costs CONSTANT regclass := 'generation_costs';
    statement text;
BEGIN
    FOR statement IN
        SELECT format('COMMENT ON TABLE generation_costs IS %L', obj_description(before, 'pg_class'))
        WHERE obj_description(before, 'pg_class') IS NOT NULL
        UNION ALL
        -- What default privileges gave.
        SELECT DISTINCT format('REVOKE ALL ON generation_costs FROM %s', CASE grantee
            WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END)
        FROM pg_catalog.pg_class c, aclexplode(c.relacl) WHERE c.oid = costs AND grantee <> c.relowner
    LOOP
        EXECUTE statement;
    END LOOP;
    FOR statement IN
        SELECT format('GRANT %s ON generation_costs TO %s%s', a.privilege_type,
            CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
            CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
        FROM pg_catalog.pg_class c, aclexplode(c.relacl) a WHERE c.oid = before AND a.grantee <> c.relowner
        UNION ALL
        SELECT format('GRANT %s (%I) ON generation_costs TO %s%s', a.privilege_type, t.attname,
            CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
            CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
        FROM pg_catalog.pg_attribute t, aclexplode(t.attacl) a WHERE t.attrelid = before AND NOT t.attisdropped
    LOOP
        EXECUTE statement;
    END LOOP;
END $$;

REVOKE EXECUTE ON FUNCTION require_replaceable_costs(), copy_cost_properties() FROM PUBLIC;

SELECT require_replaceable_costs();

ALTER TABLE generation_costs RENAME TO generation_costs_before;
ALTER TABLE generation_costs_before RENAME CONSTRAINT generation_costs_pkey TO generation_costs_before_pkey;
DROP INDEX idx_generation_costs_session_id, idx_generation_costs_asset_id, idx_generation_costs_category,
    idx_generation_costs_created_at, idx_generation_costs_provider;
ALTER SEQUENCE generation_costs_id_seq OWNED BY NONE;

CREATE TABLE generation_costs (
    LIKE generation_costs_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS,
    CONSTRAINT generation_costs_pkey PRIMARY KEY (id, created_at),
    CONSTRAINT generation_costs_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE DEFERRABLE,
    CONSTRAINT generation_costs_asset_id_fkey FOREIGN KEY (asset_id) REFERENCES assets(id) ON DELETE SET NULL DEFERRABLE
) PARTITION BY RANGE (created_at);
ALTER SEQUENCE generation_costs_id_seq OWNED BY generation_costs.id;

CREATE INDEX idx_generation_costs_session_id ON generation_costs(session_id);
CREATE INDEX idx_generation_costs_asset_id ON generation_costs(asset_id);
CREATE INDEX idx_generation_costs_category ON generation_costs(category);
CREATE INDEX idx_generation_costs_created_at ON generation_costs(created_at DESC);
CREATE INDEX idx_generation_costs_provider ON generation_costs(provider);

-- What no month holds; rows in it are moved when their month is made.
CREATE TABLE generation_costs_default PARTITION OF generation_costs DEFAULT;

-- Refuses an argument with a message that shows it, and a hint that says what is allowed.
CREATE FUNCTION require_argument(is_allowed boolean, name text, value text, allowed text)
RETURNS void LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF is_allowed IS NOT TRUE THEN
        RAISE EXCEPTION '% is %', name, coalesce(value, 'NULL') USING HINT = allowed,
            ERRCODE = CASE WHEN value IS NULL THEN 'null_value_not_allowed' ELSE 'invalid_parameter_value' END;
    END IF;
END $$;

-- Makes the partitions from the month of `first` to `months_ahead` months from now that are not there yet, and returns
-- how many it made. Months are those of UTC. A month whose name is taken, as that of a partition that was detached, is
-- left out. It can be called often, and by several at once: if no month is missing, it locks nothing, and one call at a
-- time makes partitions.
--
-- A partition needs a lock that keeps writers from sessions and assets, for its foreign keys, and one that keeps everybody
-- from the default partition. If rows are moved, nobody reads the table, for a statement that is planned before and
-- runs after would miss them. Others may hold these tables in any order. So the function never waits for one while it
-- holds another: if one is not free, it lets all of them go and tries again. What it waits for, it waits for shortly,
-- because others queue behind it.
CREATE FUNCTION ensure_generation_cost_partitions(first timestamptz DEFAULT now(), months_ahead integer DEFAULT 3)
RETURNS integer LANGUAGE plpgsql
SET search_path FROM CURRENT SET timezone TO 'UTC' SET datestyle TO 'ISO' AS $$
DECLARE
    this_month CONSTANT timestamptz := date_trunc('month', now());
    caller_timeout CONSTANT text := current_setting('lock_timeout');
    attempts CONSTANT integer := 100;
    missing CONSTANT text := $query$
        SELECT coalesce(array_agg(month ORDER BY month), '{}')
        FROM generate_series(date_trunc('month', $1), $2, interval '1 month') AS month
        WHERE NOT EXISTS (
            SELECT FROM pg_catalog.pg_class c
            WHERE c.relnamespace = (
                SELECT p.relnamespace FROM pg_catalog.pg_class p WHERE p.oid = 'generation_costs'::regclass)
              AND c.relname = 'generation_costs_' || to_char(month, 'YYYY_MM'))
        $query$;
    locks text[] := ARRAY[
        'sessions IN SHARE ROW EXCLUSIVE', 'assets IN SHARE ROW EXCLUSIVE', 'generation_costs_default IN ACCESS EXCLUSIVE'];
    last timestamptz;
    months timestamptz[];
    month timestamptz;
    partition text;
    moves boolean := false;
BEGIN
    PERFORM require_argument(months_ahead BETWEEN 0 AND 60, 'months_ahead', months_ahead::text, 'it must be between 0 and 60');
    last := this_month + make_interval(months => months_ahead);
    PERFORM require_argument(
        first >= this_month - interval '10 years' AND first < last + interval '1 month', 'first', first::text,
        format('it must be between %s and the end of the month of %s', this_month - interval '10 years', last));

    EXECUTE missing INTO months USING first, last;
    IF months = '{}' THEN
        RETURN 0;
    END IF;
    -- One maker at a time; writers and readers go on. What the one before has made is not missing any more.
    LOCK TABLE ONLY generation_costs IN SHARE UPDATE EXCLUSIVE MODE;
    EXECUTE missing INTO months USING first, last;
    IF months = '{}' THEN
        RETURN 0;
    END IF;

    FOR attempt IN 1..attempts LOOP
        BEGIN
            -- Each tenth time, it waits for one table until an autovacuum of it gives way (deadlock_timeout), and lets go.
            IF attempt % 10 = 0 THEN
                PERFORM set_config('lock_timeout', '1500ms', true);
                EXECUTE format('LOCK TABLE ONLY %s MODE', locks[1 + (attempt / 10) % cardinality(locks)]);
                RAISE lock_not_available;
            END IF;
            PERFORM set_config('lock_timeout', '50ms', true);
            FOR number IN 1..cardinality(locks) LOOP
                EXECUTE format('LOCK TABLE ONLY %s MODE %s', locks[number], CASE WHEN number > 1 THEN 'NOWAIT' END);
            END LOOP;
            EXIT WHEN moves OR NOT EXISTS (
                SELECT FROM ONLY generation_costs_default
                WHERE created_at >= months[1] AND created_at < months[cardinality(months)] + interval '1 month');
            moves := true;
            locks := ARRAY['generation_costs IN ACCESS EXCLUSIVE'] || locks;
            RAISE lock_not_available;
        EXCEPTION WHEN lock_not_available THEN
            IF attempt = attempts THEN
                RAISE EXCEPTION 'the tables of costs are in use' USING ERRCODE = 'lock_not_available',
                    HINT = 'nothing was made; call it again when no long transaction holds sessions, assets or costs';
            END IF;
            PERFORM pg_sleep(0.02 + random() * 0.1);
        END;
    END LOOP;
    PERFORM set_config('lock_timeout', caller_timeout, true);

    FOREACH month IN ARRAY months LOOP
        partition := 'generation_costs_' || to_char(month, 'YYYY_MM');
        EXECUTE format('CREATE TABLE %I (LIKE generation_costs INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition);
        IF moves THEN
            -- The totals do not see it: their triggers are those of generation_costs.
            EXECUTE format(
                'WITH moved AS (DELETE FROM ONLY generation_costs_default WHERE created_at >= %L AND created_at < %L RETURNING *) '
                'INSERT INTO %I SELECT * FROM moved', month, month + interval '1 month', partition);
        END IF;
        EXECUTE format(
            'ALTER TABLE generation_costs ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            partition, month, month + interval '1 month');
    END LOOP;
    RETURN cardinality(months);
END $$;

-- It makes tables, which is for their owner.
REVOKE EXECUTE ON FUNCTION require_argument(boolean, text, text, text),
    ensure_generation_cost_partitions(timestamptz, integer) FROM PUBLIC;

-- Older rows stay in the default partition.
SELECT ensure_generation_cost_partitions(
    (SELECT greatest(coalesce(min(created_at), now()), date_trunc('month', now(), 'UTC') - interval '10 years')
     FROM generation_costs_before WHERE created_at <= now()));

INSERT INTO generation_costs
SELECT id, session_id, asset_id, category, amount, currency, provider, model_name, api_call_id, tokens_used,
       seconds_processed, api_latency_ms, success, error_message, coalesce(created_at, now()), metadata
FROM generation_costs_before;

SELECT copy_cost_properties();
DROP TABLE generation_costs_before;

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

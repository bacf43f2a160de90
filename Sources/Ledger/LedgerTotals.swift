extension LedgerSchema {
    /// Totals of runs, backups and findings. Metrics are computed from the totals and not from the rows, so that they
    /// do not change when `LedgerRetention` deletes rows.
    ///
    /// Triggers update the totals in the transaction that writes the rows. No writer can forget to update the totals,
    /// and the rows of an older program that still runs at the same time are also counted. Nothing is subtracted when
    /// rows are deleted.
    static let totals = """
        ALTER TABLE reeve.occurrences
            ADD COLUMN claim uuid,
            DROP CONSTRAINT occurrences_state_check,
            ADD CONSTRAINT occurrences_state_check CHECK (state IN ('claimed', 'skipped'));
        ALTER TABLE reeve.runs
            ADD COLUMN claim uuid,
            DROP COLUMN detail,
            DROP CONSTRAINT runs_reason_check,
            ADD CONSTRAINT runs_reason_check CHECK (reason IN ('scheduled', 'manual', 'retry')),
            DROP CONSTRAINT runs_state_check,
            ADD CONSTRAINT runs_state_check
                CHECK (state IN ('running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'lost'));
        CREATE UNIQUE INDEX runs_by_claim ON reeve.runs (claim) WHERE claim IS NOT NULL;
        COMMENT ON COLUMN reeve.runs.claim IS 'What its process called its wish to run, so that it knows its own';

        CREATE TABLE reeve.task_totals (
            task text PRIMARY KEY,
            newest_run bigint NOT NULL,
            last_started_at timestamptz NOT NULL,
            last_succeeded_at timestamptz,
            succeeded bigint NOT NULL DEFAULT 0,
            failed bigint NOT NULL DEFAULT 0,
            timed_out bigint NOT NULL DEFAULT 0,
            cancelled bigint NOT NULL DEFAULT 0,
            lost bigint NOT NULL DEFAULT 0,
            kept_since timestamptz NOT NULL DEFAULT '-infinity'
        );
        COMMENT ON TABLE reeve.task_totals IS 'All runs of each task, also of those that are no longer kept';
        COMMENT ON COLUMN reeve.task_totals.kept_since IS 'What was due before counts as claimed, whatever is there';
        INSERT INTO reeve.task_totals
            (task, newest_run, last_started_at, last_succeeded_at, succeeded, failed, timed_out, cancelled, lost)
        SELECT task, max(id), max(started_at), max(finished_at) FILTER (WHERE state = 'succeeded'),
            count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE state = 'failed'),
            count(*) FILTER (WHERE state = 'timed_out'), count(*) FILTER (WHERE state = 'cancelled'),
            count(*) FILTER (WHERE state = 'lost')
        FROM reeve.runs GROUP BY task;
        CREATE FUNCTION reeve.count_run() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            ended text := CASE WHEN TG_OP = 'INSERT' OR OLD.state = 'running' THEN NEW.state END;
        BEGIN
            IF TG_OP = 'UPDATE' AND (ended IS NULL OR ended = 'running') THEN
                RETURN NULL;
            END IF;
            INSERT INTO reeve.task_totals AS t
                (task, newest_run, last_started_at, last_succeeded_at, succeeded, failed, timed_out, cancelled, lost)
            VALUES (NEW.task, NEW.id, NEW.started_at, CASE WHEN ended = 'succeeded' THEN NEW.finished_at END,
                coalesce(ended = 'succeeded', false)::integer, coalesce(ended = 'failed', false)::integer,
                coalesce(ended = 'timed_out', false)::integer, coalesce(ended = 'cancelled', false)::integer,
                coalesce(ended = 'lost', false)::integer)
            ON CONFLICT (task) DO UPDATE SET
                newest_run = greatest(t.newest_run, excluded.newest_run),
                last_started_at = greatest(t.last_started_at, excluded.last_started_at),
                last_succeeded_at = greatest(t.last_succeeded_at, excluded.last_succeeded_at),
                succeeded = t.succeeded + excluded.succeeded, failed = t.failed + excluded.failed,
                timed_out = t.timed_out + excluded.timed_out, cancelled = t.cancelled + excluded.cancelled,
                lost = t.lost + excluded.lost;
            RETURN NULL;
        END $$;
        CREATE TRIGGER count_begun AFTER INSERT ON reeve.runs
            FOR EACH ROW EXECUTE FUNCTION reeve.count_run();
        CREATE TRIGGER count_ended AFTER UPDATE OF state ON reeve.runs
            FOR EACH ROW EXECUTE FUNCTION reeve.count_run();

        CREATE TABLE reeve.place_totals (
            place text PRIMARY KEY,
            newest_attempt bigint NOT NULL,
            last_started_at timestamptz NOT NULL
        );
        COMMENT ON TABLE reeve.place_totals IS 'The newest backup that was begun in each place';
        INSERT INTO reeve.place_totals SELECT place, max(id), max(started_at) FROM reeve.backup_attempts GROUP BY place;
        CREATE FUNCTION reeve.count_attempt() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            INSERT INTO reeve.place_totals AS p VALUES (NEW.place, NEW.id, NEW.started_at)
            ON CONFLICT (place) DO UPDATE SET
                newest_attempt = greatest(p.newest_attempt, excluded.newest_attempt),
                last_started_at = greatest(p.last_started_at, excluded.last_started_at);
            RETURN NULL;
        END $$;
        CREATE TRIGGER count_begun AFTER INSERT ON reeve.backup_attempts
            FOR EACH ROW EXECUTE FUNCTION reeve.count_attempt();

        CREATE TABLE reeve.checks (
            "check" text PRIMARY KEY,
            recorded_at timestamptz NOT NULL DEFAULT now()
        );
        COMMENT ON TABLE reeve.checks IS 'When each check was last recorded; its row is locked while it is';
        CREATE TABLE reeve.finding_kinds (
            "check" text NOT NULL,
            system text NOT NULL,
            object_kind text NOT NULL,
            PRIMARY KEY ("check", system, object_kind)
        );
        COMMENT ON TABLE reeve.finding_kinds IS 'Of what there were findings once; there may be none now';
        INSERT INTO reeve.finding_kinds SELECT DISTINCT "check", system, object_kind FROM reeve.findings;
        """
}

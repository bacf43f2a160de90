import Postgres
import Reporting

/// Reeve's own record in a database: the schema `reeve`, with its own migrations.
///
/// The tables are made on first contact and brought up to date in one transaction. An older program that meets a newer
/// ledger refuses to touch it.
public enum LedgerSchema {
    /// The version that this program writes.
    public static var version: Int { changes.count }

    /// The version that is there; nil when there is no ledger.
    ///
    /// - Throws: `LedgerError.foreign` for a schema `reeve` that is not ours; `PostgresError`.
    public static func installedVersion(on connection: isolated Connection) throws -> Int? {
        // Not to_regclass, which may answer from a cache that does not yet know what another has just committed.
        let there = try connection.query(
            """
            SELECT n.oid, c.oid IS NOT NULL FROM pg_catalog.pg_namespace n
                LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'ledger'
            WHERE n.nspname = 'reeve'
            """
        ).first
        guard let there else { return nil }
        let foreign = try LedgerTrust.foreign(on: connection)
        if !foreign.isEmpty { throw LedgerError.foreign(foreign) }
        guard try there.get(1, as: Bool.self) else { return nil }
        return try connection.query("SELECT version FROM reeve.ledger").first?.get(0)
    }

    /// The estate's own number, which nobody knows who may not read the ledger; nil when there is no ledger.
    ///
    /// - Throws: as `installedVersion`.
    public static func estate(on connection: isolated Connection) throws -> String? {
        guard try installedVersion(on: connection) != nil else { return nil }
        return try connection.query("SELECT estate::text FROM reeve.ledger").first?.get(0)
    }

    /// Makes the ledger, or brings it up to date; does nothing when it is.
    ///
    /// - Throws: `LedgerError`; `PostgresError`, for instance without the right to create a schema.
    public static func install(on connection: isolated Connection) throws {
        let found = try installedVersion(on: connection)
        try check(found)
        if found == version { return }
        var attempt = 1
        while true {
            do {
                return try change(on: connection)
            } catch let error as PostgresError where attempt < 20 && isRace(error) {
                attempt += 1  // another has just made it
            }
        }
    }

    /// Two that create the same schema: one waits for the other, and then finds it there.
    private static func isRace(_ error: PostgresError) -> Bool {
        ["23505", "42P06", "42P07", "40P01", "XX000"].contains(error.sqlState ?? "")
    }

    private static func change(on connection: isolated Connection) throws {
        var options = TransactionOptions()
        options.lockTimeout = .seconds(60)
        do {
            try connection.transaction(options) {
                // What is made here fires event triggers, whose functions may be others'. Only superusers make some.
                let fires = try connection.query("SELECT EXISTS (SELECT FROM pg_catalog.pg_event_trigger)")
                try Confinement.during(on: connection, isNeeded: fires.first?.get(0) ?? true) {
                    if try installedVersion(on: connection) == nil {
                        try connection.execute("CREATE SCHEMA IF NOT EXISTS reeve")
                    } else {
                        // A lock that only those can take who may write the ledger.
                        try connection.query("SELECT FROM reeve.ledger FOR UPDATE")
                    }
                    let found = try installedVersion(on: connection)
                    try check(found)
                    for (number, sql) in changes.enumerated() where number >= found ?? 0 {
                        try connection.execute(sql)
                    }
                    try connection.query("UPDATE reeve.ledger SET version = $1, upgraded_at = now()", [version])
                }
            }
        } catch let error as PostgresError where error.sqlState == "55P03" {
            throw LedgerError.busy(holder: try holder(on: connection))
        }
    }

    /// Who has a lock on the ledger.
    private static func holder(on connection: isolated Connection) throws -> String? {
        try connection.query(
            """
            SELECT pg_catalog.format('process %s of %s (%s)', a.pid, a.usename, a.application_name)
            FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
                JOIN pg_catalog.pg_class c ON c.oid = l.relation
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'reeve' AND c.relname = 'ledger' AND l.granted AND l.mode <> 'AccessShareLock'
                AND l.pid <> pg_catalog.pg_backend_pid() LIMIT 1
            """
        ).first?.get(0)
    }

    /// - Returns: whether there is a ledger that can be read.
    /// - Throws: `LedgerError.newer`.
    public static func isInstalled(on connection: isolated Connection) throws -> Bool {
        let found = try installedVersion(on: connection)
        try check(found)
        return found != nil
    }

    private static func check(_ found: Int?) throws {
        if let found, found > version { throw LedgerError.newer(found: found, known: version) }
    }

    /// What each version adds to the one before. Entries are never changed once released, only added.
    static let changes: [String] = [firstVersion, findings, backups, attempts, totals]

    private static let attempts = """
        CREATE TABLE reeve.backup_attempts (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            place text NOT NULL,
            started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            finished_at timestamptz,
            succeeded boolean,
            message text);
        CREATE INDEX backup_attempts_by_place ON reeve.backup_attempts (place, started_at);
        COMMENT ON TABLE reeve.backup_attempts IS 'Backups that were begun, and what became of each';
        """

    private static let backups = """
        CREATE TABLE reeve.backups (
            id text NOT NULL,
            place text NOT NULL,
            bytes bigint NOT NULL,
            started_at timestamptz NOT NULL,
            finished_at timestamptz NOT NULL,
            tested_at timestamptz,
            differences integer,
            mismatched_tables integer,
            restore_seconds float8,
            proven_at timestamptz,
            PRIMARY KEY (id, place)
        );
        COMMENT ON TABLE reeve.backups IS 'Backups that were made of this database, and whether they were shown to restore';
        """

    private static let findings = """
        CREATE TABLE reeve.findings (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            "check" text NOT NULL,
            system text NOT NULL,
            object_kind text NOT NULL,
            object text NOT NULL,
            property text NOT NULL,
            expected text,
            found text,
            first_seen_at timestamptz NOT NULL DEFAULT now(),
            last_seen_at timestamptz NOT NULL DEFAULT now(),
            cleared_at timestamptz
        );
        COMMENT ON TABLE reeve.findings IS 'What checks found, and since when; system is empty where it belongs to none';
        CREATE UNIQUE INDEX findings_open ON reeve.findings ("check", system, object_kind, object, property)
            WHERE cleared_at IS NULL;
        """

    private static let firstVersion = """
        COMMENT ON SCHEMA reeve IS 'The ledger of reeve, which administers this database';

        CREATE TABLE reeve.ledger (
            singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
            version integer NOT NULL,
            estate uuid NOT NULL DEFAULT gen_random_uuid(),
            upgraded_at timestamptz NOT NULL DEFAULT now()
        );
        INSERT INTO reeve.ledger (version) VALUES (0);

        CREATE TABLE reeve.systems (
            system text PRIMARY KEY,
            schema text NOT NULL,
            made_schema boolean NOT NULL,
            first_seen_at timestamptz NOT NULL DEFAULT now()
        );

        CREATE TABLE reeve.migrations (
            system text NOT NULL REFERENCES reeve.systems,
            version integer,
            name text NOT NULL,
            meaning bytea NOT NULL,
            text_digest bytea NOT NULL,
            source text NOT NULL,
            state text NOT NULL CHECK (state IN ('applying', 'applied', 'reverting')),
            applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            milliseconds integer,
            applied_by text NOT NULL DEFAULT session_user,
            CHECK (version > 0)
        );
        CREATE UNIQUE INDEX migrations_version ON reeve.migrations (system, version) WHERE version IS NOT NULL;
        CREATE UNIQUE INDEX migrations_repeatable ON reeve.migrations (system, name) WHERE version IS NULL;
        COMMENT ON COLUMN reeve.migrations.version IS 'null for a repeatable migration';
        COMMENT ON COLUMN reeve.migrations.meaning IS 'SHA-256 of the tokens, without comments and white space';

        CREATE TABLE reeve.migration_steps (
            system text NOT NULL,
            version integer NOT NULL,
            direction text NOT NULL CHECK (direction IN ('up', 'down')),
            step integer NOT NULL,
            meaning bytea NOT NULL,
            state text NOT NULL CHECK (state IN ('started', 'done')),
            started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            finished_at timestamptz,
            PRIMARY KEY (system, version, direction, step)
        );
        COMMENT ON TABLE reeve.migration_steps IS 'The journal of migrations that do not run in one transaction';

        CREATE TABLE reeve.occurrences (
            task text NOT NULL,
            due_at timestamptz NOT NULL,
            state text NOT NULL CHECK (state IN ('claimed', 'skipped', 'missed')),
            reason text,
            claimed_by text NOT NULL,
            claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (task, due_at)
        );

        CREATE TABLE reeve.runs (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            task text NOT NULL,
            occurrence timestamptz,
            attempt integer NOT NULL DEFAULT 1 CHECK (attempt > 0),
            reason text NOT NULL CHECK (reason IN ('scheduled', 'manual', 'retry', 'missed')),
            state text NOT NULL CHECK
                (state IN ('running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'lost', 'skipped')),
            instance text NOT NULL,
            started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            lease_until timestamptz,
            finished_at timestamptz,
            message text,
            detail jsonb,
            FOREIGN KEY (task, occurrence) REFERENCES reeve.occurrences (task, due_at),
            UNIQUE (task, occurrence, attempt)
        );
        CREATE UNIQUE INDEX runs_one_at_a_time ON reeve.runs (task) WHERE state = 'running';
        CREATE INDEX runs_history ON reeve.runs (task, started_at DESC);

        CREATE TABLE reeve.events (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            at timestamptz NOT NULL DEFAULT clock_timestamp(),
            kind text NOT NULL,
            subject text NOT NULL,
            detail jsonb NOT NULL DEFAULT '{}'
        );
        CREATE FUNCTION reeve.announce_events() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            NOTIFY reeve_events;
            RETURN NULL;
        END $$;
        CREATE TRIGGER announce AFTER INSERT ON reeve.events
            FOR EACH STATEMENT EXECUTE FUNCTION reeve.announce_events();

        CREATE TABLE reeve.audit (
            seq bigint PRIMARY KEY,
            entry text NOT NULL,
            previous bytea NOT NULL,
            hash bytea NOT NULL UNIQUE
        );
        COMMENT ON TABLE reeve.audit IS 'hash = SHA-256(previous || entry); entry is a JSON object';
        CREATE TABLE reeve.audit_head (
            singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
            seq bigint NOT NULL,
            hash bytea NOT NULL
        );
        INSERT INTO reeve.audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

        CREATE FUNCTION reeve.append_audit(actor text, action text, subject text, detail jsonb)
            RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            head record;
            line text;
            digest bytea;
        BEGIN
            SELECT a.seq, a.hash INTO STRICT head FROM reeve.audit_head a FOR UPDATE;
            line := jsonb_build_object(
                'seq', head.seq + 1,
                'at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                'actor', actor, 'action', action, 'subject', subject, 'detail', detail)::text;
            digest := sha256(head.hash || convert_to(line, 'UTF8'));
            INSERT INTO reeve.audit VALUES (head.seq + 1, line, head.hash, digest);
            UPDATE reeve.audit_head SET seq = head.seq + 1, hash = digest;
            RETURN head.seq + 1;
        END $$;
        -- A function, since the session keeps the plans of its statements.
        CREATE FUNCTION reeve.record_migration(
            of_system text, of_version integer, of_name text, of_meaning bytea, of_text_digest bytea, of_source text,
            of_state text, took_milliseconds integer, actor text)
            RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            took_milliseconds := coalesce(
                took_milliseconds, extract(epoch FROM clock_timestamp() - transaction_timestamp()) * 1000);
            UPDATE reeve.migrations SET
                name = of_name, meaning = of_meaning, text_digest = of_text_digest, source = of_source,
                state = of_state, milliseconds = took_milliseconds, applied_at = clock_timestamp()
            WHERE system = of_system AND version = of_version
               OR system = of_system AND version IS NULL AND of_version IS NULL AND name = of_name;
            IF NOT FOUND THEN
                INSERT INTO reeve.migrations (system, version, name, meaning, text_digest, source, state, milliseconds)
                VALUES (of_system, of_version, of_name, of_meaning, of_text_digest, of_source, of_state,
                    took_milliseconds);
            END IF;
            INSERT INTO reeve.events (kind, subject, detail)
            VALUES ('migration.' || of_state, of_system || '/' || of_name, jsonb_build_object('version', of_version));
            PERFORM reeve.append_audit(actor, 'migration.' || of_state, of_system || '/' || of_name, jsonb_build_object(
                'version', of_version, 'meaning', encode(of_meaning, 'hex'), 'milliseconds', took_milliseconds));
        END $$;
        CREATE FUNCTION reeve.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            RAISE EXCEPTION 'the audit chain is append-only' USING ERRCODE = 'insufficient_privilege';
        END $$;
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reeve.audit
            FOR EACH STATEMENT EXECUTE FUNCTION reeve.refuse_audit_change();
        """
}

/// Why the ledger cannot be used.
public enum LedgerError: Error, CustomStringConvertible {
    /// A newer program has changed the ledger.
    case newer(found: Int, known: Int)
    /// Another process is changing the ledger.
    case busy(holder: String?)
    /// There is a schema `reeve`, and it is not ours.
    case foreign([String])
    /// Somebody else records the findings of a check, for longer than was waited.
    case recording(check: String, holder: String?)

    public var description: String {
        switch self {
        case .newer(let found, let known):
            "the ledger in this database has version \(found); this program supports versions up to \(known)"
        case .busy(let holder): "another process is changing the ledger" + (holder.map { ": \($0)" } ?? "")
        case .foreign(let things):
            "the schema 'reeve' in this database is not Reeve's own: " + things.joined(separator: "; ")
        case .recording(let check, let holder):
            "the findings of '\(check)' are being recorded by \(holder ?? "another session")"
        }
    }

    public var hint: String {
        switch self {
        case .newer: "use the newer reeve that this database was last administered with"
        case .busy, .recording: "try again; a session that hangs can be ended with pg_terminate_backend"
        case .foreign:
            "find out who made it; then drop it, connect as its owner, or make one role the owner of everything in it "
                + "(ALTER SCHEMA reeve OWNER TO …, likewise its tables and functions)"
        }
    }
}

extension LedgerError: ReportedError {
    public static let codes = [
        ErrorCode(
            "ledger", [.failed, .notPermitted, .locked],
            "The ledger is newer than this program, is in use, or is not Reeve's own.")
    ]

    public var report: ErrorReport {
        let exitCode: ExitCode =
            switch self {
            case .newer: .failed
            case .busy, .recording: .locked
            case .foreign: .notPermitted
            }
        return ErrorReport(description, code: "ledger", hint: hint, exitCode: exitCode)
    }
}

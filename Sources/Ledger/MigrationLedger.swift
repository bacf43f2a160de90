import Postgres
import SQL

/// A migration as recorded in the ledger.
public struct MigrationRecord: Sendable, Equatable {
    public enum State: String, Sendable {
        /// The migration runs step by step, not in a single transaction, and has begun but not finished.
        case applying, reverting
        case applied
    }

    public let system: String
    /// nil for a repeatable migration.
    public let version: Int?
    public let name: String
    /// The SHA-256 of the migration's tokens, without comments and white space.
    public let tokenDigest: [UInt8]
    /// The SHA-256 of the migration's whole file.
    public let textDigest: [UInt8]
    public let state: State
    public let appliedAt: Timestamp

    public init(
        system: String, version: Int?, name: String, tokenDigest: [UInt8], textDigest: [UInt8], state: State,
        appliedAt: Timestamp
    ) {
        self.system = system
        self.version = version
        self.name = name
        self.tokenDigest = tokenDigest
        self.textDigest = textDigest
        self.state = state
        self.appliedAt = appliedAt
    }
}

/// The records of migrations. Each call runs in the open transaction, if there is one.
public enum MigrationLedger {
    /// The table has no primary key, because repeatable migrations have no version. With a publication of all tables,
    /// updates would fail without a replica identity.
    static let replicaIdentity = "ALTER TABLE reeve.migrations REPLICA IDENTITY FULL"

    /// The tables, in the first version of the ledger.
    static let tables = """
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
            token_digest bytea NOT NULL,
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
        COMMENT ON COLUMN reeve.migrations.token_digest IS 'SHA-256 of the tokens, without comments and white space';

        CREATE TABLE reeve.migration_steps (
            system text NOT NULL,
            version integer NOT NULL,
            direction text NOT NULL CHECK (direction IN ('up', 'down')),
            step integer NOT NULL,
            token_digest bytea NOT NULL,
            state text NOT NULL CHECK (state IN ('started', 'done')),
            started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            finished_at timestamptz,
            PRIMARY KEY (system, version, direction, step)
        );
        COMMENT ON TABLE reeve.migration_steps IS 'The journal of migrations that do not run in one transaction';

        -- A function, since the session keeps the plans of its statements.
        \(recordFunction(versionType: "integer"))
        """

    private static func recordFunction(versionType: String) -> String {
        """
        CREATE FUNCTION reeve.record_migration(
            of_system text, of_version \(versionType), of_name text, of_token_digest bytea, of_text_digest bytea,
            of_source text, of_state text, took_milliseconds integer, actor text)
            RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            took_milliseconds := coalesce(
                took_milliseconds, extract(epoch FROM clock_timestamp() - transaction_timestamp()) * 1000);
            UPDATE reeve.migrations SET
                name = of_name, token_digest = of_token_digest, text_digest = of_text_digest, source = of_source,
                state = of_state, milliseconds = took_milliseconds, applied_at = clock_timestamp()
            WHERE system = of_system AND version = of_version
               OR system = of_system AND version IS NULL AND of_version IS NULL AND name = of_name;
            IF NOT FOUND THEN
                INSERT INTO reeve.migrations (
                    system, version, name, token_digest, text_digest, source, state, milliseconds)
                VALUES (
                    of_system, of_version, of_name, of_token_digest, of_text_digest, of_source, of_state,
                    took_milliseconds);
            END IF;
            INSERT INTO reeve.events (kind, subject, detail)
            VALUES ('migration.' || of_state, of_system || '/' || of_name, jsonb_build_object('version', of_version));
            PERFORM reeve.append_audit(actor, 'migration.' || of_state, of_system || '/' || of_name, jsonb_build_object(
                'version', of_version, 'token_digest', encode(of_token_digest, 'hex'),
                'milliseconds', took_milliseconds));
        END $$;
        """
    }

    /// Versions of up to 18 digits, the version 0, and what a statement found before it ran alone.
    static let longVersions = """
        ALTER TABLE reeve.migrations ALTER COLUMN version TYPE bigint, DROP CONSTRAINT migrations_version_check,
            ADD CONSTRAINT migrations_version_check CHECK (version >= 0);
        ALTER TABLE reeve.migration_steps ALTER COLUMN version TYPE bigint, ADD COLUMN found jsonb,
            ADD COLUMN session jsonb;
        ALTER TABLE reeve.ledger ADD COLUMN migrator jsonb;
        COMMENT ON COLUMN reeve.ledger.migrator IS 'The session of the last run of migrations, which a later run ends';
        COMMENT ON COLUMN reeve.migration_steps.session IS
            'The settings that a step has left in its session: a later run continues with them';
        COMMENT ON COLUMN reeve.migration_steps.found IS
            'The objects that a statement found before it ran alone: a later run compares them with the objects then';
        DROP FUNCTION reeve.record_migration(text, integer, text, bytea, bytea, text, text, integer, text);
        \(recordFunction(versionType: "bigint"))
        """

    /// Returns all records, by system and version; within a system, repeatable migrations are last.
    public static func records(on connection: isolated Connection) throws -> [MigrationRecord] {
        let rows = try connection.query(
            """
            SELECT system, version, name, token_digest, text_digest, state, applied_at FROM reeve.migrations
            ORDER BY system, version, name
            """)
        return try rows.map { row in
            let state = try row.get("state", as: String.self)
            return MigrationRecord(
                system: try row.get("system"), version: try row.get("version"), name: try row.get("name"),
                tokenDigest: try row.get("token_digest", as: Bytes.self).bytes,
                textDigest: try row.get("text_digest", as: Bytes.self).bytes,
                state: MigrationRecord.State(rawValue: state) ?? .applying, appliedAt: try row.get("applied_at"))
        }
    }

    /// Returns the text of a migration as it was applied.
    public static func source(
        system: String, version: Int?, name: String, on connection: isolated Connection
    ) throws -> String? {
        try connection.query(
            """
            SELECT source FROM reeve.migrations
            WHERE system = $1 AND version IS NOT DISTINCT FROM $2::bigint AND name = $3
            """, [system, version, name]
        ).first?.get(0)
    }

    /// Records the schema of a system, unless a schema is already recorded for the system.
    ///
    /// - Returns: the schema that was already recorded; nil if there was none.
    @discardableResult
    public static func register(
        system: String, schema: String, madeSchema: Bool, on connection: isolated Connection
    ) throws -> String? {
        let known = try connection.query("SELECT schema FROM reeve.systems WHERE system = $1", [system]).first
        if let known { return try known.get(0) }
        try connection.query("INSERT INTO reeve.systems VALUES ($1, $2, $3)", [system, schema, madeSchema])
        return nil
    }

    /// Returns the schema in which a system was migrated, and whether the schema was created for the system.
    public static func schema(
        of system: String, on connection: isolated Connection
    ) throws -> (name: String, wasMade: Bool)? {
        let row = try connection.query("SELECT schema, made_schema FROM reeve.systems WHERE system = $1", [system])
            .first
        return try row.map { (try $0.get(0), try $0.get(1)) }
    }

    /// Returns the systems that are migrated in a schema.
    public static func systems(inSchema schema: String, on connection: isolated Connection) throws -> [String] {
        try connection.query("SELECT system FROM reeve.systems WHERE schema = $1 ORDER BY first_seen_at", [schema])
            .map { try $0.get(0) }
    }

    /// Records that the schema of a system was created by a run of migrations.
    public static func markMade(system: String, on connection: isolated Connection) throws {
        try connection.query("UPDATE reeve.systems SET made_schema = true WHERE system = $1", [system])
    }

    /// Records the session that runs migrations, by its process ID.
    public static func recordSession(_ process: Int, on connection: isolated Connection) throws {
        try connection.query(
            """
            UPDATE reeve.ledger SET migrator = (
                SELECT jsonb_build_object('process', a.pid, 'began', a.backend_start::text)
                FROM pg_stat_activity a WHERE a.pid = $1::integer)
            """, [process])
    }

    /// SQL for the process ID of the recorded session, if it still exists.
    public static let recordedSession = """
        SELECT a.pid FROM reeve.ledger l JOIN pg_stat_activity a
            ON a.pid = (l.migrator ->> 'process')::integer AND a.backend_start::text = l.migrator ->> 'began'
        """

    /// Deletes the record of a system that has no migrations left.
    public static func forget(system: String, on connection: isolated Connection) throws {
        try connection.query("DELETE FROM reeve.systems WHERE system = $1", [system])
    }

    /// Returns the statement that writes the row, the event and the audit entry of a migration. The statement has no
    /// parameters, so that it can be sent together with the migration.
    ///
    /// - Parameter milliseconds: the duration; nil for the time since the transaction began.
    public static func recordStatement(
        _ record: MigrationRecord, source: String, milliseconds: Int?, actor: String
    ) -> String {
        let values = [
            Self.literal(record.system), record.version.map(String.init) ?? "NULL", Self.literal(record.name),
            quoteLiteral(Bytes(record.tokenDigest).postgresText), quoteLiteral(Bytes(record.textDigest).postgresText),
            Self.literal(source), quoteLiteral(record.state.rawValue), milliseconds.map(String.init) ?? "NULL",
            Self.literal(actor),
        ]
        return "SELECT reeve.record_migration(\(values.joined(separator: ", ")))"
    }

    /// Returns SQL for a text. It is ASCII, because the session may have another client encoding.
    public static func literal(_ text: String) -> String {
        if text.utf8.allSatisfy({ $0 < 0x80 }) { return quoteLiteral(text) }
        let bytes = quoteLiteral(Bytes(Array(text.utf8)).postgresText)
        return "pg_catalog.convert_from(\(bytes)::pg_catalog.bytea, 'UTF8')"
    }

    /// Records that a migration is being reverted step by step.
    ///
    /// - Returns: the state before; nil if the migration is not recorded.
    public static func markReverting(
        system: String, version: Int, on connection: isolated Connection
    ) throws -> MigrationRecord.State? {
        let state: String? = try connection.query(
            """
            UPDATE reeve.migrations m SET state = 'reverting'
            FROM (SELECT state FROM reeve.migrations WHERE system = $1 AND version = $2 FOR UPDATE) before
            WHERE system = $1 AND version = $2 RETURNING before.state
            """, [system, version]
        ).first?.get(0)
        return state.flatMap(MigrationRecord.State.init(rawValue:))
    }

    /// Takes back that a migration has begun to be reverted step by step.
    ///
    /// - Parameter state: the state before.
    public static func withdrawReverting(
        system: String, version: Int, to state: MigrationRecord.State, on connection: isolated Connection
    ) throws {
        try connection.query(
            """
            UPDATE reeve.migrations SET state = $3 WHERE system = $1 AND version = $2 AND state = 'reverting'
            """, [system, version, state.rawValue])
    }

    /// Takes back that a migration has begun to be applied step by step.
    public static func withdrawApplying(system: String, version: Int, on connection: isolated Connection) throws {
        try connection.query(
            "DELETE FROM reeve.migrations WHERE system = $1 AND version = $2 AND state = 'applying'",
            [system, version])
    }

    /// Deletes the row of a reverted migration, and writes the event and the audit entry.
    public static func remove(
        system: String, version: Int?, name: String, actor: String, on connection: isolated Connection
    ) throws {
        try connection.query(
            """
            WITH gone AS (
                DELETE FROM reeve.migrations
                WHERE system = $1 AND version IS NOT DISTINCT FROM $2::bigint AND name = $3
            ), journal AS (
                DELETE FROM reeve.migration_steps WHERE system = $1 AND version = $2::bigint
            ), told AS (
                INSERT INTO reeve.events (kind, subject, detail)
                VALUES ('migration.reverted', $1 || '/' || $3, jsonb_build_object('version', $2::bigint))
            )
            SELECT reeve.append_audit(
                $4, 'migration.reverted', $1 || '/' || $3, jsonb_build_object('version', $2::bigint))
            """, [system, version, name, actor])
    }

    /// Replaces the text of a migration whose comments or white space changed after it was applied.
    public static func updateText(
        system: String, version: Int?, name: String, textDigest: [UInt8], source: String,
        on connection: isolated Connection
    ) throws {
        try connection.query(
            """
            UPDATE reeve.migrations SET text_digest = $4::bytea, source = $5
            WHERE system = $1 AND version IS NOT DISTINCT FROM $2::bigint AND name = $3
            """, [system, version, name, Bytes(textDigest), source])
    }
}

import Postgres
import Reporting

/// The ledger, Reeve's own record in a database: the schema `reeve`, with its own migrations.
///
/// The tables are created when the program first uses a database, and upgraded in one transaction. An older program
/// refuses to use a newer ledger. Features have their own tables in it (`LedgerPart`).
public enum LedgerSchema {
    /// The version that this program installs, without the features' parts.
    public static var version: Int { changes.count }

    /// Returns the installed version; nil if there is no ledger.
    ///
    /// - Throws: `LedgerError.foreign` for a schema `reeve` that Reeve did not create; `PostgresError`.
    public static func installedVersion(on connection: isolated Connection) throws -> Int? {
        try installed(on: connection)?.version
    }

    /// The installed versions.
    private struct Installed {
        let version: Int
        /// The versions of the parts, by name.
        var parts: [String: Int] = [:]

        var isCurrent: Bool {
            version == LedgerSchema.version && LedgerPart.all.allSatisfy { parts[$0.name] == $0.version }
        }

        /// Checks that this program supports the installed versions.
        ///
        /// - Throws: `LedgerError.newer`.
        func check() throws {
            if version > LedgerSchema.version {
                throw LedgerError.newer(found: version, known: LedgerSchema.version)
            }
            for part in LedgerPart.all {
                if let found = parts[part.name], found > part.version {
                    throw LedgerError.newer(part: part.name, found: found, known: part.version)
                }
            }
        }
    }

    private static func installed(on connection: isolated Connection) throws -> Installed? {
        // A query instead of `to_regclass`, whose cache may not contain a relation that another session has just
        // committed.
        let there = try connection.query(
            """
            SELECT n.oid, c.oid IS NOT NULL, pg_catalog.pg_get_userbyid(n.nspowner), current_user
            FROM pg_catalog.pg_namespace n
                LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'ledger'
            WHERE n.nspname = 'reeve'
            """
        ).first
        guard let there else { return nil }
        try LedgerTrust.check(on: connection)
        guard try there.get(1, as: Bool.self) else { return nil }
        // The ledger of an older version has no column `parts`. `to_jsonb(l) -> 'parts'` is then NULL, whereas
        // `l.parts` would be an error.
        let rows: Rows
        do {
            rows = try connection.query(
                """
                SELECT l.version, p.key, p.value::integer AS part_version FROM reeve.ledger l
                    LEFT JOIN LATERAL pg_catalog.jsonb_each_text(pg_catalog.to_jsonb(l) -> 'parts') p ON true
                """)
        } catch let error as PostgresError where error.sqlState == "42501" {
            throw LedgerError.ofOther(owner: try there.get(2), role: try there.get(3))
        }
        guard let first = rows.first else { return nil }
        var installed = Installed(version: try first.get("version"))
        for row in rows {
            if let name: String = try row.get("key") { installed.parts[name] = try row.get("part_version") }
        }
        return installed
    }

    /// Returns the random identifier of the ledger, which only roles with read access to the ledger know; nil if there
    /// is no ledger.
    ///
    /// - Throws: the errors of `installedVersion`.
    public static func estate(on connection: isolated Connection) throws -> String? {
        guard try installedVersion(on: connection) != nil else { return nil }
        return try connection.query("SELECT estate::text FROM reeve.ledger").first?.get(0)
    }

    /// Creates or upgrades the ledger. Does nothing if the ledger is current.
    ///
    /// - Throws: `LedgerError`; `PostgresError`, for instance if the role may not create a schema.
    public static func install(on connection: isolated Connection) throws {
        let found = try installed(on: connection)
        try found?.check()
        if found?.isCurrent == true { return }
        var attempt = 1
        while true {
            do {
                return try change(on: connection)
            } catch let error as PostgresError where attempt < 20 && isRace(error) {
                attempt += 1  // another session has just created the ledger
            }
        }
    }

    /// Whether the error can be caused by two sessions that create the schema concurrently. One session waits for the
    /// other and fails. When it tries again, it finds the schema.
    private static func isRace(_ error: PostgresError) -> Bool {
        ["23505", "42P06", "42P07", "40P01", "XX000"].contains(error.sqlState ?? "")
    }

    private static func change(on connection: isolated Connection) throws {
        var options = TransactionOptions()
        options.lockTimeout = .seconds(60)
        do {
            try connection.transaction(options) {
                // The DDL here fires event triggers. Only superusers can create event triggers, but the triggers'
                // functions may belong to other roles.
                let fires = try connection.query("SELECT EXISTS (SELECT FROM pg_catalog.pg_event_trigger)")
                try Confinement.during(on: connection, isNeeded: fires.first?.get(0) ?? true) {
                    try lockOrMake(on: connection)
                    let found = try installed(on: connection)
                    try found?.check()
                    try upgrade(from: found, on: connection)
                }
            }
        } catch let error as PostgresError where error.sqlState == "55P03" && error.hint == nil {
            // An error with a hint is from `Confinement`, and already names the holder.
            throw LedgerError.busy(holder: try holder(on: connection))
        }
    }

    /// Locks the ledger before any of it is read, or creates the schema. Concurrent upgrades then run one after the
    /// other. The strongest lock is acquired first, because a session that held a weaker lock and waited for a stronger
    /// one would block all other sessions.
    private static func lockOrMake(on connection: isolated Connection) throws {
        do {
            // Only roles that may write to the ledger can acquire this lock.
            try connection.savepoint { _ = try connection.execute("LOCK TABLE reeve.ledger IN ACCESS EXCLUSIVE MODE") }
        } catch let error as PostgresError where ["3F000", "42P01"].contains(error.sqlState) {
            let there = try connection.query("SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'reeve'")
            if !there.isEmpty { return }
            try connection.execute("CREATE SCHEMA reeve")
            try DefaultPrivileges.revokeOnSchema(on: connection)
        }
    }

    /// Applies the missing changes, in the open transaction.
    private static func upgrade(from found: Installed?, on connection: isolated Connection) throws {
        let older = try DefaultPrivileges.relations(on: connection)
        for change in changes.dropFirst(found?.version ?? 0) { try connection.execute(change) }
        var parts: [String: Int] = [:]
        for part in LedgerPart.all {
            for change in part.changes.dropFirst(found?.parts[part.name] ?? 0) { try connection.execute(change) }
            parts[part.name] = part.version
        }
        try DefaultPrivileges.revokeOnRelations(except: older, on: connection)
        try connection.query(
            """
            UPDATE reeve.ledger SET version = $1, upgraded_at = now(),
                parts = parts || coalesce((SELECT jsonb_object_agg(p.name, p.version)
                    FROM unnest($2::text[], $3::integer[]) AS p (name, version)), '{}')
            """, [version, parts.keys.sorted(), parts.keys.sorted().map { parts[$0] ?? 0 }])
    }

    /// Returns the session that holds a lock on the ledger.
    private static func holder(on connection: isolated Connection) throws -> String? {
        try connection.query(
            """
            SELECT pg_catalog.format('process %s of %s (%s)', a.pid, a.usename, a.application_name)
            FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
                JOIN pg_catalog.pg_class c ON c.oid = l.relation
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'reeve' AND l.granted
                AND l.pid <> pg_catalog.pg_backend_pid() LIMIT 1
            """
        ).first?.get(0)
    }

    /// - Returns: whether a ledger is installed that this program can read.
    /// - Throws: `LedgerError.newer`.
    public static func isInstalled(on connection: isolated Connection) throws -> Bool {
        let found = try installed(on: connection)
        try found?.check()
        return found != nil
    }

    /// The statements that upgrade each version to the next; most are declared in the file that uses the tables.
    /// Released entries are never changed; new ones are appended.
    static let changes: [String] = [
        [ledger, MigrationLedger.tables, RunLedger.tables, Events.table, Audit.tables].joined(separator: "\n"),
        FindingLedger.table,
        BackupLedger.table,
        BackupLedger.attempts,
        totals,
        partVersions,
        BackupLedger.foundColumn,
        MigrationLedger.replicaIdentity,
        MigrationLedger.longVersions,
        BackupLedger.comparison,
    ]

    private static let ledger = """
        COMMENT ON SCHEMA reeve IS 'The ledger of reeve, which administers this database';

        CREATE TABLE reeve.ledger (
            singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
            version integer NOT NULL,
            estate uuid NOT NULL DEFAULT gen_random_uuid(),
            upgraded_at timestamptz NOT NULL DEFAULT now()
        );
        INSERT INTO reeve.ledger (version) VALUES (0);
        """

    private static let partVersions = """
        ALTER TABLE reeve.ledger ADD COLUMN parts jsonb NOT NULL DEFAULT '{}';
        COMMENT ON COLUMN reeve.ledger.parts IS 'The versions of the tables that features keep in the ledger';
        """
}

import Postgres

/// A backup as recorded in the ledger of the database. If the ledger differs from the repository, the repository is
/// right.
public struct BackupRecord: Sendable, Equatable {
    public let id: String
    public let place: String
    public let bytes: Int
    public let startedAt: Timestamp
    public let finishedAt: Timestamp
    /// Whether the backup was recorded because it was found in the repository. If false, the process that made the
    /// backup recorded it. Any account that may write to the repository can create such a backup.
    public let isFound: Bool
    /// When the newest restore test took place, if it found no differences; otherwise nil.
    public let provenAt: Timestamp?
    /// The duration of the restore in the newest restore test, in seconds.
    public let restoreSeconds: Double?
    /// How many differences the newest restore test found.
    public let differences: Int?
    /// How many tables differed in the newest restore test.
    public let mismatchedTables: Int?
}

/// The records of backups and of their restore tests.
public enum BackupLedger {
    /// A backup as described by its manifest.
    public struct Entry: Sendable {
        public let id: String
        public let bytes: Int
        public let startedAt: Timestamp
        public let finishedAt: Timestamp

        public init(id: String, bytes: Int, startedAt: Timestamp, finishedAt: Timestamp) {
            self.id = id
            self.bytes = bytes
            self.startedAt = startedAt
            self.finishedAt = finishedAt
        }
    }

    /// The table of backups, in the third version of the ledger.
    static let table = """
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

    /// The table of attempts, in the fourth version of the ledger.
    static let attempts = """
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

    /// The column that records whether a backup was found, added in the seventh version of the ledger.
    static let foundColumn = """
        ALTER TABLE reeve.backups ADD COLUMN is_found boolean NOT NULL DEFAULT false;
        COMMENT ON COLUMN reeve.backups.is_found IS 'Whether it was found in the repository, and not recorded by its maker';
        """

    /// Records a new backup in all places, or, if that fails, in none. If a place already has a record of the backup,
    /// the record only loses the mark `isFound`.
    public static func record(
        _ backup: Entry, places: [String], actor: String, on connection: isolated Connection
    ) throws {
        try connection.transaction {
            for place in places {
                try insert(backup, place: place, isFound: false, actor: actor, on: connection)
            }
        }
    }

    /// Records a backup that is in the repository but not in the ledger, for instance because the process that made it
    /// was killed before it could record the backup.
    ///
    /// The backup counts as unproven, because any user who can write to the repository can store a manifest there.
    public static func find(
        _ backup: Entry, place: String, actor: String, on connection: isolated Connection
    ) throws {
        try connection.transaction {
            try insert(backup, place: place, isFound: true, actor: actor, on: connection)
        }
    }

    /// Adds a row in the open transaction. An existing row is not changed, except that `is_found` becomes false when
    /// the process that made the backup records it. A backup whose finish time is more than one hour in the future is
    /// ignored, because the clocks of machines differ only a little.
    private static func insert(
        _ backup: Entry, place: String, isFound: Bool, actor: String, on connection: isolated Connection
    ) throws {
        let made = try connection.query(
            """
            INSERT INTO reeve.backups AS b (id, place, bytes, started_at, finished_at, is_found)
            SELECT $1, $2, $3, $4, $5::timestamptz, $6::boolean WHERE $5::timestamptz <= clock_timestamp() + interval '1 hour'
            ON CONFLICT (id, place) DO UPDATE SET is_found = false WHERE b.is_found AND NOT EXCLUDED.is_found
            RETURNING true
            """, [backup.id, place, backup.bytes, backup.startedAt, backup.finishedAt, isFound])
        if made.isEmpty { return }
        let action = isFound ? "backup.found" : "backup.created"
        try Events.record(action, subject: backup.id, on: connection)
        try Audit.append(actor: actor, action: action, subject: backup.id, on: connection)
    }

    /// Records that a backup begins in each of the places.
    ///
    /// - Returns: the numbers of the attempts, in the order of `places`, for `finish`.
    public static func begin(places: [String], on connection: isolated Connection) throws -> [Int] {
        // Insert the rows in the same order in all sessions. Each row locks the totals of its place, so different
        // orders could cause a deadlock.
        let rows = try connection.query(
            """
            INSERT INTO reeve.backup_attempts (place)
            SELECT place FROM pg_catalog.unnest($1::text[]) AS u (place) ORDER BY place COLLATE "C" RETURNING id, place
            """, [places.map { LedgerText.clean($0) }])
        var ids: [String: [Int]] = [:]
        for row in rows { ids[try row.get("place"), default: []].append(try row.get("id")) }
        return places.compactMap { ids[LedgerText.clean($0)]?.popLast() }
    }

    /// Records the result of an attempt. A second call for the same attempt has no effect.
    ///
    /// - Parameter failure: the error message; nil for a complete backup.
    public static func finish(_ attempt: Int, failure: String?, on connection: isolated Connection) throws {
        try connection.query(
            """
            UPDATE reeve.backup_attempts SET finished_at = clock_timestamp(), succeeded = $2::text IS NULL, message = $2
            WHERE id = $1 AND finished_at IS NULL
            """, [attempt, failure.map { LedgerText.message($0) }])
    }

    /// Returns the time when the newest backup began, by place, whatever its result. Reads one row per place.
    public static func lastAttempts(on connection: isolated Connection) throws -> [String: Timestamp] {
        let rows = try connection.query("SELECT place, last_started_at FROM reeve.place_totals")
        return Dictionary(try rows.map { (try $0.get(0), try $0.get(1)) }) { one, _ in one }
    }

    /// Records that a backup was restored into a database.
    public static func restored(id: String, target: String, actor: String, on connection: isolated Connection) throws {
        try connection.transaction {
            try Events.record("backup.restored", subject: id, on: connection)
            try Audit.append(
                actor: actor, action: "backup.restored", subject: "\(id) into \(target)", on: connection)
        }
    }

    /// Records the result of a restore test. Adds the backup if the ledger does not have it.
    public static func prove(
        _ backup: Entry, place: String, restoreSeconds: Double, differences: Int, mismatchedTables: Int, actor: String,
        on connection: isolated Connection
    ) throws {
        try connection.transaction {
            try insert(backup, place: place, isFound: true, actor: actor, on: connection)
            try connection.query(
                """
                UPDATE reeve.backups SET tested_at = now(), differences = $3::integer, restore_seconds = $4, mismatched_tables = $5,
                    proven_at = CASE WHEN $3::integer = 0 THEN now() END WHERE id = $1 AND place = $2
                """, [backup.id, place, differences, restoreSeconds, mismatchedTables])
            let action = differences == 0 ? "backup.proved" : "backup.refuted"
            try Events.record(action, subject: backup.id, on: connection)
            try Audit.append(actor: actor, action: action, subject: backup.id, on: connection)
        }
    }

    /// Records that a backup was removed.
    ///
    /// - Parameter isMissed: whether the backup was found to be missing without a recorded removal.
    public static func forget(
        id: String, place: String, isMissed: Bool = false, actor: String, on connection: isolated Connection
    ) throws {
        let action = isMissed ? "backup.missed" : "backup.removed"
        try connection.transaction {
            try connection.query("DELETE FROM reeve.backups WHERE id = $1 AND place = $2", [id, place])
            try Events.record(action, subject: id, on: connection)
            try Audit.append(actor: actor, action: action, subject: id, on: connection)
        }
    }

    /// Returns all recorded backups, oldest first.
    public static func records(on connection: isolated Connection) throws -> [BackupRecord] {
        try connection.query("SELECT * FROM reeve.backups ORDER BY started_at").map {
            BackupRecord(
                id: try $0.get("id"), place: try $0.get("place"), bytes: try $0.get("bytes"),
                startedAt: try $0.get("started_at"), finishedAt: try $0.get("finished_at"),
                isFound: try $0.get("is_found"), provenAt: try $0.get("proven_at"),
                restoreSeconds: try $0.get("restore_seconds"),
                differences: try $0.get("differences"), mismatchedTables: try $0.get("mismatched_tables"))
        }
    }
}

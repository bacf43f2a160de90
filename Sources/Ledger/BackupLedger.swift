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
    /// When the newest restore test took place, whatever its result; nil if there was none.
    public let testedAt: Timestamp?
    /// The identifier of the repository's mark; nil in records of earlier versions.
    public let repository: String?
    /// SHA-256 of the manifest: one, or two while the manifest is being written again. Empty in records of earlier
    /// versions.
    public let manifests: [String]
    /// Since when the absence of the backup is no loss: its removal was begun, or the ledger was restored from an older
    /// backup. nil: the repository is expected to have the backup.
    public let excusedAt: Timestamp?
    /// When the backup was found to be gone from the repository, although nothing had removed it; nil if it is there.
    public let missedAt: Timestamp?
}

/// The records of backups and of their restore tests.
public enum BackupLedger {
    /// A backup as described by its manifest.
    public struct Entry: Sendable {
        public let id: String
        public let bytes: Int
        public let startedAt: Timestamp
        public let finishedAt: Timestamp
        /// SHA-256 of the manifest.
        public let manifest: String

        public init(id: String, bytes: Int, startedAt: Timestamp, finishedAt: Timestamp, manifest: String) {
            self.id = id
            self.bytes = bytes
            self.startedAt = startedAt
            self.finishedAt = finishedAt
            self.manifest = manifest
        }
    }

    /// A repository, by its address and the identifier of its mark.
    public struct Place: Sendable, Equatable {
        public let address: String
        public let repository: String?

        public init(_ address: String, repository: String?) {
            self.address = address
            self.repository = repository
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

    /// The columns by which the ledger and the repositories are compared, added in the tenth version of the ledger.
    static let comparison = """
        ALTER TABLE reeve.backups ADD COLUMN repository text, ADD COLUMN manifests text[] NOT NULL DEFAULT '{}',
            ADD COLUMN excused_at timestamptz, ADD COLUMN missed_at timestamptz;
        COMMENT ON COLUMN reeve.backups.repository IS 'The identifier in the mark of the repository';
        COMMENT ON COLUMN reeve.backups.manifests IS 'The SHA-256 of the manifest; two while it is being written again';
        COMMENT ON COLUMN reeve.backups.excused_at IS 'Since when its absence is no loss';
        COMMENT ON COLUMN reeve.backups.missed_at IS 'When it was found to be gone although nothing had removed it';
        """

    /// Records a new backup in all places, or, if that fails, in none. If a place already has a record of the backup,
    /// the record only loses the mark `isFound`.
    public static func record(
        _ backup: Entry, places: [Place], actor: String, on connection: isolated Connection
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
    ///
    /// - Returns: whether the ledger had no record of it.
    @discardableResult
    public static func find(
        _ backup: Entry, place: Place, actor: String, on connection: isolated Connection
    ) throws -> Bool {
        try connection.transaction {
            try insert(backup, place: place, isFound: true, actor: actor, on: connection)
        }
    }

    /// Adds a row in the open transaction. An existing row is not changed, with two exceptions: `is_found` becomes
    /// false when the process that made the backup records it, and what a record of an earlier version lacks is added.
    /// A backup whose finish time is more than one hour in the future is ignored, because the clocks of machines differ
    /// only a little.
    ///
    /// - Returns: whether the row is new, or is now that of a backup whose maker has recorded it.
    @discardableResult
    private static func insert(
        _ backup: Entry, place: Place, isFound: Bool, actor: String, on connection: isolated Connection
    ) throws -> Bool {
        let made = try connection.query(
            """
            INSERT INTO reeve.backups AS b (id, place, bytes, started_at, finished_at, is_found, repository, manifests)
            SELECT $1, $2, $3, $4, $5::timestamptz, $6::boolean, $7, ARRAY[$8]
            WHERE $5::timestamptz <= clock_timestamp() + interval '1 hour'
            ON CONFLICT (id, place) DO UPDATE SET is_found = b.is_found AND EXCLUDED.is_found, missed_at = NULL,
                repository = coalesce(b.repository, EXCLUDED.repository),
                manifests = CASE WHEN b.manifests = '{}' THEN EXCLUDED.manifests ELSE b.manifests END
            WHERE b.is_found AND NOT EXCLUDED.is_found OR b.missed_at IS NOT NULL OR b.manifests = '{}'
                OR b.repository IS NULL AND EXCLUDED.repository IS NOT NULL
            RETURNING xmax = 0 OR NOT (is_found OR $6::boolean)
            """,
            [
                backup.id, place.address, backup.bytes, backup.startedAt, backup.finishedAt, isFound, place.repository,
                backup.manifest,
            ])
        guard try made.first?.get(0, as: Bool.self) == true else { return false }
        let action = isFound ? "backup.found" : "backup.created"
        try Events.record(action, subject: backup.id, on: connection)
        try Audit.append(actor: actor, action: action, subject: backup.id, on: connection)
        return true
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

    /// The result of a restore test.
    public struct TestResult: Sendable {
        /// When the test took place.
        public let testedAt: Timestamp
        public let restoreSeconds: Double
        public let differences: Int
        public let mismatchedTables: Int

        public init(testedAt: Timestamp, restoreSeconds: Double, differences: Int, mismatchedTables: Int) {
            self.testedAt = testedAt
            self.restoreSeconds = restoreSeconds
            self.differences = differences
            self.mismatchedTables = mismatchedTables
        }
    }

    /// Records the result of a restore test, unless the ledger has the result of a later one, or records another
    /// manifest of the backup. Adds the backup if the ledger does not have it. A time in the future counts as now.
    public static func prove(
        _ backup: Entry, place: Place, _ result: TestResult, actor: String, on connection: isolated Connection
    ) throws {
        try connection.transaction {
            try insert(backup, place: place, isFound: true, actor: actor, on: connection)
            let changed = try connection.query(
                """
                UPDATE reeve.backups b SET tested_at = t.at, differences = $3::integer, restore_seconds = $4,
                    mismatched_tables = $5, proven_at = CASE WHEN $3::integer = 0 THEN t.at END
                FROM (SELECT least($6::timestamptz, now())) t (at)
                WHERE id = $1 AND place = $2 AND (tested_at IS NULL OR tested_at < t.at)
                    AND (manifests = '{}' OR $7 = ANY (manifests)) RETURNING id
                """,
                [
                    backup.id, place.address, result.differences, result.restoreSeconds, result.mismatchedTables,
                    result.testedAt, backup.manifest,
                ])
            if changed.isEmpty { return }
            let action = result.differences == 0 ? "backup.proved" : "backup.refuted"
            try Events.record(action, subject: backup.id, on: connection)
            try Audit.append(actor: actor, action: action, subject: backup.id, on: connection)
        }
    }

    /// Records that the removal of backups begins. A backup that is gone afterwards is not missed, even if the process
    /// that removes it is killed.
    public static func excuse(ids: Set<String>, place: String, on connection: isolated Connection) throws {
        try connection.query(
            """
            UPDATE reeve.backups SET excused_at = clock_timestamp() WHERE id = ANY ($1) AND place = $2
                AND excused_at IS NULL
            """, [ids.sorted(), place])
    }

    /// Records that the ledger was restored from a backup. It does not know which of its backups were removed since
    /// then.
    public static func excuseAll(on connection: isolated Connection) throws {
        try connection.query("UPDATE reeve.backups SET excused_at = clock_timestamp() WHERE excused_at IS NULL")
    }

    /// Records that the repository has these backups.
    public static func see(ids: Set<String>, place: String, on connection: isolated Connection) throws {
        try connection.query(
            """
            UPDATE reeve.backups SET excused_at = NULL, missed_at = NULL WHERE id = ANY ($1) AND place = $2
                AND (excused_at IS NOT NULL OR missed_at IS NOT NULL)
            """, [ids.sorted(), place])
    }

    /// Records that a backup was removed, or that an operator gives up one that is missing.
    public static func forget(
        id: String, place: String, actor: String, on connection: isolated Connection
    ) throws {
        try connection.transaction {
            let gone = try connection.query(
                "DELETE FROM reeve.backups WHERE id = $1 AND place = $2 RETURNING missed_at IS NOT NULL", [id, place])
            guard let wasMissed: Bool = try gone.first?.get(0) else { return }
            let action = wasMissed ? "backup.forgotten" : "backup.removed"
            try Events.record(action, subject: id, on: connection)
            try Audit.append(actor: actor, action: action, subject: id, on: connection)
        }
    }

    /// Records that an operator takes over backups that were found in the repository.
    ///
    /// - Parameter ids: the backups; nil: all of them.
    public static func adopt(
        ids: Set<String>? = nil, place: String, actor: String, on connection: isolated Connection
    ) throws {
        try connection.transaction {
            let rows = try connection.query(
                """
                UPDATE reeve.backups SET is_found = false WHERE place = $1 AND is_found
                    AND ($2::text[] IS NULL OR id = ANY ($2)) RETURNING id
                """, [place, ids?.sorted()])
            for row in rows {
                try Audit.append(actor: actor, action: "backup.adopted", subject: row.get(0), on: connection)
            }
        }
    }

    /// Gives up the backups of every other repository that was at this place.
    public static func forgetOthers(than place: Place, actor: String, on connection: isolated Connection) throws {
        let others = try connection.query(
            "SELECT id FROM reeve.backups WHERE place = $1 AND repository <> $2", [place.address, place.repository])
        for row in others { try forget(id: row.get(0), place: place.address, actor: actor, on: connection) }
    }

    /// Records that a backup is gone from the repository, although nothing has removed it. The record stays, so that
    /// the loss is told until an operator gives up the backup.
    public static func miss(id: String, place: String, actor: String, on connection: isolated Connection) throws {
        try connection.transaction {
            let rows = try connection.query(
                """
                UPDATE reeve.backups SET missed_at = clock_timestamp() WHERE id = $1 AND place = $2 AND missed_at IS NULL
                RETURNING id
                """, [id, place])
            if rows.isEmpty { return }
            try Events.record("backup.missed", subject: id, on: connection)
            try Audit.append(actor: actor, action: "backup.missed", subject: id, on: connection)
        }
    }

    /// Records, before a manifest is written again, that its SHA-256 may also be `manifest`.
    public static func rewrite(
        id: String, place: String, manifest: String, on connection: isolated Connection
    ) throws {
        try connection.query(
            """
            UPDATE reeve.backups SET manifests = manifests || $3 WHERE id = $1 AND place = $2
                AND $3 <> ALL (manifests)
            """, [id, place, manifest])
    }

    /// Records, after a manifest was written again, that its SHA-256 is `manifest`.
    public static func rewritten(
        id: String, place: String, manifest: String, on connection: isolated Connection
    ) throws {
        try connection.query(
            "UPDATE reeve.backups SET manifests = ARRAY[$3] WHERE id = $1 AND place = $2", [id, place, manifest])
    }

    /// Returns all recorded backups, oldest first.
    public static func records(on connection: isolated Connection) throws -> [BackupRecord] {
        try connection.query("SELECT * FROM reeve.backups ORDER BY started_at").map {
            BackupRecord(
                id: try $0.get("id"), place: try $0.get("place"), bytes: try $0.get("bytes"),
                startedAt: try $0.get("started_at"), finishedAt: try $0.get("finished_at"),
                isFound: try $0.get("is_found"), provenAt: try $0.get("proven_at"),
                restoreSeconds: try $0.get("restore_seconds"),
                differences: try $0.get("differences"), mismatchedTables: try $0.get("mismatched_tables"),
                testedAt: try $0.get("tested_at"), repository: try $0.get("repository"),
                manifests: try $0.get("manifests"),
                excusedAt: try $0.get("excused_at"), missedAt: try $0.get("missed_at"))
        }
    }
}

import Foundation
import Postgres

/// A finding of a check, as recorded in the ledger.
public struct FindingRecord: Sendable, Hashable {
    /// The system of the object; nil if it belongs to no system.
    public let system: String?
    /// The kind of the object.
    public let objectKind: String
    public let object: String
    /// The property of the object that differs.
    public let property: String
    public let expected: String?
    public let found: String?

    public init(
        system: String?, objectKind: String, object: String, property: String, expected: String?, found: String?
    ) {
        self.system = system
        self.objectKind = objectKind
        self.object = object
        self.property = property
        self.expected = expected
        self.found = found
    }
}

/// The findings of checks, each with the times when it was first seen, last seen and cleared.
public enum FindingLedger {
    /// The table, in the second version of the ledger.
    static let table = """
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

    /// The changes that `record` made.
    public struct Change: Sendable, Equatable {
        /// Findings that were seen for the first time, or again after they were cleared.
        public var new: [FindingRecord] = []
        /// The number of findings that no longer exist.
        public var cleared = 0
    }

    /// The number of objects of one kind that have open findings.
    public struct Count: Sendable, Equatable {
        public let system: String?
        public let objectKind: String
        public let objects: Int
    }

    private struct Entry: Encodable {
        let system: String
        let kind: String
        let object: String
        let property: String
        let expected: String?
        let found: String?
    }

    /// Records all findings of a check, in one transaction. Open findings that are not among them are cleared. If a
    /// finding is new or cleared, records an event `CHECK.changed` for observers.
    ///
    /// - Parameters:
    ///   - check: the name of the check, for instance `drift`.
    ///   - patience: how long to wait for another session that records the same check.
    /// - Throws: `LedgerError.recording` if the other session is not done by then; `PostgresError`.
    public static func record(
        _ findings: [FindingRecord], of check: String, patience: Duration = .seconds(20),
        on connection: isolated Connection
    ) throws -> Change {
        let entries = findings.map {
            Entry(
                system: LedgerText.clean($0.system ?? ""), kind: LedgerText.clean($0.objectKind),
                object: LedgerText.clean($0.object), property: LedgerText.clean($0.property),
                expected: $0.expected.map { LedgerText.clean($0, limit: valueLimit) },
                found: $0.found.map { LedgerText.clean($0, limit: valueLimit) })
        }
        let json = try JSONText(encoding: entries)
        var options = TransactionOptions()
        options.lockTimeout = patience
        return try connection.transaction(options) {
            try lock(check, patience, on: connection)
            try connection.query(
                """
                INSERT INTO reeve.finding_kinds ("check", system, object_kind)
                SELECT DISTINCT $1, e.system, e.kind
                FROM jsonb_to_recordset($2::jsonb) AS e (system text, kind text)
                ON CONFLICT DO NOTHING
                """, [check, json])
            let rows = try connection.query(
                """
                INSERT INTO reeve.findings AS f
                    ("check", system, object_kind, object, property, expected, found, first_seen_at, last_seen_at)
                SELECT $1, e.system, e.kind, e.object, e.property, e.expected, e.found, c.recorded_at, c.recorded_at
                FROM reeve.checks c, jsonb_to_recordset($2::jsonb)
                    AS e (system text, kind text, object text, property text, expected text, found text)
                WHERE c."check" = $1
                ON CONFLICT ("check", system, object_kind, object, property) WHERE cleared_at IS NULL
                DO UPDATE SET last_seen_at = excluded.last_seen_at, expected = excluded.expected, found = excluded.found
                RETURNING nullif(f.system, '') AS system, f.object_kind, f.object, f.property, f.expected, f.found,
                    f.first_seen_at = f.last_seen_at AS is_new
                """, [check, json])
            var change = Change()
            for row in rows where try row.get("is_new") {
                change.new.append(
                    FindingRecord(
                        system: try row.get("system"), objectKind: try row.get("object_kind"),
                        object: try row.get("object"), property: try row.get("property"),
                        expected: try row.get("expected"), found: try row.get("found")))
            }
            change.cleared = try connection.query(
                """
                UPDATE reeve.findings f SET cleared_at = c.recorded_at FROM reeve.checks c
                WHERE f."check" = $1 AND c."check" = $1 AND f.cleared_at IS NULL AND f.last_seen_at < c.recorded_at
                RETURNING 1
                """, [check]
            ).count
            if !change.new.isEmpty || change.cleared > 0 {
                let detail = try JSONText(encoding: ["new": change.new.count, "cleared": change.cleared])
                try Events.record("\(check).changed", subject: "\(findings.count) open", detail: detail, on: connection)
            }
            return change
        }
    }

    /// The maximum length of an expected or found value, in bytes.
    private static let valueLimit = 10_000

    /// Locks a check until the end of the transaction. Without the lock, two concurrent sessions would each clear the
    /// findings of the other.
    ///
    /// The lock is on the row of the check, so that only roles that may write to the ledger can hold it. This function
    /// tries to lock the row repeatedly with SKIP LOCKED, and does not wait for the lock in the server, so that the
    /// error can name the holder.
    private static func lock(_ check: String, _ patience: Duration, on connection: isolated Connection) throws {
        let end = ContinuousClock.now + patience
        // Look for the row before inserting it, because an INSERT would wait for a session that has changed the row.
        if try connection.query(#"SELECT 1 FROM reeve.checks WHERE "check" = $1"#, [check]).isEmpty {
            try connection.query(#"INSERT INTO reeve.checks ("check") VALUES ($1) ON CONFLICT DO NOTHING"#, [check])
        }
        while try connection.query(
            #"SELECT 1 FROM reeve.checks WHERE "check" = $1 FOR UPDATE SKIP LOCKED"#, [check]
        ).isEmpty {
            guard ContinuousClock.now < end else {
                throw LedgerError.recording(check: check, holder: try holder(of: check, on: connection))
            }
            Thread.sleep(forTimeInterval: .random(in: 0.02...0.06))
        }
        // Set the time of this recording, which must be later than that of every earlier recording. The start time of
        // the transaction may be earlier, because the transaction may have waited for the lock.
        try connection.query(
            """
            UPDATE reeve.checks SET recorded_at = greatest(clock_timestamp(), recorded_at + interval '1 microsecond')
            WHERE "check" = $1
            """, [check])
    }

    /// Returns a description of the session that has locked a check; nil if this role may not see the session. The ID
    /// of the session's transaction is the `xmax` of the check's row.
    private static func holder(of check: String, on connection: isolated Connection) throws -> String? {
        try connection.query(
            """
            SELECT a.pid, a.usename::text, a.application_name
            FROM reeve.checks c
            JOIN pg_catalog.pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = c.xmax
            JOIN pg_catalog.pg_stat_activity a USING (pid)
            WHERE c."check" = $1
            """, [check]
        ).first.map { row in
            var text = "process \(try row.get("pid", as: Int.self))"
            if let user: String = try row.get("usename", as: String?.self) { text += " of \(user)" }
            if let application: String = try row.get("application_name", as: String?.self), !application.isEmpty {
                text += " (\(application))"
            }
            return text
        }
    }

    /// Returns the number of objects with open findings, by system and kind. A kind that had findings earlier, and has
    /// none now, is included with 0.
    ///
    /// - Throws: `PostgresError`.
    public static func counts(of check: String, on connection: isolated Connection) throws -> [Count] {
        try connection.query(
            """
            SELECT nullif(k.system, '') AS system, k.object_kind, (
                SELECT count(DISTINCT f.object) FROM reeve.findings f
                WHERE f."check" = k."check" AND f.system = k.system AND f.object_kind = k.object_kind
                    AND f.cleared_at IS NULL) AS objects
            FROM reeve.finding_kinds k WHERE k."check" = $1
            """, [check]
        ).map {
            Count(system: try $0.get("system"), objectKind: try $0.get("object_kind"), objects: try $0.get("objects"))
        }
    }
}

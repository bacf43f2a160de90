import Postgres

/// Something that a check found, as the ledger remembers it.
public struct Finding: Sendable, Hashable {
    /// nil where it belongs to none.
    public let system: String?
    /// What kind of object it is about.
    public let objectKind: String
    public let object: String
    /// Which of its properties.
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

/// What checks found: since when it has been so, when it was last seen, and when it was gone.
public enum FindingLedger {
    /// What a record changed.
    public struct Change: Sendable, Equatable {
        /// Seen for the first time, or again after it was gone.
        public var new: [Finding] = []
        /// How many are no longer there.
        public var cleared = 0
    }

    /// How many objects of a kind have open findings.
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

    /// Records all that a check found, in one transaction: what it had found before and found no more is cleared.
    /// With something new or cleared, watchers are told by an event `CHECK.changed`.
    ///
    /// - Parameter check: which check, for instance `drift`.
    /// - Throws: `PostgresError`.
    public static func record(
        _ findings: [Finding], of check: String, on connection: isolated Connection
    ) throws -> Change {
        let entries = findings.map {
            Entry(
                system: $0.system ?? "", kind: $0.objectKind, object: $0.object, property: $0.property,
                expected: $0.expected, found: $0.found)
        }
        return try connection.transaction {
            // Two checks at once would each clear what the other found.
            try connection.query("SELECT pg_advisory_xact_lock(hashtext('reeve findings'), hashtext($1))", [check])
            let rows = try connection.query(
                """
                INSERT INTO reeve.findings AS f ("check", system, object_kind, object, property, expected, found)
                SELECT $1, e.system, e.kind, e.object, e.property, left(e.expected, 10000), left(e.found, 10000)
                FROM jsonb_to_recordset($2::jsonb)
                    AS e (system text, kind text, object text, property text, expected text, found text)
                ON CONFLICT ("check", system, object_kind, object, property) WHERE cleared_at IS NULL
                DO UPDATE SET last_seen_at = now(), expected = excluded.expected, found = excluded.found
                RETURNING nullif(f.system, '') AS system, f.object_kind, f.object, f.property, f.expected, f.found,
                    f.first_seen_at = now() AS is_new
                """, [check, try JSONText(encoding: entries)])
            var change = Change()
            for row in rows where try row.get("is_new") {
                change.new.append(
                    Finding(
                        system: try row.get("system"), objectKind: try row.get("object_kind"),
                        object: try row.get("object"), property: try row.get("property"),
                        expected: try row.get("expected"), found: try row.get("found")))
            }
            change.cleared = try connection.query(
                """
                UPDATE reeve.findings SET cleared_at = now()
                WHERE "check" = $1 AND cleared_at IS NULL AND last_seen_at < now() RETURNING 1
                """, [check]
            ).count
            if !change.new.isEmpty || change.cleared > 0 {
                let detail = try JSONText(encoding: ["new": change.new.count, "cleared": change.cleared])
                try Events.record("\(check).changed", subject: "\(findings.count) open", detail: detail, on: connection)
            }
            return change
        }
    }

    /// The objects with open findings, by system and kind; 0 where there were some once.
    ///
    /// - Throws: `PostgresError`.
    public static func counts(of check: String, on connection: isolated Connection) throws -> [Count] {
        try connection.query(
            """
            SELECT nullif(system, '') AS system, object_kind,
                count(DISTINCT object) FILTER (WHERE cleared_at IS NULL) AS objects
            FROM reeve.findings WHERE "check" = $1 GROUP BY 1, 2
            """, [check]
        ).map {
            Count(system: try $0.get("system"), objectKind: try $0.get("object_kind"), objects: try $0.get("objects"))
        }
    }
}

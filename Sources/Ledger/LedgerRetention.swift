import Postgres

/// How long the ledger keeps rows that accumulate. Migrations, backups, open findings and the audit chain are never
/// removed.
public struct LedgerRetention: Sendable, Equatable {
    /// How long to keep finished runs, their occurrences, and attempts at backups.
    public var runs: Duration = .seconds(90 * 86400)
    public var events: Duration = .seconds(30 * 86400)
    /// How long to keep cleared findings, counted from when they were cleared.
    public var findings: Duration = .seconds(90 * 86400)
    /// The number of rows that one transaction reads.
    public var batch = 5000

    public init() {}

    /// The number of rows that `tidy` removed.
    public struct Removed: Sendable, Equatable {
        public var runs = 0
        public var occurrences = 0
        public var attempts = 0
        public var events = 0
        public var findings = 0

        public init() {}
    }

    /// Removes the rows that are older than these limits. Each transaction is short and reads the next rows by key, so
    /// that neither writers nor vacuum have to wait.
    ///
    /// Unfinished runs, the newest run of each task, the newest attempt of each place, and occurrences whose run is
    /// kept are never removed. The totals, from which metrics are computed, do not change.
    ///
    /// - Throws: `PostgresError`; `CancellationError` between two batches. Rows removed before the error are not
    ///   restored.
    public func tidy(on connection: Connection) async throws -> Removed {
        var removed = Removed()
        removed.runs = try await walk(
            on: connection, older: runs,
            """
            WITH seen AS (
                SELECT id, task, state, started_at, finished_at FROM reeve.runs WHERE id > $1 ORDER BY id LIMIT $2
            ), gone AS (
                DELETE FROM reeve.runs r USING seen s
                WHERE r.id = s.id AND s.state <> 'running' AND s.finished_at < $3
                    AND NOT EXISTS (SELECT FROM reeve.task_totals t WHERE t.newest_run = s.id)
                RETURNING 1
            )
            SELECT max(id) AS last, (SELECT count(*) FROM gone) AS gone, max(started_at) < $3 AS may_be_more FROM seen
            """)
        removed.occurrences = try await tidyOccurrences(on: connection)
        removed.attempts = try await walk(
            on: connection, older: runs,
            """
            WITH seen AS (
                SELECT id, place, started_at FROM reeve.backup_attempts WHERE id > $1 ORDER BY id LIMIT $2
            ), gone AS (
                DELETE FROM reeve.backup_attempts a USING seen s
                WHERE a.id = s.id AND s.started_at < $3
                    AND NOT EXISTS (SELECT FROM reeve.place_totals p WHERE p.newest_attempt = s.id)
                RETURNING 1
            )
            SELECT max(id) AS last, (SELECT count(*) FROM gone) AS gone, max(started_at) < $3 AS may_be_more FROM seen
            """)
        removed.events = try await walk(
            on: connection, older: events,
            """
            WITH seen AS (
                SELECT id, at FROM reeve.events WHERE id > $1 ORDER BY id LIMIT $2
            ), gone AS (
                DELETE FROM reeve.events e USING seen s WHERE e.id = s.id AND s.at < $3 RETURNING 1
            )
            SELECT max(id) AS last, (SELECT count(*) FROM gone) AS gone, max(at) < $3 AS may_be_more FROM seen
            """)
        removed.findings = try await walk(
            on: connection, older: findings,
            """
            WITH seen AS (
                SELECT id, first_seen_at, cleared_at FROM reeve.findings WHERE id > $1 ORDER BY id LIMIT $2
            ), gone AS (
                DELETE FROM reeve.findings f USING seen s WHERE f.id = s.id AND s.cleared_at < $3 RETURNING 1
            )
            SELECT max(id) AS last, (SELECT count(*) FROM gone) AS gone, max(first_seen_at) < $3 AS may_be_more
            FROM seen
            """)
        return removed
    }

    /// Reads a table in the order of its key, which is almost the order of time. Ends at the first batch that contains
    /// a row younger than the limit. Each batch begins after the last key that was read, not at the first existing row,
    /// so that it does not scan the rows that were just deleted.
    private func walk(on connection: Connection, older: Duration, _ sql: String) async throws -> Int {
        let limit = try await cutoff(older, on: connection)
        var last: Int64 = 0
        var removed = 0
        while true {
            try Task.checkCancellation()
            let (seen, gone, mayBeMore) = try await connection.with { [last, batch] connection in
                guard let row = try connection.query(sql, [last, batch, limit]).first else {
                    return (nil as Int64?, 0, false)
                }
                return (
                    try row.get("last", as: Int64?.self), try row.get("gone", as: Int.self),
                    try row.get("may_be_more", as: Bool?.self) ?? false
                )
            }
            removed += gone
            guard let seen, mayBeMore else { return removed }
            last = seen
        }
    }

    /// Returns the cutoff time by the database's clock, because that clock wrote the times.
    private func cutoff(_ older: Duration, on connection: Connection) async throws -> Timestamp {
        try await connection.with { connection in
            try connection.query("SELECT clock_timestamp() - $1::interval", [older]).first?.get(0)
                ?? Timestamp.negativeInfinity
        }
    }

    /// Removes old occurrences that never had a run, and those whose run was removed. Sets `kept_since` in the totals
    /// of each task first. An occurrence that was due before `kept_since` counts as claimed, so a removed occurrence
    /// cannot be claimed again.
    private func tidyOccurrences(on connection: Connection) async throws -> Int {
        let limit = try await cutoff(runs, on: connection)
        let tasks = try await connection.with { connection in
            try connection.query(
                "UPDATE reeve.task_totals SET kept_since = greatest(kept_since, $1) RETURNING task", [limit]
            ).map { try $0.get(0, as: String.self) }
        }
        var removed = 0
        for task in tasks {
            var last = Timestamp.negativeInfinity
            while true {
                try Task.checkCancellation()
                let (seen, gone) = try await connection.with { [last, batch] connection in
                    let row = try connection.query(
                        """
                        WITH seen AS (
                            SELECT due_at FROM reeve.occurrences WHERE task = $1 AND due_at > $2 AND due_at < $4
                            ORDER BY due_at LIMIT $3
                        ), gone AS (
                            DELETE FROM reeve.occurrences o USING seen s
                            WHERE o.task = $1 AND o.due_at = s.due_at AND NOT EXISTS (
                                SELECT FROM reeve.runs r WHERE r.task = $1 AND r.occurrence = s.due_at)
                            RETURNING 1
                        )
                        SELECT max(due_at) AS last, (SELECT count(*) FROM gone) AS gone FROM seen
                        """, [task, last, batch, limit]
                    ).first
                    return (try row?.get("last", as: Timestamp?.self) ?? nil, try row?.get("gone", as: Int.self) ?? 0)
                }
                removed += gone
                guard let seen else { break }
                last = seen
            }
        }
        return removed
    }
}

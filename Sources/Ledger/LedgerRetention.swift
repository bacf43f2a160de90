import Postgres

/// How long the ledger keeps what grows with time. Migrations, backups, open findings and the audit chain stay.
public struct LedgerRetention: Sendable, Equatable {
    /// Runs that have ended, their occurrences, and attempts at backups.
    public var runs: Duration = .seconds(90 * 86400)
    public var events: Duration = .seconds(30 * 86400)
    /// Findings that are cleared, from then on.
    public var findings: Duration = .seconds(90 * 86400)
    /// Rows that one transaction looks at.
    public var batch = 5000

    public init() {}

    /// What a run of `tidy` removed.
    public struct Removed: Sendable, Equatable {
        public var runs = 0
        public var occurrences = 0
        public var attempts = 0
        public var events = 0
        public var findings = 0

        public init() {}
    }

    /// Removes what is older, by key in short transactions, so that neither writers nor vacuum wait for it.
    ///
    /// Never goes: what runs, the newest run of each task, the newest attempt of each place, an occurrence whose run is
    /// kept. The totals that metrics read stay what they are.
    ///
    /// - Throws: `PostgresError`; `CancellationError` between two batches. What was removed until then stays so.
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

    /// Goes through a table in the order of its key, which is that of time but for a little; ends at the first batch in
    /// which something is young. Beginning after what was seen, and not at the first row that is there, it does not pass
    /// again and again over what it has just deleted.
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

    /// By the database's clock, which wrote the times.
    private func cutoff(_ older: Duration, on connection: Connection) async throws -> Timestamp {
        try await connection.with { connection in
            try connection.query("SELECT clock_timestamp() - $1::interval", [older]).first?.get(0)
                ?? Timestamp.negativeInfinity
        }
    }

    /// Occurrences without a run that is kept. Before the first goes, the task's totals say from when on they are kept, so
    /// that one which is gone is not claimed a second time.
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

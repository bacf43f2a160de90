import Foundation
import Postgres

/// A run of a task, as recorded in the ledger.
public struct RunRecord: Sendable, Equatable {
    public enum State: String, Sendable, CaseIterable {
        case running, succeeded, failed, cancelled, lost
        case timedOut = "timed_out"
    }

    public enum Reason: String, Sendable {
        case scheduled, manual, retry
    }

    public let id: Int64
    public let task: String
    /// The time at which the run was due; nil for a run that was requested by hand.
    public let occurrence: Timestamp?
    public let attempt: Int
    public let state: State
    public let reason: Reason
    public let instance: String
    public let startedAt: Timestamp
    public let finishedAt: Timestamp?
    public let message: String?
}

/// The runs of tasks. An occurrence is claimed by its key (task, due time), so that only one of several processes runs
/// it. A running run has a lease. When the lease expires, the run counts as lost.
///
/// Each request to run has its own identifier, `wish`. If the answer to a request is lost, the process repeats the
/// request with the same `wish`. It then receives the run that was already granted, and not a second run.
public enum RunLedger {
    /// The tables, in the first version of the ledger.
    static let tables = """
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
        """

    /// The result of a request to run.
    public enum Claim: Sendable, Equatable {
        case granted(run: Int64)
        /// Another request has already claimed this occurrence, or the occurrence is older than what the ledger keeps.
        case taken
        /// The previous run has not ended. The occurrence is recorded as skipped.
        case overlaps
        /// The occurrence is not due yet by the database's clock. Try again after this number of seconds.
        case early(seconds: Double)
    }

    /// Claims an occurrence, or requests a run by hand if `occurrence` is nil.
    ///
    /// - Parameters:
    ///   - lease: how long the run counts as running without a renewal.
    ///   - wish: the identifier of the request. A repeated request must have the same identifier.
    public static func claim(
        task: String, occurrence: Timestamp?, instance: String, lease: Duration, wish: UUID = UUID(),
        on connection: isolated Connection
    ) throws -> Claim {
        let task = LedgerText.clean(task)
        let instance = LedgerText.clean(instance)
        return try connection.transaction {
            if let run = try granted(wish, lease, on: connection) { return .granted(run: run) }
            if let occurrence, let refusal = try take(occurrence, of: task, instance, lease, wish, on: connection) {
                return refusal
            }
            try buryLost(task: task, on: connection)
            let reason: RunRecord.Reason = occurrence == nil ? .manual : .scheduled
            let started = try start(task, occurrence, 1, reason, instance, lease, wish, on: connection)
            if let started { return .granted(run: started) }
            if let occurrence {
                try skip(occurrence, of: task, "the previous run had not ended", on: connection)
            }
            return .overlaps
        }
    }

    /// Starts a further attempt of a failed run.
    ///
    /// - Parameter wish: the identifier of the request. A repeated request must have the same identifier.
    /// - Returns: the number of the run; nil if another run of the task has begun in the meantime.
    public static func retry(
        task: String, occurrence: Timestamp?, attempt: Int, instance: String, lease: Duration, wish: UUID = UUID(),
        on connection: isolated Connection
    ) throws -> Int64? {
        let task = LedgerText.clean(task)
        return try connection.transaction {
            if let run = try granted(wish, lease, on: connection) { return run }
            try buryLost(task: task, on: connection)
            return try start(
                task, occurrence, attempt, .retry, LedgerText.clean(instance), lease, wish, on: connection)
        }
    }

    /// Returns the run that the ledger has already granted to this request, if the run has not ended. Renews the run's
    /// lease.
    private static func granted(
        _ wish: UUID, _ lease: Duration, on connection: isolated Connection
    ) throws -> Int64? {
        try connection.query(
            """
            UPDATE reeve.runs SET lease_until = clock_timestamp() + $2::interval
            WHERE claim = $1 AND state = 'running' RETURNING id
            """, [wish, lease]
        ).first?.get(0)
    }

    /// Claims an occurrence for a request.
    ///
    /// - Returns: nil if the occurrence now belongs to this request; otherwise the result for the caller of `claim`.
    private static func take(
        _ occurrence: Timestamp, of task: String, _ instance: String, _ lease: Duration, _ wish: UUID,
        on connection: isolated Connection
    ) throws -> Claim? {
        let early = try connection.query(
            "SELECT extract(epoch FROM $1::timestamptz - clock_timestamp())::float8", [occurrence])
        if let seconds = try early.first?.get(0, as: Double.self), seconds > 0 { return .early(seconds: seconds) }
        let claimed = try connection.query(
            """
            INSERT INTO reeve.occurrences (task, due_at, state, claimed_by, claim) VALUES ($1, $2, 'claimed', $3, $4)
            ON CONFLICT DO NOTHING RETURNING task
            """, [task, occurrence, instance, wish])
        if claimed.isEmpty {
            // The INSERT may have waited for an earlier attempt to send this request, whose transaction has been
            // committed by now.
            if let run = try granted(wish, lease, on: connection) { return .granted(run: run) }
            let ours = try connection.query(
                "SELECT 1 FROM reeve.occurrences WHERE task = $1 AND due_at = $2 AND claim = $3 AND state = 'skipped'",
                [task, occurrence, wish])
            return ours.isEmpty ? .taken : .overlaps
        }
        // Check this after the INSERT. The INSERT also succeeds if the occurrence was claimed before and
        // `LedgerRetention` has removed the row of the occurrence in the meantime.
        let forgotten = try connection.query(
            "SELECT 1 FROM reeve.task_totals WHERE task = $1 AND kept_since > $2", [task, occurrence])
        guard !forgotten.isEmpty else { return nil }
        try skip(occurrence, of: task, "it is older than the ledger's records", on: connection)
        return .taken
    }

    private static func skip(
        _ occurrence: Timestamp, of task: String, _ reason: String, on connection: isolated Connection
    ) throws {
        try connection.query(
            "UPDATE reeve.occurrences SET state = 'skipped', reason = $3 WHERE task = $1 AND due_at = $2",
            [task, occurrence, reason])
    }

    private static func start(
        _ task: String, _ occurrence: Timestamp?, _ attempt: Int, _ reason: RunRecord.Reason, _ instance: String,
        _ lease: Duration, _ wish: UUID, on connection: isolated Connection
    ) throws -> Int64? {
        let started = try connection.query(
            """
            INSERT INTO reeve.runs (task, occurrence, attempt, reason, state, instance, lease_until, claim)
            VALUES ($1, $2, $3, $4, 'running', $5, clock_timestamp() + $6::interval, $7)
            ON CONFLICT DO NOTHING RETURNING id
            """, [task, occurrence, attempt, reason.rawValue, instance, lease, wish])
        // The conflicting row may be from an earlier attempt to send this request.
        return try started.first?.get(0) ?? granted(wish, lease, on: connection)
    }

    /// Marks the runs of a task whose lease has expired as lost.
    private static func buryLost(task: String, on connection: isolated Connection) throws {
        try connection.query(
            """
            UPDATE reeve.runs SET state = 'lost', finished_at = clock_timestamp(),
                message = 'its process gave no sign of life for longer than its lease'
            WHERE task = $1 AND state = 'running' AND lease_until < clock_timestamp()
            """, [task])
    }

    /// Renews the lease of a run.
    ///
    /// - Returns: false if the run no longer belongs to this process.
    public static func renew(run: Int64, lease: Duration, on connection: isolated Connection) throws -> Bool {
        let rows = try connection.query(
            """
            UPDATE reeve.runs SET lease_until = clock_timestamp() + $2::interval
            WHERE id = $1 AND state = 'running' RETURNING id
            """, [run, lease])
        return !rows.isEmpty
    }

    /// Records the result of a run.
    ///
    /// - Returns: false if the run had already ended, or was marked as lost.
    @discardableResult
    public static func finish(
        run: Int64, _ state: RunRecord.State, message: String, on connection: isolated Connection
    ) throws -> Bool {
        try connection.transaction {
            let rows = try connection.query(
                """
                UPDATE reeve.runs SET state = $2, message = $3, finished_at = clock_timestamp(), lease_until = NULL
                WHERE id = $1 AND state = 'running' RETURNING task
                """, [run, state.rawValue, LedgerText.message(message)])
            guard let task = try rows.first?.get(0, as: String.self) else { return false }
            try Events.record(
                "run.\(state.rawValue)", subject: task, detail: JSONText("{\"run\":\(run)}"), on: connection)
            return true
        }
    }

    /// Returns the newest runs, newest first.
    ///
    /// - Parameters:
    ///   - task: return only the runs of this task.
    ///   - run: return only this run.
    public static func history(
        task: String? = nil, run: Int64? = nil, limit: Int = 50, on connection: isolated Connection
    ) throws -> [RunRecord] {
        let rows = try connection.query(
            """
            SELECT id, task, occurrence, attempt, state, reason, instance, started_at, finished_at, message
            FROM reeve.runs WHERE ($1::text IS NULL OR task = $1) AND ($2::bigint IS NULL OR id = $2)
            ORDER BY started_at DESC, id DESC LIMIT $3
            """, [task, run, limit])
        return try rows.map { row in
            RunRecord(
                id: try row.get("id"), task: try row.get("task"), occurrence: try row.get("occurrence"),
                attempt: try row.get("attempt"),
                state: RunRecord.State(rawValue: try row.get("state", as: String.self)) ?? .lost,
                reason: RunRecord.Reason(rawValue: try row.get("reason", as: String.self)) ?? .scheduled,
                instance: try row.get("instance"), startedAt: try row.get("started_at"),
                finishedAt: try row.get("finished_at"), message: try row.get("message"))
        }
    }

    /// The totals of a task that metrics need after a restart: when the task last succeeded, when it last began, and
    /// how many of its runs ended in each state. Runs whose rows were removed are included.
    public struct Summary: Sendable, Equatable {
        public let task: String
        public let lastStarted: Timestamp
        public let lastSucceeded: Timestamp?
        public let counts: [RunRecord.State: Int]
    }

    /// Returns the totals of all tasks, by name. Reads one row per task.
    public static func summaries(on connection: isolated Connection) throws -> [Summary] {
        try connection.query("SELECT * FROM reeve.task_totals ORDER BY task").map { row in
            var counts: [RunRecord.State: Int] = [:]
            for state in RunRecord.State.allCases where state != .running {
                counts[state] = try row.get(state.rawValue)
            }
            return Summary(
                task: try row.get("task"), lastStarted: try row.get("last_started_at"),
                lastSucceeded: try row.get("last_succeeded_at"), counts: counts)
        }
    }
}

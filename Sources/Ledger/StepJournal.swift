import Postgres
import SQL

/// The journal of one migration that does not run in a single transaction.
public struct StepJournal: Sendable {
    public enum State: String, Sendable { case started, done }

    public enum Direction: String, Sendable { case up, down }

    let system: String
    let version: Int
    let direction: Direction

    public init(system: String, version: Int, direction: Direction) {
        self.system = system
        self.version = version
        self.direction = direction
    }

    /// A step that has begun.
    public struct Step: Sendable, Equatable {
        public let tokenDigest: [UInt8]
        public let state: State
        /// The objects that a statement found before it ran alone; nil if they were not recorded.
        public let found: JSONText?
        /// The state that the step has left in its session; nil if it was not recorded.
        public let session: JSONText?
    }

    /// Returns the steps that have begun, by number.
    public func steps(on connection: isolated Connection) throws -> [Int: Step] {
        let rows = try connection.query(
            """
            SELECT step, token_digest, state, found, session FROM reeve.migration_steps
            WHERE system = $1 AND version = $2 AND direction = $3
            """, [system, version, direction.rawValue])
        var steps: [Int: Step] = [:]
        for row in rows {
            steps[try row.get("step")] = Step(
                tokenDigest: try row.get("token_digest", as: Bytes.self).bytes,
                state: State(rawValue: try row.get("state", as: String.self)) ?? .started, found: try row.get("found"),
                session: try row.get("session"))
        }
        return steps
    }

    /// Records that a step begins, or is done.
    ///
    /// - Parameters:
    ///   - found: the objects that a statement finds before it runs alone.
    ///   - session: the state that the step has left in its session.
    public func note(
        step: Int, tokenDigest: [UInt8], _ state: State, found: JSONText? = nil, session: JSONText? = nil,
        on connection: isolated Connection
    ) throws {
        try connection.query(
            """
            INSERT INTO reeve.migration_steps (
                system, version, direction, step, token_digest, state, found, session, finished_at)
            VALUES ($1, $2, $3, $4, $5::bytea, $6, $7::jsonb, $8::jsonb, CASE WHEN $6 = 'done' THEN clock_timestamp() END)
            ON CONFLICT (system, version, direction, step)
            DO UPDATE SET token_digest = excluded.token_digest, state = excluded.state, found = excluded.found,
                session = excluded.session,
                finished_at = excluded.finished_at
            """, [system, version, direction.rawValue, step, Bytes(tokenDigest), state.rawValue, found, session])
    }

    // MARK: In the transaction of a step

    /// Returns the statement that records a step as done. The statement has no parameters, so that it can be sent
    /// together with others.
    ///
    /// - Parameter session: SQL for the state that the step leaves in its session, as `jsonb`.
    public func doneStatement(step: Int, tokenDigest: [UInt8], session: String) -> String {
        """
        INSERT INTO reeve.migration_steps AS j (
            system, version, direction, step, token_digest, state, session, finished_at)
        VALUES (\(key(step)), \(quoteLiteral(Bytes(tokenDigest).postgresText)), 'done', \(session), clock_timestamp())
        ON CONFLICT (system, version, direction, step)
        DO UPDATE SET token_digest = excluded.token_digest, state = 'done', found = NULL, session = excluded.session,
            finished_at = excluded.finished_at
        """
    }

    /// Returns the statement that changes the recorded state of a session, unless it is as it should be.
    ///
    /// - Parameter change: SQL for the keys that change, as `jsonb`.
    public func sessionStatement(step: Int, change: String) -> String {
        """
        UPDATE reeve.migration_steps j SET session = j.session || c.change FROM (SELECT \(change)) c (change)
        WHERE (j.system, j.version, j.direction, j.step) = (\(key(step)))
            AND j.session IS DISTINCT FROM j.session || c.change
        """
    }

    /// Returns SQL for the recorded state of a step's session; NULL if there is none.
    public func session(ofStep step: Int) -> String {
        """
        (SELECT p.session FROM reeve.migration_steps p
            WHERE (p.system, p.version, p.direction, p.step) = (\(key(step))))
        """
    }

    private func key(_ step: Int) -> String {
        "\(MigrationLedger.literal(system)), \(version), '\(direction.rawValue)', \(step)"
    }

    /// Returns SQL for a value as `jsonb`. It is ASCII, because the session may have another client encoding.
    public static func literal(_ value: JSONText) -> String { "\(MigrationLedger.literal(value.text))::jsonb" }

    // MARK: The end

    /// Deletes the record of a step that has failed, so that the next run does not assume that the step may have had an
    /// effect.
    public func withdraw(step: Int, on connection: isolated Connection) throws {
        try connection.query(
            """
            DELETE FROM reeve.migration_steps
            WHERE system = $1 AND version = $2 AND direction = $3 AND step = $4 AND state = 'started'
            """, [system, version, direction.rawValue, step])
    }

    /// Deletes the journal of a finished migration.
    public func clear(on connection: isolated Connection) throws {
        try connection.query(
            "DELETE FROM reeve.migration_steps WHERE system = $1 AND version = $2", [system, version])
    }
}

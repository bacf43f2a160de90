/// The sessions and transactions that keep other sessions from reading relations of the database.
public enum LockHolders {
    /// Returns the sessions and prepared transactions that hold, or wait for, an ACCESS EXCLUSIVE lock, and the
    /// sessions that are dropping, renaming or changing a schema. A prepared transaction belongs to no session, so
    /// ending a session does not end the prepared transaction.
    ///
    /// - Returns: at most five descriptions. Each names the session or transaction, its state, and the relation or
    ///   schema.
    /// - Throws: `PostgresError`.
    public static func read(on connection: isolated Connection) throws -> [String] {
        try connection.query(
            """
            SELECT DISTINCT l.granted, pg_catalog.format('%I.%I', n.nspname, c.relname) AS relation,
                CASE WHEN x.gid IS NOT NULL
                    THEN pg_catalog.format('the prepared transaction %L of %s', x.gid, x.owner)
                    ELSE \(session("l.pid")) END AS holder
            FROM pg_catalog.pg_locks l
                LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
                -- A prepared transaction has no process, and is known by the lock on its own number.
                LEFT JOIN pg_catalog.pg_locks own ON l.pid IS NULL AND own.pid IS NULL
                    AND own.locktype = 'transactionid' AND own.virtualtransaction = l.virtualtransaction
                LEFT JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = own.transactionid
                JOIN pg_catalog.pg_class c ON c.oid = l.relation
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
                AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
                AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                    WHERE d.datname = pg_catalog.current_database())
                -- Not those that come with a table: its name says enough.
                AND c.relkind NOT IN ('i', 'I', 't')
            UNION ALL
            -- The row of a schema that a transaction has deleted or updated contains the number of the transaction. A
            -- transaction that has only locked the row has neither of these locks.
            SELECT true, pg_catalog.format('schema %I', s.nspname), CASE WHEN x.gid IS NOT NULL
                THEN pg_catalog.format('the prepared transaction %L of %s', x.gid, x.owner)
                ELSE \(session("t.pid")) END
            FROM pg_catalog.pg_namespace s
                JOIN pg_catalog.pg_locks t ON t.locktype = 'transactionid' AND t.granted
                    AND t.transactionid = s.xmax AND t.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
                LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = t.pid
                LEFT JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = t.transactionid
            WHERE EXISTS (
                SELECT FROM pg_catalog.pg_locks r WHERE r.virtualtransaction = t.virtualtransaction
                    AND r.pid IS NOT DISTINCT FROM t.pid
                    AND (r.relation = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND r.mode = 'RowExclusiveLock'
                        OR r.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND r.objid = s.oid
                        AND r.mode = 'AccessExclusiveLock'))
            ORDER BY 1 DESC, 2 LIMIT 5
            """
        ).map { "\(try $0.get("holder", as: String.self)): \(try $0.get("relation", as: String.self))" }
    }

    /// SQL for a description of a session, from a row `a` of pg_stat_activity.
    private static func session(_ pid: String) -> String {
        """
        pg_catalog.format('process %s of %s, %s', \(pid), coalesce(a.usename, 'an unknown user'),
            coalesce(a.state, 'unknown'))
        """
    }

    /// A session that waits for a lock.
    public struct Waiter: Sendable {
        /// Identifies the statement that waits.
        public struct Statement: Sendable, Hashable {
            let process: Int32
            /// The start of the statement, as the server reports it; nil if the server hides it, because the session
            /// belongs to another role and the current role is not privileged.
            let began: String?
        }

        public let statement: Statement
        /// Descriptions of the sessions that block this session, each with the relation that this session waits for.
        public let holders: [String]
    }

    /// Returns the sessions of an application in this database that wait for a lock of another session.
    ///
    /// - Throws: `PostgresError`.
    public static func waiters(of application: String, on connection: isolated Connection) throws -> [Waiter] {
        try connection.query(
            """
            SELECT w.pid, w.query_start::text AS began, (
                SELECT pg_catalog.array_agg(
                    CASE WHEN b.pid = 0 THEN 'a prepared transaction'
                        ELSE \(session("b.pid")) END
                    || coalesce(': ' || pg_catalog.format('%I.%I', n.nspname, c.relname), ''))
                FROM (SELECT DISTINCT unnest AS pid FROM pg_catalog.unnest(blockers)) b
                    LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid
                    LEFT JOIN pg_catalog.pg_locks l ON l.pid = w.pid AND NOT l.granted AND l.locktype = 'relation'
                    LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation
                    LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) AS holders
            FROM pg_catalog.pg_stat_activity w, pg_catalog.pg_blocking_pids(w.pid) AS blockers
            WHERE w.application_name = $1 AND w.datname = pg_catalog.current_database()
                AND pg_catalog.cardinality(blockers) > 0
            """, [application]
        ).map { row in
            Waiter(
                statement: Waiter.Statement(process: try row.get("pid"), began: try row.get("began")),
                holders: try row.get("holders"))
        }
    }

    /// Adds a hint that names the holders of locks to an error about a lock that was not acquired in time (SQLSTATE
    /// 55P03). Returns other errors unchanged.
    public static func explained(_ error: PostgresError, on connection: isolated Connection) -> PostgresError {
        guard error.sqlState == "55P03", let holders = try? read(on: connection), !holders.isEmpty else { return error }
        var error = error
        error.hint = "the lock is held by \(holders.joined(separator: "; "))"
        return error
    }
}

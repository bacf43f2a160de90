import Telemetry

/// The options of a transaction.
public struct TransactionOptions: Sendable {
    public enum Isolation: String, Sendable {
        case repeatableRead = "REPEATABLE READ"
        case serializable = "SERIALIZABLE"
        /// The level that the session has set as its default.
        case ofSession = ""
    }

    public var isolation: Isolation?
    /// Whether the transaction is read-only. Such a transaction changes nothing and sends no notifications, so it does
    /// not matter if the answer to its COMMIT is lost.
    public var readOnly = false
    /// The lock timeout of this transaction; nil: the lock timeout of the connection. `statementTimeout` is analogous.
    public var lockTimeout: Duration?
    public var statementTimeout: Duration?
    /// Statements that are sent together with BEGIN, to save round trips.
    public var preamble: [String] = []
    /// Statements that run after the body, in one message with the query that identifies the transaction, to save round
    /// trips.
    public var closing: [String] = []

    public init(isolation: Isolation? = nil, readOnly: Bool = false) {
        self.isolation = isolation
        self.readOnly = readOnly
    }

    var begin: String {
        // The isolation level is stated, because the owner of a database can change the default.
        var sql = isolation == .ofSession ? "BEGIN" : "BEGIN ISOLATION LEVEL \(isolation?.rawValue ?? "READ COMMITTED")"
        if readOnly { sql += " READ ONLY" }
        return sql
    }
}

extension Connection {
    /// Runs `body` in a transaction. Commits it when `body` returns, and rolls it back when `body` throws.
    ///
    /// A cancelled task or a deadline does not interrupt COMMIT. If the answer to COMMIT is lost, the outcome of the
    /// transaction is looked up on another connection. If the transaction was committed, this method returns normally,
    /// but the connection is closed.
    ///
    /// - Throws: the error of `body`; `PostgresError` of kind `misuse` if a transaction is already open (use
    ///   `savepoint`), of kind `connectionLost` if the connection was lost and the transaction was not committed, of
    ///   kind `commitOutcomeUnknown` if the outcome cannot be determined.
    @discardableResult
    public func transaction<T>(_ options: TransactionOptions = TransactionOptions(), _ body: () throws -> T) throws -> T
    {
        try transaction(options, following: [], body).value
    }

    /// Runs `body` in a transaction, as `transaction(_:_:)` does, and then other statements.
    ///
    /// The other statements are sent in one message with COMMIT. So the server runs them even if this program is killed
    /// as soon as the transaction is committed. The transaction stays committed if one of them fails.
    ///
    /// - Parameter following: statements that run as the session is after the transaction.
    /// - Returns: the value of `body`; the rows of each statement that follows, or nil if one of them failed.
    /// - Throws: the errors of `transaction(_:_:)`.
    public func transaction<T>(
        _ options: TransactionOptions, following: [String], _ body: () throws -> T
    ) throws -> (value: T, following: [Rows]?) {
        guard transactionDepth == 0 else {
            throw PostgresError(.misuse, "a transaction is already open", hint: "use a savepoint within it")
        }
        do {
            try executeAsIs(opening(options).joined(separator: "; "))
        } catch {
            if isInTransaction { rollBack("ROLLBACK") }
            throw error
        }
        transactionDepth = 1
        defer { transactionDepth = 0 }
        let value: T
        let id: TransactionID?
        do {
            value = try body()
            id = try finish(options)
        } catch {
            rollBack("ROLLBACK")
            throw error
        }
        return (value, try commit(id, options, following))
    }

    /// Runs the closing statements. Returns the ID of the transaction, for looking up the outcome of COMMIT. nil if the
    /// transaction has written nothing.
    private func finish(_ options: TransactionOptions) throws -> TransactionID? {
        if isFailed {
            throw PostgresError(.server, "the transaction was rolled back because a statement in it had failed")
        }
        if options.closing.isEmpty { return options.readOnly ? nil : try TransactionID(queryAsIs(TransactionID.query)) }
        var last: Rows?
        try each(of: (options.closing + [TransactionID.query]).joined(separator: ";\n")) { last = $0 }
        return options.readOnly ? nil : try last.flatMap { try TransactionID($0) }
    }

    private func opening(_ options: TransactionOptions) -> [String] {
        var statements = [options.begin]
        // Behind a pooler no settings may be made for the session, so each transaction repeats the settings.
        if isPooled { statements.append(settings.settingsStatement(local: true)) }
        if let timeout = options.lockTimeout { statements.append("SET LOCAL lock_timeout = \(timeout.milliseconds)") }
        if let timeout = options.statementTimeout {
            statements.append("SET LOCAL statement_timeout = \(timeout.milliseconds)")
        }
        return statements + options.preamble
    }

    /// Runs `body` under a savepoint of the open transaction. If `body` throws, rolls back to the savepoint.
    @discardableResult
    public func savepoint<T>(_ body: () throws -> T) throws -> T {
        guard transactionDepth > 0 else {
            throw PostgresError(.misuse, "no transaction is open", hint: "use a savepoint within a transaction")
        }
        let name = "reeve_\(transactionDepth)"
        try executeAsIs("SAVEPOINT \(name)")
        transactionDepth += 1
        defer { transactionDepth -= 1 }
        do {
            let value = try body()
            try executeAsIs("RELEASE SAVEPOINT \(name)")
            return value
        } catch {
            rollBack("ROLLBACK TO SAVEPOINT \(name); RELEASE SAVEPOINT \(name)")
            throw error
        }
    }

    /// Commits the transaction. If the task is cancelled or its deadline has passed, rolls back before COMMIT and
    /// throws. COMMIT itself is not interrupted.
    ///
    /// - Returns: the rows of the statements that follow; nil if one of them failed.
    private func commit(
        _ id: TransactionID?, _ options: TransactionOptions, _ following: [String]
    ) throws -> [Rows]? {
        let outer = (interruptible, deadline)
        defer {
            (interruptible, deadline) = outer
            isCommitting = false
        }
        do {
            if interruptible { try Task.checkCancellation() }
            if let deadline, deadline <= .now { throw PostgresError(.timedOut, "the time limit expired before COMMIT") }
        } catch {
            rollBack("ROLLBACK")
            throw error
        }
        interruptible = false
        isCommitting = true
        deadline = .now + settings.commitPatience
        // The process ID is read now, because it is unknown once the connection is lost.
        let process = serverProcess
        var tag = ""
        var results: [Rows] = []
        do {
            try each(of: (["COMMIT"] + following).joined(separator: ";\n")) {
                if tag.isEmpty { tag = $0.tag.text } else { results.append($0) }
            }
        } catch let error as PostgresError where error.kind == .connectionLost || error.kind == .timedOut {
            close()
            try settle(id, options, process, error)
            return nil
        } catch {
            if isInTransaction { rollBack("ROLLBACK") }
            guard tag == "COMMIT" else { throw error }
            logger.info("a statement behind COMMIT failed", [LogField("error", "\(error)")])
            return nil
        }
        // COMMIT of a failed transaction rolls back and reports no error.
        if tag == "ROLLBACK" {
            throw PostgresError(.server, "the transaction was rolled back because a statement in it had failed")
        }
        return results
    }

    /// Determines the outcome of a COMMIT whose answer was lost.
    private func settle(
        _ id: TransactionID?, _ options: TransactionOptions, _ process: Int, _ error: PostgresError
    ) throws {
        if options.readOnly { return }
        let cause =
            error.kind == .timedOut
            ? "the server did not answer COMMIT in time" : "the connection was lost during COMMIT"
        guard let id else {
            // A transaction that only sends notifications receives its number during COMMIT, so its outcome cannot be
            // looked up.
            throw PostgresError(
                .commitOutcomeUnknown,
                "\(cause), and it is not known whether the transaction was committed: \(error.message); it wrote "
                    + "nothing, but may have sent notifications"
            )
        }
        let lookup = TransactionLookup(settings: settings, logger: logger)
        switch lookup.outcome(of: id, process: isPooled ? nil : process) {
        case .committed:
            logger.warning("\(cause), but the transaction was committed", [LogField("transaction", id.number)])
        case .aborted:
            throw PostgresError(
                .connectionLost,
                "\(cause), and the transaction was not committed: \(error.message)")
        case .unknown(let reason):
            throw PostgresError(
                .commitOutcomeUnknown,
                "\(cause), and it is not known whether the transaction was committed: \(error.message); \(reason)",
                hint: "once the same server answers, run SELECT pg_xact_status('\(id.number)') on it")
        }
    }

    /// Rolls back, even if the task is cancelled or its deadline has passed. If the rollback fails, closes the
    /// connection; the server then rolls back by itself.
    private func rollBack(_ sql: String) {
        guard handle != nil else { return }
        let outer = (interruptible, deadline)
        interruptible = false
        deadline = .now + settings.drainTimeout
        defer { (interruptible, deadline) = outer }
        do { try executeAsIs(sql) } catch { close() }
    }
}

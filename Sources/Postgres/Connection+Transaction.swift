import Telemetry

/// How a transaction is begun.
public struct TransactionOptions: Sendable {
    public enum Isolation: String, Sendable {
        case repeatableRead = "REPEATABLE READ"
        case serializable = "SERIALIZABLE"
    }

    public var isolation: Isolation?
    /// It changes nothing and notifies nobody: a COMMIT of it that is cut off has lost nothing.
    public var readOnly = false
    /// Instead of the connection's own, for this transaction.
    public var lockTimeout: Duration?
    public var statementTimeout: Duration?
    /// Statements that are sent together with BEGIN, which saves their round trips.
    public var preamble: [String] = []

    public init(isolation: Isolation? = nil, readOnly: Bool = false) {
        self.isolation = isolation
        self.readOnly = readOnly
    }

    var begin: String {
        // Always stated explicitly, because the owner of a database can set the default.
        var sql = "BEGIN ISOLATION LEVEL \(isolation?.rawValue ?? "READ COMMITTED")"
        if readOnly { sql += " READ ONLY" }
        return sql
    }
}

extension Connection {
    /// Runs `body` in a transaction: committed when it returns, rolled back when it throws.
    ///
    /// COMMIT is not broken off by a cancelled task or a deadline. Where its answer is lost, another connection asks what
    /// became of it: a transaction that was committed returns as if nothing had happened, on a connection that is closed.
    ///
    /// - Throws: what `body` throws; `PostgresError` of kind `misuse` when a transaction is already open (use
    ///   `savepoint`), of kind `connectionLost` when it was not committed, of kind `commitOutcomeUnknown` when nobody can
    ///   tell whether it was.
    @discardableResult
    public func transaction<T>(_ options: TransactionOptions = TransactionOptions(), _ body: () throws -> T) throws -> T
    {
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
            id = options.readOnly ? nil : try transactionID()
        } catch {
            rollBack("ROLLBACK")
            throw error
        }
        try commit(id, options)
        return value
    }

    /// Runs statements in one transaction with two exchanges: BEGIN and all of them, then COMMIT.
    ///
    /// - Throws: as `transaction`; the error of a statement tells its number in `batchIndex`.
    public func transaction(_ options: TransactionOptions = TransactionOptions(), batch statements: [String]) throws {
        guard transactionDepth == 0 else {
            throw PostgresError(.misuse, "a transaction is already open", hint: "use a savepoint within it")
        }
        let opening = opening(options)
        transactionDepth = 1
        defer { transactionDepth = 0 }
        let id: TransactionID?
        do {
            id = try TransactionID(execute(batch: opening + statements + [TransactionID.query]))
        } catch var error as PostgresError {
            rollBack("ROLLBACK")
            error.batchIndex = error.batchIndex.flatMap { $0 >= opening.count ? $0 - opening.count : nil }
            throw error
        } catch {
            rollBack("ROLLBACK")
            throw error
        }
        try commit(id, options)
    }

    /// Identifies the transaction, to look up the outcome of COMMIT; nil while nothing was written.
    private func transactionID() throws -> TransactionID? {
        if isFailed {
            throw PostgresError(.server, "the transaction was rolled back because a statement in it had failed")
        }
        return try TransactionID(queryAsIs(TransactionID.query))
    }

    private func opening(_ options: TransactionOptions) -> [String] {
        var statements = [options.begin]
        // Behind a pooler nothing may be set on the session, so each transaction repeats the settings.
        if isPooled { statements.append(settings.settingsStatement(local: true)) }
        if let timeout = options.lockTimeout { statements.append("SET LOCAL lock_timeout = \(timeout.milliseconds)") }
        if let timeout = options.statementTimeout {
            statements.append("SET LOCAL statement_timeout = \(timeout.milliseconds)")
        }
        return statements + options.preamble
    }

    /// Runs `body` under a savepoint of the open transaction: kept when it returns, undone when it throws.
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

    /// A cancelled task, or one whose time is over, rolls back before COMMIT; COMMIT itself is not broken off.
    private func commit(_ id: TransactionID?, _ options: TransactionOptions) throws {
        let outer = (interruptible, deadline)
        defer {
            (interruptible, deadline) = outer
            isCommitting = false
        }
        do {
            if interruptible { try Task.checkCancellation() }
            if let deadline, deadline <= .now { throw PostgresError(.timedOut, "no time was left for COMMIT") }
        } catch {
            rollBack("ROLLBACK")
            throw error
        }
        interruptible = false
        isCommitting = true
        deadline = .now + settings.commitPatience
        // Read now, because it is unknown once the connection is lost.
        let process = serverProcess
        do {
            let tag = try executeAsIs("COMMIT")
            // COMMIT of a failed transaction rolls back and reports no error.
            if tag.text == "ROLLBACK" {
                throw PostgresError(.server, "the transaction was rolled back because a statement in it had failed")
            }
        } catch let error as PostgresError where error.kind == .connectionLost || error.kind == .timedOut {
            close()
            try settle(id, options, process, error)
        } catch {
            if isInTransaction { rollBack("ROLLBACK") }
            throw error
        }
    }

    /// Finds out what became of a COMMIT whose answer is lost.
    private func settle(
        _ id: TransactionID?, _ options: TransactionOptions, _ process: Int, _ error: PostgresError
    ) throws {
        if options.readOnly { return }
        let cause =
            error.kind == .timedOut ? "no answer to COMMIT came in time" : "the connection was lost during COMMIT"
        guard let id else {
            // One that notifies, and writes nothing, gets its number only with COMMIT.
            throw PostgresError(
                .commitOutcomeUnknown,
                "\(cause), and whether it took effect is unknown: \(error.message); it wrote nothing, but may have notified"
            )
        }
        let lookup = TransactionLookup(settings: settings, logger: logger)
        switch lookup.outcome(of: id, process: isPooled ? nil : process) {
        case .committed:
            logger.warning("\(cause), and it took effect", [LogField("transaction", id.number)])
        case .aborted:
            throw PostgresError(
                .connectionLost,
                "\(cause), and it did not take effect: \(error.message)")
        case .unknown(let reason):
            throw PostgresError(
                .commitOutcomeUnknown,
                "\(cause), and whether it took effect is unknown: \(error.message); \(reason)",
                hint: "SELECT pg_xact_status('\(id.number)') on the same server tells which, once it answers")
        }
    }

    /// Undoes, also when the task is cancelled or its time is over. A connection that cannot even do that is closed,
    /// and the server then undoes by itself.
    private func rollBack(_ sql: String) {
        guard handle != nil else { return }
        let outer = (interruptible, deadline)
        interruptible = false
        deadline = .now + settings.drainTimeout
        defer { (interruptible, deadline) = outer }
        do { try executeAsIs(sql) } catch { close() }
    }
}

/// How a transaction is begun.
public struct TransactionOptions: Sendable {
    public enum Isolation: String, Sendable {
        case readCommitted = "READ COMMITTED"
        case repeatableRead = "REPEATABLE READ"
        case serializable = "SERIALIZABLE"
    }

    public var isolation: Isolation?
    public var readOnly = false
    /// With serializable and read only: waits for a snapshot that cannot fail.
    public var deferrable = false
    /// Instead of the connection's own, for this transaction.
    public var lockTimeout: Duration?
    public var statementTimeout: Duration?
    /// Statements that are sent together with BEGIN, which saves their round trips.
    public var preamble: [String] = []

    public init(isolation: Isolation? = nil, readOnly: Bool = false, deferrable: Bool = false) {
        self.isolation = isolation
        self.readOnly = readOnly
        self.deferrable = deferrable
    }

    var begin: String {
        var sql = "BEGIN"
        if let isolation { sql += " ISOLATION LEVEL \(isolation.rawValue)" }
        if readOnly { sql += " READ ONLY" }
        if deferrable { sql += " DEFERRABLE" }
        return sql
    }
}

extension Connection {
    /// Runs `body` in a transaction: committed when it returns, rolled back when it throws.
    ///
    /// - Throws: what `body` throws; `PostgresError` of kind `misuse` when a transaction is already open (use
    ///   `savepoint`), of kind `commitOutcomeUnknown` when the connection is lost during COMMIT.
    @discardableResult
    public func transaction<T>(_ options: TransactionOptions = TransactionOptions(), _ body: () throws -> T) throws -> T
    {
        guard transactionDepth == 0 else {
            throw PostgresError(.misuse, "a transaction is already open", hint: "use a savepoint within it")
        }
        do {
            try execute(opening(options).joined(separator: "; "))
        } catch {
            if isInTransaction { rollBack("ROLLBACK") }
            throw error
        }
        transactionDepth = 1
        defer { transactionDepth = 0 }
        let value: T
        do {
            value = try body()
        } catch {
            rollBack("ROLLBACK")
            throw error
        }
        try commit()
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
        do {
            try execute(batch: opening + statements)
        } catch var error as PostgresError {
            rollBack("ROLLBACK")
            error.batchIndex = error.batchIndex.flatMap { $0 >= opening.count ? $0 - opening.count : nil }
            throw error
        } catch {
            rollBack("ROLLBACK")
            throw error
        }
        try commit()
    }

    private func opening(_ options: TransactionOptions) -> [String] {
        var statements = [options.begin]
        // Behind a pooler nothing may be set on the session, so each transaction says it again.
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
        try execute("SAVEPOINT \(name)")
        transactionDepth += 1
        defer { transactionDepth -= 1 }
        do {
            let value = try body()
            try execute("RELEASE SAVEPOINT \(name)")
            return value
        } catch {
            rollBack("ROLLBACK TO SAVEPOINT \(name); RELEASE SAVEPOINT \(name)")
            throw error
        }
    }

    /// A cancelled task rolls back before COMMIT; COMMIT itself is not broken off, for then nobody knew what it did.
    private func commit() throws {
        let outer = interruptible
        defer { interruptible = outer }
        do {
            if interruptible { try Task.checkCancellation() }
            interruptible = false
            let tag = try execute("COMMIT")
            // COMMIT of a failed transaction rolls back and reports no error.
            if tag.text == "ROLLBACK" {
                throw PostgresError(.server, "the transaction was rolled back, for a statement in it had failed")
            }
        } catch var error as PostgresError where error.kind == .connectionLost || error.kind == .timedOut {
            close()
            error.kind = .commitOutcomeUnknown
            error.message = "the connection was lost during COMMIT, whose outcome is unknown: \(error.message)"
            throw error
        } catch {
            if isInTransaction { rollBack("ROLLBACK") }
            throw error
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
        do { try execute(sql) } catch { close() }
    }
}

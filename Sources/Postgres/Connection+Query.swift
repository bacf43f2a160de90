import CLibpq
import Foundation

extension Connection {
    /// Runs one statement and returns its rows.
    ///
    /// - Parameter parameters: the values of `$1`, `$2` …; nil is NULL. The server infers their types.
    /// - Throws: `PostgresError`, `CancellationError`.
    @discardableResult
    public func query(_ sql: String, _ parameters: [(any PostgresEncodable)?] = []) throws -> Rows {
        try pinned { try queryAsIs(sql, parameters) }
    }

    /// Runs `body`. Behind a pooler, runs `body` in a transaction if none is open, because the search path and the
    /// other settings of the connection can be set only for a transaction there.
    private func pinned<T>(_ body: () throws -> T) throws -> T {
        isPooled && transactionDepth == 0 && !isInTransaction ? try transaction(TransactionOptions(), body) : try body()
    }

    @discardableResult
    func queryAsIs(_ sql: String, _ parameters: [(any PostgresEncodable)?] = []) throws -> Rows {
        let texts = try self.texts(of: parameters)
        return try rows(of: sql, texts) { PQsendQueryParams($0, sql, Int32(texts.count), nil, $1, nil, nil, 0) }
    }

    private func texts(of parameters: [(any PostgresEncodable)?]) throws -> [String?] {
        let texts = try parameters.map { try $0?.postgresText }
        for text in texts {
            if let text, text.utf8.contains(0) {
                throw PostgresError(
                    .badValue, "a parameter contains a NUL character, which PostgreSQL does not allow in text")
            }
        }
        return texts
    }

    private func rows(
        of sql: String, _ texts: [String?],
        send: (OpaquePointer, UnsafePointer<UnsafePointer<CChar>?>?) -> Int32
    ) throws -> Rows {
        var collector = RowCollector(limit: settings.resultLimit)
        try exchange(sql) { handle in
            withCStrings(texts) { send(handle, $0) }
        } take: {
            try collector.take($0)
        }
        return collector.rows
    }

    /// Runs one statement as `query` does, and keeps its plan for the session, for a statement that is repeated and
    /// takes longer to plan than to run. The plan is lost when the session is reset. Behind a pooler nothing is kept.
    ///
    /// - Throws: `PostgresError`, `CancellationError`.
    @discardableResult
    public func query(keepingPlan sql: String, _ parameters: [(any PostgresEncodable)?] = []) throws -> Rows {
        if isPooled { return try query(sql, parameters) }
        let texts = try self.texts(of: parameters)
        let name: String
        if let known = keptPlans[sql] {
            name = known
        } else {
            // A name is used once, because a cancelled exchange may have prepared the statement.
            plansMade += 1
            name = "reeve_\(plansMade)"
            try exchange(sql) {
                PQsendPrepare($0, name, sql, 0, nil)
            } take: { _ in
            }
            keptPlans[sql] = name
        }
        return try rows(of: sql, texts) { PQsendQueryPrepared($0, name, Int32(texts.count), $1, nil, nil, 0) }
    }

    /// Runs one or several statements without parameters, as psql sends them. Returns the command tag of the last
    /// statement.
    ///
    /// - Throws: `PostgresError`, `CancellationError`.
    @discardableResult
    public func execute(_ sql: String) throws -> CommandTag {
        try pinned { try executeAsIs(sql) }
    }

    @discardableResult
    func executeAsIs(_ sql: String) throws -> CommandTag {
        var tag = CommandTag("")
        try exchange(sql) {
            PQsendQuery($0, sql)
        } take: {
            tag = CommandTag(String(cString: PQcmdStatus($0)))
        }
        return tag
    }

    /// Runs several statements without parameters, and passes the rows of each one to `take`.
    ///
    /// - Throws: `PostgresError`, `CancellationError`. `take` was called for the statements before the one that failed.
    func each(of sql: String, take: (Rows) -> Void) throws {
        var collector = RowCollector(limit: settings.resultLimit)
        try exchange(sql) {
            PQsendQuery($0, sql)
        } take: {
            try collector.take($0)
            // In single-row mode, the last result of a statement has another status.
            if PQresultStatus($0) == PGRES_SINGLE_TUPLE { return }
            take(collector.rows)
            collector = RowCollector(limit: settings.resultLimit)
        }
    }

    /// Runs a `COPY … FROM STDIN` and sends its data.
    ///
    /// - Throws: `PostgresError`, `CancellationError`.
    @discardableResult
    public func copyIn(_ sql: String, _ data: some Collection<UInt8>) throws -> CommandTag {
        var tag = CommandTag("")
        let bytes = Array(data)
        try exchange(sql) {
            PQsendQuery($0, sql)
        } take: {
            tag = CommandTag(String(cString: PQcmdStatus($0)))
        } copy: { run in
            var rest = bytes[...]
            while !rest.isEmpty {
                let chunk = rest.prefix(65536)
                let sent = chunk.withUnsafeBytes {
                    PQputCopyData(run.handle.raw, $0.bindMemory(to: CChar.self).baseAddress, Int32($0.count))
                }
                if sent < 0 { throw ConnectionGivenUp(cause: PostgresError(.connectionLost, run.handle.lastError)) }
                if sent > 0 { rest = rest.dropFirst(chunk.count) }
                try run.drainOutput()
            }
        }
        return tag
    }

    /// Runs a `COPY … TO STDOUT` and passes its data to `take` as they arrive.
    ///
    /// - Parameter take: receives whole rows, in pieces of about 64 KB. The server waits while `take` runs. If `take`
    ///   throws an error, the statement is cancelled.
    /// - Throws: `PostgresError`, `CancellationError`, or the error of `take`.
    @discardableResult
    public func copyOut(_ sql: String, _ take: (UnsafeRawBufferPointer) throws -> Void) throws -> CommandTag {
        var tag = CommandTag("")
        try withoutActuallyEscaping(take) { take in
            try exchange(sql) {
                PQsendQuery($0, sql)
            } take: {
                tag = CommandTag(String(cString: PQcmdStatus($0)))
            } copyOut: {
                try take($0)
            }
        }
        return tag
    }

    /// Resets the role, the settings and the temporary objects of the session to their state after connecting. Then
    /// repeats the settings that every session of this program needs.
    ///
    /// - Parameter withLocks: whether advisory locks of the session are released, too.
    /// - Throws: `PostgresError`. The connection is closed in that case, because the state of its session is unknown.
    public func resetSession(withLocks: Bool = false) throws {
        let pins = isPooled ? [] : [settings.settingsStatement(local: false, reverted: reverted)]
        // The session is reset even if the task is cancelled or its deadline has passed, because the next unit of work
        // may use the session.
        let outer = (interruptible, deadline)
        interruptible = false
        deadline = .now + settings.drainTimeout
        defer { (interruptible, deadline) = outer }
        keptPlans = [:]
        do {
            let statements =
                [
                    "RESET SESSION AUTHORIZATION", "RESET ROLE", "RESET ALL", "CLOSE ALL", "DEALLOCATE ALL",
                    "UNLISTEN *",
                    "DISCARD TEMP", "DISCARD SEQUENCES",
                ] + (withLocks ? ["SELECT pg_catalog.pg_advisory_unlock_all()"] : [])
            try executeAsIs((statements + pins).joined(separator: ";\n"))
        } catch {
            close()
            throw error
        }
    }

    private func exchange(
        _ sql: String, send: (OpaquePointer) -> Int32, take: (OpaquePointer) throws -> Void,
        copy: ((borrowing StatementRun) throws -> Void)? = nil,
        copyOut: ((UnsafeRawBufferPointer) throws -> Void)? = nil
    ) throws {
        guard let handle else { throw PostgresError(.connectionLost, "the connection is closed") }
        if interruptible { try Task.checkCancellation() }
        if let deadline, deadline <= .now {
            throw PostgresError(.timedOut, "the time limit expired before the statement was sent")
        }
        if sql.utf8.contains(0) { throw PostgresError(.badValue, "the statement contains a NUL character") }
        guard send(handle.raw) == 1 else {
            self.handle = nil
            throw PostgresError(.connectionLost, handle.lastError)
        }
        PQsetSingleRowMode(handle.raw)
        var run = StatementRun(
            handle: handle, wake: wake, deadline: deadline, interruptible: interruptible, isCommit: isCommitting,
            drainTimeout: settings.drainTimeout)
        do {
            try run.finish(take: take, copy: copy, copyOut: copyOut)
        } catch let error as ConnectionGivenUp {
            self.handle = nil
            throw error.cause
        }
    }

    private func withCStrings<R>(
        _ texts: [String?], _ body: (UnsafePointer<UnsafePointer<CChar>?>?) -> R
    ) -> R {
        var pointers = texts.map { $0.flatMap { UnsafePointer(strdup($0)) } }
        defer { for pointer in pointers { free(UnsafeMutablePointer(mutating: pointer)) } }
        return body(&pointers)
    }
}

extension StatementRun {
    /// Sends the COPY data that libpq has buffered, until none are left.
    func drainOutput() throws {
        while try !flushOnce() {
            if interruptible { try Task.checkCancellation() }
            switch try handle.wait(for: POLLIN | POLLOUT, until: deadline, wake: interruptible ? wake : nil) {
            case .ready, .woken: break
            case .late: throw PostgresError(.timedOut, "the data could not be sent within the time limit")
            case .lost: throw ConnectionGivenUp(cause: PostgresError(.connectionLost, handle.lastError))
            }
            if PQconsumeInput(handle.raw) == 0 {
                throw ConnectionGivenUp(cause: PostgresError(.connectionLost, handle.lastError))
            }
        }
    }
}

/// The command tag that the server returns when a command completes, for instance `INSERT 0 5`.
public struct CommandTag: Sendable, Equatable {
    public let text: String

    init(_ text: String) { self.text = text }

    /// The number of rows that were selected, inserted, changed or copied; 0 for other commands.
    public var rowCount: Int { text.split(separator: " ").last.flatMap { Int($0) } ?? 0 }
}

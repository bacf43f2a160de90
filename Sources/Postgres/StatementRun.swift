import CLibpq
import Foundation
import Processes

/// One exchange with the server: from sending a statement until the server is ready for the next one.
///
/// libpq is used in non-blocking mode, and the results are always drained to the end. If the exchange is interrupted
/// (by a deadline, a cancellation or a result that is too large), the statement is cancelled on the server first.
struct StatementRun {
    let handle: LibpqHandle
    let wake: WakeUp
    let deadline: ContinuousClock.Instant?
    let interruptible: Bool
    let isCommit: Bool
    let drainTimeout: Duration
    private var interruption: (any Error)?
    private var cancel: CancelRequest?
    private var drainDeadline: ContinuousClock.Instant?

    init(
        handle: LibpqHandle, wake: WakeUp, deadline: ContinuousClock.Instant?, interruptible: Bool,
        isCommit: Bool, drainTimeout: Duration
    ) {
        self.handle = handle
        self.wake = wake
        self.deadline = deadline
        self.interruptible = interruptible
        self.isCommit = isCommit
        self.drainTimeout = drainTimeout
    }

    /// Reads all results. `take` receives each result that contains rows or a completion. `copy` supplies the data of
    /// COPY IN, and `copyOut` receives the data of COPY OUT. The first error of the server is thrown after all results
    /// are drained.
    ///
    /// - Throws: `PostgresError`, `CancellationError`, or the error of a closure. `ConnectionGivenUp` if the connection
    ///   can no longer be used.
    mutating func finish(
        take: (OpaquePointer) throws -> Void, copy: ((borrowing StatementRun) throws -> Void)? = nil,
        copyOut: ((UnsafeRawBufferPointer) throws -> Void)? = nil
    ) throws {
        var failure: PostgresError?
        do {
            try drain(take: take, copy: copy, copyOut: copyOut, failure: &failure)
            try settle()
        } catch let error as ConnectionGivenUp {
            // The server may have sent the reason before it closed the connection.
            throw failure.map { ConnectionGivenUp(cause: lost($0)) } ?? error
        }
        if let interruption { throw interruption }
        if let failure { throw failure }
    }

    private mutating func drain(
        take: (OpaquePointer) throws -> Void, copy: ((borrowing StatementRun) throws -> Void)?,
        copyOut: ((UnsafeRawBufferPointer) throws -> Void)?, failure: inout PostgresError?
    ) throws {
        try flush()
        while let result = try nextResult() {
            defer { PQclear(result) }
            switch PQresultStatus(result) {
            case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_SINGLE_TUPLE, PGRES_EMPTY_QUERY:
                guard interruption == nil else { continue }
                do { try take(result) } catch { interrupt(error) }
            case PGRES_COPY_IN: try answerCopyIn(copy)
            case PGRES_COPY_OUT: try takeCopyOut(copyOut)
            default:
                failure = failure ?? PostgresError(result: result)
                // The error ends the loop. Without it the loop would not end, because PQgetResult reports a lost
                // connection again and again.
                if PQstatus(handle.raw) == CONNECTION_BAD { throw ConnectionGivenUp(cause: lost(nil)) }
            }
        }
    }

    /// If a cancel request was sent, waits until it has been processed, because it must not hit the next statement.
    private func settle() throws {
        guard let cancel, let drainDeadline else { return }
        if !cancel.finished(by: drainDeadline) {
            throw ConnectionGivenUp(
                cause: interruption ?? PostgresError(.timedOut, "a cancel request did not complete"))
        }
    }

    private mutating func interrupt(_ error: any Error) {
        guard interruption == nil else { return }
        interruption = error
        cancel = CancelRequest(handle)
        drainDeadline = .now + drainTimeout
    }

    /// Sends data that libpq has buffered. Returns false if some are left. The caller must then also read, because the
    /// server may not accept more data before its own output has been read.
    func flushOnce() throws -> Bool {
        switch PQflush(handle.raw) {
        case 0: return true
        case 1: return false
        default: throw ConnectionGivenUp(cause: lost(nil))
        }
    }

    private mutating func flush() throws {
        while try !flushOnce() {
            try pause(for: POLLIN | POLLOUT)
            try consumeInput()
        }
    }

    private mutating func nextResult() throws -> OpaquePointer? {
        while PQisBusy(handle.raw) == 1 {
            try pause(for: POLLIN)
            try consumeInput()
        }
        return PQgetResult(handle.raw)
    }

    /// Waits for the socket. When the deadline passes or the task is cancelled, sends one cancel request. If the
    /// statement is a COMMIT, gives up the connection instead.
    private mutating func pause(for events: Int32) throws {
        if interruption == nil, interruptible, Task.isCancelled { interrupt(CancellationError()) }
        switch try handle.wait(for: events, until: drainDeadline ?? deadline, wake: interruptible ? wake : nil) {
        case .ready: break
        case .woken: break  // the next call checks for cancellation
        case .lost: throw ConnectionGivenUp(cause: lost(nil))
        case .late:
            if let interruption { throw ConnectionGivenUp(cause: interruption) }
            if isCommit { throw ConnectionGivenUp(cause: PostgresError(.timedOut, "the server did not answer")) }
            interrupt(PostgresError(.timedOut, "the statement did not end within the time limit"))
        }
    }

    private mutating func answerCopyIn(_ copy: ((borrowing StatementRun) throws -> Void)?) throws {
        if interruption == nil, let copy {
            do {
                try copy(self)
                PQputCopyEnd(handle.raw, nil)
            } catch let error as ConnectionGivenUp {
                throw error
            } catch {
                interruption = error
                drainDeadline = .now + drainTimeout
                PQputCopyEnd(handle.raw, "interrupted by the client")
            }
        } else {
            PQputCopyEnd(handle.raw, "no data was given")
        }
        try flush()
    }

    /// Passes the output of COPY TO STDOUT to `copyOut`, in pieces of about 64 KB. Without `copyOut`, the statement is
    /// refused.
    private mutating func takeCopyOut(_ copyOut: ((UnsafeRawBufferPointer) throws -> Void)?) throws {
        if copyOut == nil {
            interrupt(PostgresError(.misuse, "COPY TO STDOUT is not a query", hint: "use copyOut"))
        }
        var gathered: [UInt8] = []
        gathered.reserveCapacity(Self.pieceSize + 8192)
        var buffer: UnsafeMutablePointer<CChar>?
        while true {
            let count = PQgetCopyData(handle.raw, &buffer, 1)
            if count > 0 {
                if interruption == nil {
                    gathered.append(contentsOf: UnsafeRawBufferPointer(start: buffer, count: Int(count)))
                }
                PQfreemem(buffer)
                if gathered.count >= Self.pieceSize { handOver(&gathered, copyOut) }
            } else if count == 0 {
                try pause(for: POLLIN)
                try consumeInput()
            } else {
                return handOver(&gathered, copyOut)
            }
        }
    }

    private static let pieceSize = 65536

    private mutating func handOver(_ bytes: inout [UInt8], _ copyOut: ((UnsafeRawBufferPointer) throws -> Void)?) {
        guard interruption == nil, let copyOut, !bytes.isEmpty else { return }
        do { try bytes.withUnsafeBytes(copyOut) } catch { interrupt(error) }
        bytes.removeAll(keepingCapacity: true)
    }

    private func consumeInput() throws {
        if PQconsumeInput(handle.raw) == 0 { throw ConnectionGivenUp(cause: lost(nil)) }
    }

    private func lost(_ error: PostgresError?) -> PostgresError {
        var error = error ?? PostgresError(.connectionLost, "")
        error.kind = .connectionLost
        if error.message.isEmpty { error.message = handle.lastError }
        return error
    }
}

/// The connection can no longer be used. `cause` is the error for the caller.
struct ConnectionGivenUp: Error {
    let cause: any Error
}

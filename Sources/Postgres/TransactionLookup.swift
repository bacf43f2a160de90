import CLibpq
import Foundation
import Processes
import Telemetry

/// Identifies a transaction of one server. The number alone is not enough. After a failover, another transaction may
/// have the same number. After a crash, the server reuses numbers whose log records had not reached the disk.
struct TransactionID: Equatable {
    /// The number, as `pg_current_xact_id` returns it.
    let number: String
    /// The start time of the server, in microseconds, which distinguishes the server from all others.
    let server: String
    /// A value that changes when the server recovers from the crash of one of its processes. Such a recovery does not
    /// change the start time of the server.
    let recovery: String

    static let query = """
        SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text, \(serverColumn), \(recoveryColumn)
        """

    static let serverColumn = microseconds("pg_catalog.pg_postmaster_start_time()")

    /// SQL for `recovery`: the time of the last reset of the statistics, because a recovery resets them. An ordinary
    /// role can see no other sign of a recovery. A reset with `pg_stat_reset_shared` looks like a recovery.
    static let recoveryColumn = microseconds(
        "coalesce(pg_catalog.pg_stat_get_bgwriter_stat_reset_time(), pg_catalog.clock_timestamp())")

    /// SQL for a time in microseconds, as text that does not depend on the settings of the session.
    private static func microseconds(_ time: String) -> String {
        """
        (pg_catalog.date_part('epoch', \(time))
            OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8::pg_catalog.text
        """
    }

    init(number: String, server: String, recovery: String) {
        self.number = number
        self.server = server
        self.recovery = recovery
    }

    /// Reads the result of `query`. nil if the transaction has written nothing.
    init?(_ rows: Rows) throws {
        guard let row = rows.first, let number: String = try row.get(0, as: String?.self) else { return nil }
        self.init(number: number, server: try row.get(1), recovery: try row.get(2))
    }
}

/// Determines, on another connection, the outcome of a transaction whose connection was lost.
struct TransactionLookup {
    enum Outcome: Equatable {
        case committed
        case aborted
        case unknown(reason: String)
    }

    let settings: ConnectionSettings
    let logger: Logger

    /// Queries the server until it reports the outcome, for at most `settings.outcomeTimeout`.
    ///
    /// - Parameters:
    ///   - id: the transaction, as it was identified before COMMIT.
    ///   - process: the ID of the server process that ran the transaction; nil if a pooler hides it.
    func outcome(of id: TransactionID, process: Int?) -> Outcome {
        let end = ContinuousClock.now + settings.outcomeTimeout
        var reason = "the server did not answer"
        while true {
            do {
                switch try ask(id, process, until: end) {
                case .settled(let outcome): return outcome
                case .running: reason = "the transaction is still in progress"
                }
            } catch {
                reason = (error as? PostgresError)?.message ?? "\(error)"
            }
            guard ContinuousClock.now < end else { return .unknown(reason: reason) }
            Thread.sleep(forTimeInterval: 0.1)
        }
    }

    private enum Answer {
        case settled(Outcome)
        case running
    }

    private func ask(_ id: TransactionID, _ process: Int?, until end: ContinuousClock.Instant) throws -> Answer {
        var settings = settings
        settings.connectTimeout = min(settings.connectTimeout, max(.seconds(1), ContinuousClock.now.duration(to: end)))
        let session = try LookupSession(settings, logger: logger, until: end)
        defer { session.leave() }
        let row = try session.row(
            """
            SELECT pg_catalog.pg_is_in_recovery()::pg_catalog.text, \(TransactionID.serverColumn),
                \(TransactionID.recoveryColumn),
                CASE WHEN \(TransactionID.serverColumn) OPERATOR(pg_catalog.=) $2::pg_catalog.text
                        AND \(TransactionID.recoveryColumn) OPERATOR(pg_catalog.=) $3::pg_catalog.text
                    THEN pg_catalog.pg_xact_status($1::pg_catalog.xid8) END
            """, [id.number, id.server, id.recovery])
        // A standby has only the transactions that were replicated to it, so its answer proves nothing.
        if row[0] == "true" { return .settled(.unknown(reason: "a standby now answers instead of the server")) }
        guard row[1] == id.server else {
            return .settled(
                .unknown(reason: "the server was restarted, or another server now answers instead"))
        }
        guard row[2] == id.recovery else {
            return .settled(
                .unknown(
                    reason:
                        "the server has recovered from a crash, and may have reused the transaction's number"))
        }
        switch row[3] {
        case "committed": return .settled(.committed)
        case "aborted": return .settled(.aborted)
        case "in progress":
            if let process { try endIdle(process, id.number, session) }
            return .running
        default: return .settled(.unknown(reason: "the server no longer has the status of the transaction"))
        }
    }

    /// Ends the session of the transaction if the session is only waiting for its client. In that case the session
    /// never received the COMMIT, and does not detect that its client is gone. A session that is running the COMMIT is
    /// left alone.
    private func endIdle(_ process: Int, _ id: String, _ session: LookupSession) throws {
        _ = try session.row(
            """
            SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(a.pid))::pg_catalog.text
            FROM pg_catalog.pg_stat_activity a
            WHERE a.pid = $1::pg_catalog.int4 AND a.state LIKE 'idle in transaction%'
                AND a.backend_xid::pg_catalog.text
                    = ($2::pg_catalog.int8 % 4294967296::pg_catalog.int8)::pg_catalog.text
            """, [String(process), id])
    }
}

/// A connection for one or two queries, on the thread of the lost connection. The queries run in one transaction,
/// because there may be a pooler. The transaction begins with the settings that other connections make for their
/// session.
private struct LookupSession {
    private let handle: LibpqHandle
    private let wake: WakeUp
    private let end: ContinuousClock.Instant

    init(_ settings: ConnectionSettings, logger: Logger, until end: ContinuousClock.Instant) throws {
        // The lookup has its own flag. The flag of the lost connection is raised when the connection's task is
        // cancelled, but a cancellation must not end the lookup.
        wake = try WakeUp()
        self.end = end
        handle = try ConnectAttempt(settings: settings, logger: logger, wake: wake).connect()
        PQsetnonblocking(handle.raw, 1)
        _ = try rows("BEGIN READ ONLY", [])
        _ = try row(settings.settingsStatement(local: true), [])
    }

    /// Ends the transaction, so that a pooler gets its session back unchanged.
    func leave() { _ = try? rows("COMMIT", []) }

    /// Returns the texts of the only row.
    func row(_ sql: String, _ parameters: [String]) throws -> [String?] {
        guard let cells = try rows(sql, parameters).last else {
            throw PostgresError(.badValue, "the lookup returned no row")
        }
        return cells
    }

    private func rows(_ sql: String, _ parameters: [String]) throws -> [[String?]] {
        let pointers = parameters.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        let values = pointers.map { UnsafePointer($0) }
        guard PQsendQueryParams(handle.raw, sql, Int32(values.count), nil, values, nil, nil, 0) == 1 else {
            throw PostgresError(.connectionLost, handle.lastError)
        }
        var run = StatementRun(
            handle: handle, wake: wake, deadline: end, interruptible: false, isCommit: false,
            drainTimeout: .seconds(1))
        var rows: [[String?]] = []
        do {
            try run.finish { result in
                guard PQntuples(result) > 0 else { return }
                rows.append(
                    (0..<PQnfields(result)).map { column in
                        PQgetisnull(result, 0, column) == 1
                            ? nil : PQgetvalue(result, 0, column).map { String(cString: $0) }
                    })
            }
        } catch let error as ConnectionGivenUp {
            throw error.cause
        }
        return rows
    }
}

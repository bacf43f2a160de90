import Postgres
import Reporting
import Telemetry

/// Ends a restore test that takes too long, and tells of statements that run for long.
///
/// An index or a constraint can call a function that does not return, and that also catches the request to cancel it.
struct StatementWatch: Sendable {
    let target: ConnectionSettings
    /// How long the test may take; nil: as long as it needs.
    let limit: Duration?
    let logger: Logger
    /// The time between two checks.
    var interval: Duration = .seconds(30)
    /// How long a statement runs before it is told of. Told of again each time that its duration has doubled.
    var patience: Duration = .seconds(600)

    private struct Running {
        let process: Int
        let began: String
        let text: String
        let seconds: Double
    }

    /// Checks until the limit is reached, or until the task is cancelled.
    ///
    /// - Throws: `BackupError.testTimedOut`.
    func run() async throws {
        let end = limit.map { ContinuousClock.now + $0 }
        var told: (process: Int, began: String)?
        var next = patience
        while (try? await Task.sleep(for: end.map { min(interval, max(.zero, $0 - .now)) } ?? interval)) != nil {
            let running = try? await longest()
            if let limit, let end, .now >= end {
                throw BackupError.testTimedOut(limit: limit, statement: running?.text)
            }
            guard let running else { continue }
            if told?.process != running.process || told?.began != running.began {
                told = (running.process, running.began)
                next = patience
            }
            guard .seconds(running.seconds) >= next else { continue }
            next = next * 2
            logger.notice(
                "a statement of the restore test has been running for \(Int(running.seconds / 60)) min",
                [LogField("statement", running.text)])
        }
    }

    /// Returns the statement that has been running for the longest time.
    private func longest() async throws -> Running? {
        try await Connection.opened(target.restoring.named("reeve restore watch")) { connection in
            try await connection.with { connection in
                try connection.query(
                    """
                    SELECT pid, query_start::text, regexp_replace(left(query, 500), '\\s+', ' ', 'g'),
                        extract(epoch FROM clock_timestamp() - query_start)::float8
                    FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'
                    ORDER BY query_start LIMIT 1
                    """
                ).first.map {
                    Running(process: try $0.get(0), began: try $0.get(1), text: try $0.get(2), seconds: try $0.get(3))
                }
            }
        }
    }
}

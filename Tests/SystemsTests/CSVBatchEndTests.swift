import Foundation
import Postgres
import TestSupport
import Testing

/// When a batch ends, and when it begins again: no row is stranded in a batch that is completed.
@Suite(.database(.systems), .timeLimit(.minutes(5)))
struct CSVBatchEndTests {
    private typealias Fixture = CSVBatchFixture

    /// Runs a test on one connection, and then the checks of a restored copy.
    private func run(_ body: @Sendable (isolated Connection) throws -> Void) async throws {
        try await TestDatabase.current.with { connection in
            try body(connection)
            #expect(try Fixture.unproved(connection) == [])
        }
    }

    @Test(arguments: [
        "UPDATE csv_row_jobs SET status = 'pending' WHERE status = 'failed'",
        "UPDATE csv_row_jobs SET status = 'processing' WHERE status = 'failed'",
        "SELECT update_csv_row_job_result(id, 'pending') FROM csv_row_jobs WHERE status = 'failed'",
        "UPDATE csv_row_jobs SET status = 'pending', retry_count = 0, error_message = NULL",
    ])
    func `a failed row that is put back is worked on again`(putBack: String) async throws {
        try await run { connection in
            let batch = try Fixture.batch(connection, rows: 2)
            let first = try #require(try Fixture.claim(connection, "w"))
            let second = try #require(try Fixture.claim(connection, "w"))
            #expect(try Fixture.store(connection, first.job, "completed"))
            #expect(try Fixture.store(connection, second.job, "failed"))
            #expect(try Fixture.state(connection, batch) == "completed 2/1/1 of 2, 0 open")
            try connection.execute(putBack)
            #expect(try Fixture.state(connection, batch).hasPrefix("processing"))
            #expect(try Fixture.unproved(connection) == [])
            try connection.execute(
                "UPDATE csv_row_jobs SET claimed_at = now() - interval '1 hour' WHERE status = 'processing'")
            while let again = try Fixture.claim(connection, "w") {
                #expect(try Fixture.store(connection, again.job, "completed"))
            }
            #expect(try Fixture.state(connection, batch) == "completed 2/2/0 of 2, 0 open")
        }
    }

    @Test(arguments: ["uploaded", "queued"])
    func `rows that come while the total is not known are all worked on`(status: String) async throws {
        try await run { connection in
            let batch = try Fixture.batch(connection, rows: 0, status: status)
            for number in 1...3 {
                try Fixture.addRows(connection, to: batch, number...number)
                let claim = try #require(try Fixture.claim(connection, "w"))
                #expect(claim.row == number)
                #expect(try Fixture.store(connection, claim.job, "completed"))
                #expect(try Fixture.state(connection, batch) == "completed \(number)/\(number)/0 of \(number), 0 open")
            }
            // The total becomes known late.
            try connection.query("UPDATE csv_batches SET total_rows = 4 WHERE id = $1", [batch])
            #expect(try Fixture.state(connection, batch) == "processing 3/3/0 of 4, 0 open")
            try Fixture.addRows(connection, to: batch, 4...5)
            #expect(try Fixture.state(connection, batch) == "processing 3/3/0 of 5, 2 open")
        }
    }

    @Test func `a late result changes neither a row nor a batch that is completed`() async throws {
        try await run { connection in
            let batch = try Fixture.batch(connection, rows: 1)
            let claim = try #require(try Fixture.claim(connection, "w"))
            #expect(try Fixture.store(connection, claim.job, "completed"))
            for late in ["processing", "failed", "completed", "pending"] {
                #expect(try !Fixture.store(connection, claim.job, late), "\(late)")
            }
            #expect(try Fixture.state(connection, batch) == "completed 1/1/0 of 1, 0 open")
        }
    }

    @Test func `a batch of no rows ends when it is queued, and begins when rows follow`() async throws {
        try await run { connection in
            let queued = try Fixture.batch(connection, rows: 0, status: "queued")
            #expect(try Fixture.state(connection, queued) == "completed 0/0/0 of 0, 0 open")
            let uploaded = try Fixture.batch(connection, rows: 0)
            #expect(try Fixture.state(connection, uploaded) == "uploaded 0/0/0 of 0, 0 open")
            try connection.query("UPDATE csv_batches SET status = 'queued' WHERE id = $1", [uploaded])
            #expect(try Fixture.state(connection, uploaded) == "completed 0/0/0 of 0, 0 open")
            try Fixture.addRows(connection, to: queued, 1...2)
            #expect(try Fixture.state(connection, queued) == "queued 0/0/0 of 2, 2 open")
            #expect(try Fixture.claim(connection, "w")?.batch == queued)
            // Rows that were announced are waited for.
            let announced = try Fixture.batch(connection, rows: 0, total: 7, status: "queued")
            #expect(try Fixture.state(connection, announced) == "queued 0/0/0 of 7, 0 open")
        }
    }

    @Test func `the deletion of the last open row ends the batch`() async throws {
        try await run { connection in
            let batch = try Fixture.batch(connection, rows: 3)
            let claim = try #require(try Fixture.claim(connection, "w"))
            #expect(try Fixture.store(connection, claim.job, "completed"))
            try connection.execute("DELETE FROM csv_row_jobs WHERE row_number = 2")
            #expect(try Fixture.state(connection, batch) == "processing 1/1/0 of 2, 1 open")
            try connection.execute("DELETE FROM csv_row_jobs WHERE row_number = 3")
            #expect(try Fixture.state(connection, batch) == "completed 1/1/0 of 1, 0 open")
            let fresh = try Fixture.batch(connection, rows: 2)
            try connection.query("DELETE FROM csv_row_jobs WHERE batch_id = $1", [fresh])
            #expect(try Fixture.state(connection, fresh) == "completed 0/0/0 of 0, 0 open")
            let moved = try Fixture.batch(connection, rows: 1)
            try connection.query(
                "UPDATE csv_row_jobs SET batch_id = $1, row_number = 9 WHERE batch_id = $2", [fresh, moved])
            #expect(try Fixture.state(connection, fresh) == "queued 0/0/0 of 1, 1 open")
            #expect(try Fixture.state(connection, moved) == "completed 0/0/0 of 0, 0 open")
            try connection.execute("TRUNCATE csv_row_jobs CASCADE")
            #expect(try Fixture.state(connection, batch) == "completed 0/0/0 of 0, 0 open")
            #expect(try Fixture.state(connection, fresh) == "completed 0/0/0 of 0, 0 open")
        }
    }

    @Test func `what is cancelled or failed stays so, and what is open is not completed by hand`() async throws {
        try await run { connection in
            let batch = try Fixture.batch(connection, rows: 2)
            let error = #expect(throws: PostgresError.self) {
                try connection.query("UPDATE csv_batches SET status = 'completed' WHERE id = $1", [batch])
            }
            #expect(error?.sqlState == "23514")
            #expect(error?.hint?.contains("cancelled") == true)
            let claim = try #require(try Fixture.claim(connection, "w"))
            for status in ["cancelled", "failed"] {
                try connection.query("UPDATE csv_batches SET status = $2 WHERE id = $1", [batch, status])
                #expect(try Fixture.claim(connection, "w") == nil)
            }
            #expect(try Fixture.store(connection, claim.job, "failed"))
            try connection.execute("UPDATE csv_row_jobs SET status = 'pending'")
            #expect(try Fixture.state(connection, batch) == "failed 0/0/0 of 2, 2 open")
            try connection.query("UPDATE csv_batches SET status = 'queued' WHERE id = $1", [batch])
            #expect(try Fixture.claim(connection, "w")?.row == 1)
        }
    }

    @Test func `statements of many rows are counted exactly, over several batches`() async throws {
        try await run { connection in
            let batches = try (0..<3).map { _ in try Fixture.batch(connection, rows: 500) }
            for (sql, state) in [
                ("UPDATE csv_row_jobs SET status = 'claimed'", "processing 0/0/0 of 500, 500 open"),
                (
                    "UPDATE csv_row_jobs SET status = 'completed' WHERE row_number > 100",
                    "processing 400/400/0 of 500, 100 open"
                ),
                (
                    "UPDATE csv_row_jobs SET status = 'failed' WHERE row_number <= 110",
                    "completed 500/390/110 of 500, 0 open"
                ),
                (
                    "UPDATE csv_row_jobs SET status = 'pending' WHERE row_number > 300",
                    "processing 300/190/110 of 500, 200 open"
                ),
                (
                    "DELETE FROM csv_row_jobs WHERE row_number BETWEEN 101 AND 400",
                    "processing 100/0/100 of 200, 100 open"
                ),
            ] {
                try connection.execute(sql)
                for batch in batches { #expect(try Fixture.state(connection, batch) == state, "\(sql)") }
                #expect(try Fixture.unproved(connection) == [], "\(sql)")
            }
            // Claims look where rows are pending: not at all in batches of which all are held.
            try connection.execute("UPDATE csv_row_jobs SET status = 'claimed' WHERE row_number > 400")
            let claimable = try connection.query("SELECT id FROM csv_batches WHERE first_pending_row IS NOT NULL")
            #expect(claimable.isEmpty)
        }
    }

    @Test func `the specification's monitoring queries run for every state`() async throws {
        try await run { connection in
            _ = try Fixture.batch(connection, rows: 0)
            _ = try Fixture.batch(connection, rows: 0, status: "queued")
            _ = try Fixture.batch(connection, rows: 0, status: "processing")
            let batch = try Fixture.batch(connection, rows: 1, status: "processing")
            try connection.execute("SELECT update_csv_worker_heartbeat('w', 'idle')")
            let active = try connection.query(
                """
                SELECT b.*,
                       ROUND((b.processed_rows::NUMERIC / b.total_rows) * 100, 2) as progress_pct
                FROM csv_batches b
                WHERE status IN ('processing', 'queued')
                ORDER BY created_at DESC;
                """)
            #expect(try active.map { try $0.get("id", as: UUID.self) } == [batch])
            let health = try connection.query(
                """
                SELECT instance_id, status, last_heartbeat,
                       current_job_count, total_jobs_processed
                FROM csv_processing_workers
                WHERE last_heartbeat > NOW() - INTERVAL '5 minutes'
                ORDER BY last_heartbeat DESC;
                """)
            #expect(health.count == 1)
            try connection.execute("UPDATE csv_row_jobs SET status = 'failed'")
            let failed = try connection.query(
                """
                SELECT b.filename, COUNT(*) as failed_count
                FROM csv_batches b
                JOIN csv_row_jobs rj ON b.id = rj.batch_id
                WHERE rj.status = 'failed'
                GROUP BY b.id, b.filename
                ORDER BY failed_count DESC;
                """)
            #expect(try failed.map { try $0.get("failed_count", as: Int.self) } == [1])
        }
    }
}

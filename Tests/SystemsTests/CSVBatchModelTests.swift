import Foundation
import Postgres
import TestSupport
import Testing

/// Random calls of workers, users and operators at once. Direct changes of rows lock as 0002_functions of the system
/// says.
@Suite(.database(.systems), .heavy, .timeLimit(.minutes(60)))
struct CSVBatchModelTests {
    private typealias Fixture = CSVBatchFixture
    private typealias Call = RandomCalls.Call

    private static func worker(_ generator: inout SeededGenerator) -> String {
        "w\(Int.random(in: 1...12, using: &generator))"
    }

    private static func one(_ connection: isolated Connection, _ sql: String) throws -> UUID? {
        try connection.query(sql).first?.get(0)
    }

    /// A random row of a table, by its key, without reading the table.
    private static func any(
        _ table: String, _ connection: isolated Connection, _ generator: inout SeededGenerator
    ) throws -> UUID? {
        let start = UUID(
            uuid: (
                UInt8.random(in: 0...255, using: &generator), UInt8.random(in: 0...255, using: &generator), 0, 0, 0, 0,
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0
            ))
        return try one(connection, "SELECT id FROM \(table) WHERE id >= '\(start)' ORDER BY id LIMIT 1")
    }

    /// Changes rows of a batch as one who is not alone. `change` is what comes before WHERE.
    private static func change(
        _ connection: isolated Connection, batch: UUID?, _ change: String, where condition: String
    ) throws {
        guard let batch else { return }
        try connection.transaction {
            guard try !connection.query("SELECT FROM csv_batches WHERE id = $1 FOR KEY SHARE", [batch]).isEmpty else {
                return
            }
            try connection.execute(
                """
                \(change) WHERE id IN (
                    SELECT id FROM csv_row_jobs WHERE batch_id = '\(batch)' AND \(condition) ORDER BY id FOR UPDATE)
                """)
        }
    }

    private static let statuses = ["completed", "completed", "completed", "failed", "processing", "pending"]

    private static let calls: [Call] = [
        Call("work", weight: 30) { connection, generator in
            let worker = worker(&generator)
            guard let claim = try Fixture.claim(connection, worker, timeout: 1) else { return }
            let status = statuses.randomElement(using: &generator) ?? "failed"
            _ = try Fixture.store(connection, claim.job, status, worker: worker, number: claim.number)
        },
        Call("claim and forget", weight: 6) { connection, generator in
            _ = try Fixture.claim(connection, worker(&generator), timeout: 1)
        },
        Call("work for one batch", weight: 6) { connection, generator in
            guard let batch = try any("csv_batches", connection, &generator) else { return }
            try connection.query("SELECT update_csv_worker_heartbeat($1, batch_id => $2)", ["d-\(batch)", batch])
            if let claim = try Fixture.claim(connection, "d-\(batch)") {
                _ = try Fixture.store(connection, claim.job, "completed", worker: "d-\(batch)")
            }
        },
        Call("late result", weight: 6) { connection, generator in
            guard let job = try any("csv_row_jobs", connection, &generator) else { return }
            let status = ["completed", "failed", "processing"].randomElement(using: &generator) ?? "failed"
            let worker = Bool.random(using: &generator) ? worker(&generator) : nil
            _ = try Fixture.store(connection, job, status, worker: worker, number: worker == nil ? nil : 1)
        },
        Call("new batch", weight: 4) { connection, generator in
            let rows = Int.random(in: 0...8, using: &generator)
            let total = Bool.random(using: &generator) ? 0 : rows
            let status = Bool.random(using: &generator) ? "queued" : "uploaded"
            _ = try Fixture.batch(connection, rows: rows, total: total, status: status)
        },
        Call("rows follow", weight: 4) { connection, generator in
            guard let batch = try any("csv_batches", connection, &generator) else { return }
            let first = Int.random(in: 10...1_000_000, using: &generator)
            try Fixture.addRows(connection, to: batch, first...(first + 3))
        },
        Call("put back", weight: 3) { connection, generator in
            try change(
                connection, batch: any("csv_batches", connection, &generator),
                "UPDATE csv_row_jobs SET status = 'pending', retry_count = 0", where: "status = 'failed'")
        },
        Call("all by hand", weight: 1) { connection, generator in
            let status = ["pending", "processing"].randomElement(using: &generator) ?? ""
            try change(
                connection, batch: any("csv_batches", connection, &generator),
                "UPDATE csv_row_jobs SET status = '\(status)'", where: "row_number % 3 = 0")
        },
        Call("by hand over batches", weight: 1) { connection, generator in
            let status = ["pending", "completed"].randomElement(using: &generator) ?? ""
            let batches = try (0..<4).compactMap { _ in try any("csv_batches", connection, &generator) }
            let list = batches.map { "'\($0)'" }.joined(separator: ", ")
            guard !batches.isEmpty else { return }
            try connection.transaction {
                try connection.execute("SELECT FROM csv_batches WHERE id IN (\(list)) ORDER BY id FOR KEY SHARE")
                try connection.execute(
                    """
                    UPDATE csv_row_jobs SET status = '\(status)', trigger_text = 'plain' WHERE id IN (
                        SELECT id FROM csv_row_jobs WHERE batch_id IN (\(list)) AND row_number % 4 = 1
                        ORDER BY id FOR UPDATE)
                    """)
            }
        },
        Call("time passes", weight: 3) { connection, generator in
            try change(
                connection, batch: any("csv_batches", connection, &generator),
                "UPDATE csv_row_jobs SET claimed_at = now() - interval '15 minutes'",
                where: "status IN ('claimed', 'processing')")
        },
        Call("delete rows", weight: 2) { connection, generator in
            try change(
                connection, batch: any("csv_batches", connection, &generator),
                "DELETE FROM csv_row_jobs", where: "row_number % 2 = 0")
        },
        Call("delete batches", weight: 2) { connection, generator in
            guard let batch = try any("csv_batches", connection, &generator) else { return }
            try connection.query("DELETE FROM csv_batches WHERE id = $1", [batch])
        },
        Call("decide", weight: 2) { connection, generator in
            guard let batch = try any("csv_batches", connection, &generator) else { return }
            let status = ["queued", "queued", "completed", "cancelled", "processing"].randomElement(using: &generator)
            try connection.query("UPDATE csv_batches SET status = $2 WHERE id = $1", [batch, status])
        },
        Call("declare", weight: 1) { connection, generator in
            guard let batch = try any("csv_batches", connection, &generator) else { return }
            let total = Int.random(in: 0...12, using: &generator)
            try connection.query("UPDATE csv_batches SET total_rows = $2 WHERE id = $1", [batch, total])
        },
        Call("heartbeat", weight: 4) { connection, generator in
            let status = ["idle", "processing", "stopped"].randomElement(using: &generator)
            try connection.query("SELECT update_csv_worker_heartbeat($1, $2)", [worker(&generator), status])
        },
        Call("clean up", weight: 1) { connection, generator in
            try connection.query(
                "UPDATE csv_processing_workers SET last_heartbeat = now() - interval '1 hour' WHERE instance_id = $1",
                [worker(&generator)])
            try connection.execute("SELECT cleanup_stale_csv_workers()")
        },
        Call("release", weight: 1) { connection, generator in
            try connection.query(
                """
                SELECT release_csv_row_jobs(coalesce(array_agg(id), '{}'), 'released') FROM (
                    SELECT id FROM csv_row_jobs WHERE claimed_by = $1 AND status IN ('claimed', 'processing') LIMIT 3) r
                """, [worker(&generator)])
        },
        Call("progress", weight: 2) { connection, generator in
            guard let batch = try any("csv_batches", connection, &generator) else { return }
            try connection.query("SELECT * FROM get_csv_batch_progress($1)", [batch])
        },
    ]

    private static let invariants: [RandomCalls.Invariant] = [
        .init(
            "counters are those of the rows",
            """
            SELECT b.id, b.status, b.total_rows, b.successful_rows, b.failed_rows, b.open_rows, r.*
            FROM csv_batches b LEFT JOIN (
                SELECT batch_id, count(*) AS rows, count(*) FILTER (WHERE status = 'completed') AS successful,
                    count(*) FILTER (WHERE status = 'failed') AS failed,
                    count(*) FILTER (WHERE status IN ('pending', 'claimed', 'processing')) AS open
                FROM csv_row_jobs GROUP BY batch_id) r ON r.batch_id = b.id
            WHERE b.successful_rows <> coalesce(r.successful, 0) OR b.failed_rows <> coalesce(r.failed, 0)
               OR b.open_rows <> coalesce(r.open, 0) OR b.total_rows < coalesce(r.rows, 0)
            """),
        .init(
            "no batch is completed with open rows, or begun in vain, or over and not completed",
            """
            SELECT b.id, b.status, b.total_rows, b.processed_rows FROM csv_batches b
            LEFT JOIN (
                SELECT batch_id, count(*) AS open, count(*) FILTER (WHERE status <> 'pending') AS held
                FROM csv_row_jobs WHERE status IN ('pending', 'claimed', 'processing') GROUP BY batch_id) r
                ON r.batch_id = b.id
            WHERE (b.status = 'completed' AND r.open > 0)
               OR (b.status IN ('queued', 'processing') AND r.open IS NULL AND b.processed_rows >= b.total_rows)
               OR (b.status = 'completed') <> (b.processing_completed_at IS NOT NULL) AND b.status <> 'cancelled'
            """),
        .init(
            "claims find each pending row",
            """
            SELECT r.id, r.row_number, b.first_pending_row FROM csv_row_jobs r JOIN csv_batches b ON b.id = r.batch_id
            WHERE r.status = 'pending' AND coalesce(b.first_pending_row > r.row_number, true)
            """),
        .init(
            "no row is both held and free, or done and claimable",
            """
            SELECT id, status, claimed_by, claimed_at, completed_at FROM csv_row_jobs
            WHERE (status = 'pending') <> (claimed_at IS NULL) AND status NOT IN ('completed', 'failed')
               OR (status IN ('completed', 'failed')) <> (completed_at IS NOT NULL)
            """),
        .init(
            "a result is that of the row's last claim",
            """
            SELECT id, status, claimed_by, claim_number, trigger_text FROM csv_row_jobs
            WHERE status = 'completed' AND trigger_text <> 'plain' AND trigger_text LIKE 'w%'
              AND trigger_text <> claimed_by || '/' || claim_number
            """),
        .init(
            "a dedicated worker holds rows of its batch only",
            """
            SELECT w.instance_id, w.batch_id, r.batch_id AS other FROM csv_processing_workers w
            LEFT JOIN csv_row_jobs r ON r.claimed_by = w.instance_id AND r.status IN ('claimed', 'processing')
            WHERE w.instance_id LIKE 'd-%' AND (w.batch_id IS NULL OR r.batch_id <> w.batch_id)
            """),
    ]

    @Test func `random calls keep the invariants, and afterwards every row can be worked off`() async throws {
        // Refused: rows for a batch that was deleted, the completion of what is open, a worker for a batch that was.
        var model = RandomCalls(schema: "csvbatch", calls: Self.calls, invariants: Self.invariants)
        model.refusals = ["23503", "23514", "22023", "23505"]
        try await model.run()
        try await TestDatabase.current.with { connection in
            try connection.execute("SET search_path = csvbatch")
            #expect(try Fixture.unproved(connection) == [])
            try connection.execute(
                """
                UPDATE csv_batches SET status = 'queued' WHERE status = 'cancelled';
                UPDATE csv_row_jobs SET claimed_at = now() - interval '1 hour' WHERE status IN ('claimed', 'processing');
                """)
            let held = "SELECT FROM csv_row_jobs WHERE status IN ('claimed', 'processing') LIMIT 1"
            repeat {
                while let claim = try Fixture.claim(connection, "last") {
                    #expect(try Fixture.store(connection, claim.job, "completed", worker: "last", number: claim.number))
                }
            } while try !connection.query(held).isEmpty
            let open = try connection.query(
                "SELECT id FROM csv_row_jobs WHERE status NOT IN ('completed', 'failed') LIMIT 5")
            #expect(open.isEmpty)
            #expect(try Fixture.unproved(connection) == [])
        }
    }
}

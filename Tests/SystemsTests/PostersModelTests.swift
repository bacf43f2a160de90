import Postgres
import TestSupport
import Testing

/// Random calls on posters by 20 connections: counters equal the posters, nothing completed is open.
@Suite(.database(.systems), .timeLimit(.minutes(60)))
struct PostersModelTests {
    /// Few batches, so that the connections meet. Those below 3 get their posters while they run.
    private static func batch(_ generator: inout SeededGenerator) -> String {
        "job_\(Int.random(in: 0..<8, using: &generator))"
    }

    /// A poster of the batch with one of the statuses.
    private static func poster(
        _ connection: isolated Connection, _ batch: String, _ statuses: String
    ) throws -> String? {
        try connection.query(
            """
            SELECT id::text FROM generated_posters
            WHERE job_id = $1 AND status = ANY ($2::job_status[]) ORDER BY random() LIMIT 1
            """, [batch, statuses]
        ).first?.get(0, as: String.self)
    }

    private static let calls: [RandomCalls.Call] = [
        .init("begin a batch", weight: 3) { connection, generator in
            let batch = Self.batch(&generator)
            let count = batch < "job_3" ? 0 : Int.random(in: 1...10, using: &generator)
            try connection.query(
                """
                WITH b AS (
                    INSERT INTO batch_jobs (job_id, total_items) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING job_id)
                INSERT INTO generated_posters (job_id, username) SELECT job_id, g FROM b, generate_series(1, $2) g
                """, [batch, count])
        },
        .init("stream posters", weight: 2) { connection, generator in
            // The lock keeps the batch from being deleted meanwhile.
            try connection.query(
                """
                WITH b AS (SELECT job_id FROM batch_jobs WHERE job_id = $1 FOR KEY SHARE)
                INSERT INTO generated_posters (job_id, username) SELECT job_id, g FROM b, generate_series(1, 3) g
                """, ["job_\(Int.random(in: 0..<3, using: &generator))"])
        },
        .init("claim", weight: 5) { connection, generator in
            try connection.query(
                """
                UPDATE generated_posters SET status = 'processing' WHERE id = (
                    SELECT id FROM generated_posters WHERE job_id = $1 AND status = 'pending'
                    LIMIT 1 FOR UPDATE SKIP LOCKED)
                """, [Self.batch(&generator)])
        },
        .init("give back") { connection, generator in
            try connection.query(
                """
                UPDATE generated_posters SET status = 'pending' WHERE id = (
                    SELECT id FROM generated_posters WHERE job_id = $1 AND status = 'processing'
                    LIMIT 1 FOR UPDATE SKIP LOCKED)
                """, [Self.batch(&generator)])
        },
        .init("complete", weight: 8) { connection, generator in
            let batch = Self.batch(&generator)
            guard let id = try Self.poster(connection, batch, "{pending,processing,failed}") else { return }
            try connection.query("SELECT finish_poster($1::uuid, 'completed', 'https://s3/x', 'x', 5)", [id])
        },
        .init("fail", weight: 3) { connection, generator in
            let batch = Self.batch(&generator)
            guard let id = try Self.poster(connection, batch, "{pending,processing,failed}") else { return }
            try connection.query(
                "SELECT finish_poster($1::uuid, 'failed', error_message => 'e', failure_type => 'timeout')", [id])
        },
        .init("record a failure") { connection, generator in
            let batch = Self.batch(&generator)
            guard let id = try Self.poster(connection, batch, "{failed}") else { return }
            try connection.query(
                "INSERT INTO poster_failure_details (job_id, poster_id) VALUES ($1, $2::uuid)", [batch, id])
        },
        .init("finish what is finished") { connection, generator in
            let batch = Self.batch(&generator)
            guard let id = try Self.poster(connection, batch, "{completed}") else { return }
            for outcome in ["completed", "failed"] {
                let row = try connection.query("SELECT finish_poster($1::uuid, $2::job_status)", [id, outcome]).first
                #expect(try row?.get(0, as: Bool.self) == false)
            }
        },
        .init("retry") { connection, generator in
            try connection.query("SELECT retry_failed_posters($1)", [Self.batch(&generator)])
        },
        .init("delete a batch") { connection, generator in
            try connection.query("SELECT delete_batch($1)", [Self.batch(&generator)])
        },
        .init("a late start") { connection, generator in
            try connection.query(
                "UPDATE batch_jobs SET status = 'processing', started_at = now() WHERE job_id = $1",
                [Self.batch(&generator)])
        },
        .init("take a poster back") { connection, generator in
            let batch = Self.batch(&generator)
            guard let id = try Self.poster(connection, batch, "{completed,pending}") else { return }
            // Not one that has failed meanwhile: retry_failed_posters also takes it out of the counters.
            try connection.query(
                "UPDATE generated_posters SET status = 'pending' WHERE id = $1::uuid AND status <> 'failed'", [id])
        },
        .init("count oneself", weight: 2) { connection, generator in
            let outcome = Bool.random(using: &generator) ? "success_count" : "failure_count"
            try connection.query(
                """
                INSERT INTO batch_jobs (job_id, processed_items, \(outcome)) VALUES ('own', 1, 1)
                ON CONFLICT (job_id) DO UPDATE SET processed_items = batch_jobs.processed_items + 1,
                    \(outcome) = batch_jobs.\(outcome) + 1
                """)
        },
        .init("log", weight: 2) { connection, generator in
            try connection.query("INSERT INTO job_logs (job_id, message) VALUES ($1, 'm')", [Self.batch(&generator)])
        },
        .init("page of jobs") { connection, _ in
            try connection.query("SELECT job_id, status FROM batch_jobs ORDER BY created_at DESC LIMIT 10")
        },
    ]

    private static let invariants: [RandomCalls.Invariant] = [
        .init(
            "the counters are those of the posters",
            """
            SELECT b.job_id, b.processed_items, b.success_count, b.failure_count, p.* FROM batch_jobs b, LATERAL (
                SELECT count(*) FILTER (WHERE status = 'completed') AS completed,
                    count(*) FILTER (WHERE status = 'failed') AS failed
                FROM generated_posters p WHERE p.job_id = b.job_id) p
            WHERE b.job_id <> 'own' AND (b.success_count, b.failure_count, b.processed_items)
                IS DISTINCT FROM (p.completed, p.failed, p.completed + p.failed)
            """),
        .init(
            "what is counted by hand adds up",
            "SELECT * FROM batch_jobs WHERE job_id = 'own' AND processed_items <> success_count + failure_count"),
        .init(
            "a batch is completed when its last poster is done, and not before",
            """
            SELECT b.job_id, b.status FROM batch_jobs b
            WHERE b.total_items > 0 AND (b.status = 'completed') <> (NOT EXISTS (
                SELECT FROM generated_posters p WHERE p.job_id = b.job_id AND p.status IN ('pending', 'processing')))
            """),
        .init(
            "a completed batch says when",
            "SELECT job_id FROM batch_jobs WHERE (status = 'completed') <> (completed_at IS NOT NULL)"),
        .init(
            "a result starts a batch",
            "SELECT job_id FROM batch_jobs WHERE processed_items > 0 AND job_id <> 'own' AND (status = 'pending' OR started_at IS NULL)"
        ),
        .init(
            "posters and failures go with their batch",
            """
            SELECT job_id FROM generated_posters p WHERE NOT EXISTS (SELECT FROM batch_jobs b WHERE b.job_id = p.job_id)
            UNION ALL SELECT job_id FROM poster_failure_details d
            WHERE NOT EXISTS (SELECT FROM generated_posters p WHERE p.id = d.poster_id)
            """),
    ]

    @Test func `random calls break nothing`() async throws {
        try await RandomCalls(
            schema: "posters", calls: Self.calls, invariants: Self.invariants,
            // 23503: a failure is recorded of a poster that has just been deleted.
            refusals: ["23514", "23503"]
        ).run()
    }
}

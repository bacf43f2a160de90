import Foundation
import Postgres
import TestSupport
import Testing

/// Claims and what identifies them, workers and what they are dedicated to, and arguments that are refused.
@Suite(.database(.systems), .timeLimit(.minutes(5)))
struct CSVBatchClaimTests {
    private typealias Fixture = CSVBatchFixture

    @Test func `a worker whose claim was taken away does not overwrite the new holder's result`() async throws {
        try await TestDatabase.current.with { connection in
            _ = try Fixture.batch(connection, rows: 1)
            let lost = try #require(try Fixture.claim(connection, "slow"))
            try connection.execute("UPDATE csv_row_jobs SET claimed_at = now() - interval '31 minutes'")
            let claim = try #require(try Fixture.claim(connection, "quick"))
            #expect(claim.job == lost.job)
            #expect(claim.number > lost.number)
            let stored = { (worker: String?, number: Int?, status: String) throws in
                try Fixture.store(connection, lost.job, status, worker: worker, number: number)
            }
            let row = { () throws -> String in
                try #require(
                    try connection.query("SELECT concat_ws(' ', status, claimed_by, trigger_text) FROM csv_row_jobs")
                        .first
                ).get(0)
            }
            for status in ["completed", "failed", "processing", "pending"] {
                #expect(try !stored("slow", lost.number, status))
                #expect(try !stored("slow", nil, status))
                #expect(try !stored(nil, lost.number, status))
                #expect(try row() == "claimed quick")
            }
            #expect(try stored("quick", claim.number, "processing"))
            #expect(try !stored("slow", lost.number, "completed"))
            #expect(try stored("quick", claim.number, "completed"))
            #expect(try row() == "completed quick quick/2")
            // A call whose answer was lost is repeated; it changes nothing.
            #expect(try stored("quick", claim.number, "completed"))
            #expect(try !stored("quick", claim.number, "failed"))
            #expect(try !stored("slow", lost.number, "completed"))
            #expect(try row() == "completed quick quick/2")
        }
    }

    @Test func `the result of a row that was given back is refused, and the row stays claimable`() async throws {
        try await TestDatabase.current.with { connection in
            _ = try Fixture.batch(connection, rows: 1)
            let claim = try #require(try Fixture.claim(connection, "w"))
            #expect(try Fixture.store(connection, claim.job, "pending", worker: "w", number: claim.number))
            #expect(try !Fixture.store(connection, claim.job, "completed", worker: "w", number: claim.number))
            #expect(try !Fixture.store(connection, claim.job, "completed"))
            // The same worker's next claim is another one.
            let next = try #require(try Fixture.claim(connection, "w"))
            #expect(try !Fixture.store(connection, claim.job, "completed", worker: "w", number: claim.number))
            #expect(try Fixture.store(connection, claim.job, "completed", worker: "w", number: next.number))
        }
    }

    @Test func `only rows that are held are released`() async throws {
        try await TestDatabase.current.with { connection in
            let batch = try Fixture.batch(connection, rows: 5)
            try connection.execute(
                """
                UPDATE csv_row_jobs SET status = (ARRAY['pending', 'claimed', 'processing', 'completed', 'failed'])[row_number];
                UPDATE csv_row_jobs SET claimed_at = now() - interval '1 minute' WHERE status = 'claimed';
                """)
            let released = try connection.query(
                "SELECT release_csv_row_jobs(array_agg(id), 'no more') FROM csv_row_jobs"
            ).first?.get(0, as: Int.self)
            #expect(released == 2)
            let rows = try connection.query(
                "SELECT status || retry_count || coalesce(error_message, '') FROM csv_row_jobs ORDER BY row_number")
            #expect(
                try rows.map { try $0.get(0, as: String.self) }
                    == ["pending0", "pending1no more", "pending1no more", "completed0", "failed0"])
            #expect(try Fixture.state(connection, batch) == "processing 2/1/1 of 5, 3 open")
        }
    }

    @Test func `a claim takes away only what is held too long, and only from its own batch or user`() async throws {
        try await TestDatabase.current.with { connection in
            let first = try Fixture.batch(connection, rows: 1)
            let second = try Fixture.batch(connection, rows: 1, user: Fixture.stranger)
            _ = try Fixture.claim(connection, "a")
            _ = try Fixture.claim(connection, "b")
            try connection.execute("UPDATE csv_row_jobs SET claimed_at = now() - interval '5 minutes'")
            #expect(try Fixture.claim(connection, "c", timeout: 6) == nil)
            #expect(try Fixture.claim(connection, "c", batch: second, timeout: 4)?.batch == second)
            try connection.execute("UPDATE csv_row_jobs SET claimed_at = now() - interval '5 minutes'")
            try connection.execute("SELECT update_csv_worker_heartbeat('d', user_id => '\(Fixture.owner)')")
            #expect(try Fixture.claim(connection, "d", timeout: 4)?.batch == first)
            let holders = try connection.query("SELECT claimed_by FROM csv_row_jobs ORDER BY 1")
            #expect(try holders.map { try $0.get(0, as: String.self) } == ["c", "d"])
        }
    }

    /// A user adds rows to the first batch in a transaction that stays open; a late worker reports a row of the second.
    @Test func `neither claims nor the clean-up wait for others' transactions`() async throws {
        let database = try TestDatabase.current
        let (first, second) = try await database.with { connection in
            let second = try Fixture.batch(connection, rows: 2)
            _ = try Fixture.claim(connection, "late")
            try connection.execute(
                "UPDATE csv_row_jobs SET claimed_at = now() - interval '1 hour' WHERE status = 'claimed'")
            let first = try Fixture.batch(connection, rows: 2)
            try connection.execute("UPDATE csv_batches SET created_at = now() - interval '1 day' WHERE id = '\(first)'")
            return (first, second)
        }
        try await database.connection { user in
            try await user.with { connection in
                try connection.execute("SET search_path = csvbatch; BEGIN")
                try Fixture.addRows(connection, to: first, 3...4)
            }
            try await database.connection { worker in
                try await worker.with { connection in
                    try connection.execute("BEGIN")
                    try connection.query("SELECT FROM csvbatch.csv_batches WHERE id = $1 FOR NO KEY UPDATE", [second])
                    try connection.query("SELECT FROM csvbatch.csv_row_jobs WHERE batch_id = $1 FOR UPDATE", [second])
                }
                try await database.with { connection in
                    try connection.execute(
                        "SET search_path = csvbatch; SET lock_timeout = '10s'; SELECT cleanup_stale_csv_workers()")
                    #expect(try Fixture.claim(connection, "w")?.batch == first)
                    #expect(try Fixture.state(connection, first) == "uploaded 0/0/0 of 2, 2 open")
                }
            }
            try await user.with { try $0.execute("COMMIT") }
        }
        try await database.with { connection in
            try connection.execute("SET search_path = csvbatch")
            // The row of the late worker.
            #expect(try Fixture.claim(connection, "w", batch: second)?.batch == second)
            #expect(try Fixture.claim(connection, "w")?.batch == first)
            #expect(try Fixture.state(connection, first) == "processing 0/0/0 of 4, 4 open")
            #expect(try Fixture.unproved(connection) == [])
        }
    }

    @Test func `an old snapshot does not empty the table of rows`() async throws {
        try await TestDatabase.current.with { connection in
            let error = #expect(throws: PostgresError.self) {
                try connection.transaction(TransactionOptions(isolation: .repeatableRead)) {
                    try connection.execute("TRUNCATE csvbatch.csv_row_jobs CASCADE")
                }
            }
            #expect(error?.sqlState == "25000" && error?.hint == "use READ COMMITTED")
        }
    }

    @Test func `a dedicated worker stays dedicated, whatever happens to its batch or to itself`() async throws {
        try await TestDatabase.current.with { connection in
            let other = try Fixture.batch(connection, rows: 9)
            let own = try Fixture.batch(connection, rows: 9)
            let heartbeat = { (arguments: String) throws -> Void in
                try connection.execute("SELECT update_csv_worker_heartbeat('w', \(arguments))")
            }
            try heartbeat("'idle', batch_id => '\(own)'")
            for step in ["'processing'", "'stopped'", "'idle'", "'idle', 0, 5, 1, 2.5"] {
                try heartbeat(step)
                #expect(try Fixture.claim(connection, "w")?.batch == own, "\(step)")
            }
            try connection.execute("UPDATE csv_processing_workers SET last_heartbeat = now() - interval '1 hour'")
            try connection.execute("SELECT cleanup_stale_csv_workers()")
            #expect(try Fixture.claim(connection, "w")?.batch == own)
            #expect(try Fixture.claim(connection, "w", batch: other) == nil)
            #expect(try Fixture.claim(connection, "w", batch: own)?.batch == own)
            try connection.query("DELETE FROM csv_batches WHERE id = $1", [own])
            #expect(try Fixture.claim(connection, "w") == nil)
            try heartbeat("'idle'")
            try heartbeat("'idle', batch_id => '\(own)'")
            #expect(try Fixture.claim(connection, "w") == nil)
            #expect(try Fixture.claim(connection, "w", batch: other) == nil)
            #expect(try Fixture.claim(connection, "global")?.batch == other)
            let error = #expect(throws: PostgresError.self) {
                try connection.execute("SELECT update_csv_worker_heartbeat('new', batch_id => '\(own)')")
            }
            #expect(error?.sqlState == "22023")
        }
    }

    @Test(arguments: [
        ("release_expired_csv_row_jobs(NULL, NULL, -60)", "22023"),
        ("release_expired_csv_row_jobs(NULL, NULL, NULL)", "22004"), ("advance_first_pending_csv_row(NULL)", "22004"),
        ("claim_next_csv_row_job(NULL)", "22004"), ("claim_next_csv_row_job('')", "22023"),
        ("claim_next_csv_row_job(repeat('w', 201))", "22023"),
        ("claim_next_csv_row_job('w', NULL, NULL)", "22004"), ("claim_next_csv_row_job('w', NULL, 0)", "22023"),
        ("claim_next_csv_row_job('w', NULL, -1)", "22023"), ("claim_next_csv_row_job('w', NULL, 10081)", "22023"),
        ("claim_next_csv_row_job('w', NULL, -2147483648)", "22023"),
        ("update_csv_row_job_result(NULL, 'completed')", "22004"),
        ("update_csv_row_job_result(gen_random_uuid(), NULL)", "22004"),
        ("update_csv_row_job_result(gen_random_uuid(), 'claimed')", "22023"),
        ("update_csv_row_job_result(gen_random_uuid(), 'done')", "22023"),
        ("update_csv_row_job_result(gen_random_uuid(), 'failed', processing_time_seconds => -1)", "22023"),
        ("update_csv_row_job_result(gen_random_uuid(), 'failed', processing_time_seconds => 'NaN')", "22023"),
        ("update_csv_row_job_result(gen_random_uuid(), 'failed', processing_time_seconds => 1e30)", "22023"),
        ("update_csv_row_job_result(gen_random_uuid(), 'failed', claim_number => 0)", "22023"),
        ("update_csv_worker_heartbeat(NULL)", "22004"), ("update_csv_worker_heartbeat('')", "22023"),
        ("update_csv_worker_heartbeat('w', NULL)", "22004"), ("update_csv_worker_heartbeat('w', 'asleep')", "22023"),
        ("update_csv_worker_heartbeat('w', current_job_count => -1)", "22023"),
        ("update_csv_worker_heartbeat('w', total_jobs_processed => -1)", "22023"),
        ("update_csv_worker_heartbeat('w', total_jobs_failed => -1)", "22023"),
        ("update_csv_worker_heartbeat('w', average_processing_seconds => 'NaN')", "22023"),
        ("update_csv_worker_heartbeat('w', average_processing_seconds => -0.1)", "22023"),
        ("update_csv_worker_heartbeat('w', max_concurrent_jobs => 0)", "22023"),
        ("update_csv_worker_heartbeat('w', max_concurrent_jobs => 1001)", "22023"),
        ("update_csv_worker_heartbeat('w', batch_id => gen_random_uuid())", "22023"),
        ("cleanup_stale_csv_workers(NULL)", "22004"), ("cleanup_stale_csv_workers(0)", "22023"),
        ("cleanup_stale_csv_workers(-5)", "22023"), ("cleanup_stale_csv_workers(10081)", "22023"),
        ("release_csv_row_jobs(NULL, 'r')", "22004"), ("release_csv_row_jobs(ARRAY[NULL]::uuid[], 'r')", "22004"),
        ("release_csv_row_jobs('{}', NULL)", "22004"), ("get_csv_batch_progress(NULL)", "22004"),
    ])
    func `absurd arguments are refused`(call: String, sqlState: String) async throws {
        try await TestDatabase.current.with { connection in
            try connection.execute("SET search_path = csvbatch")
            let error = #expect(throws: PostgresError.self) { try connection.execute("SELECT \(call)") }
            #expect(error?.sqlState == sqlState)
            #expect(error?.hint?.hasPrefix("it must be ") == true)
            if sqlState == "22004" { #expect(error?.message.hasSuffix(" is NULL") == true) }
        }
    }

    @Test(arguments: [
        "UPDATE csv_row_jobs SET processing_time_seconds = 'NaN'",
        "UPDATE csv_row_jobs SET processing_time_seconds = -1",
        "UPDATE csv_batches SET processing_rate_rows_per_minute = 'NaN'",
        "UPDATE csv_batches SET max_concurrent_jobs = 1001",
        "UPDATE csv_processing_workers SET average_processing_seconds = 'NaN'",
        "UPDATE csv_processing_workers SET max_concurrent_jobs = 1001",
    ])
    func `rows do not hold absurd values`(sql: String) async throws {
        try await TestDatabase.current.with { connection in
            _ = try Fixture.batch(connection, rows: 1)
            try connection.execute("SELECT update_csv_worker_heartbeat('w')")
            let error = #expect(throws: PostgresError.self) { try connection.execute(sql) }
            #expect(error?.sqlState == "23514")
        }
    }

    @Test func `a row that is held without a time, or from the future, is not held for ever`() async throws {
        try await TestDatabase.current.with { connection in
            _ = try Fixture.batch(connection, rows: 2)
            try connection.execute(
                """
                UPDATE csv_row_jobs SET status = 'processing', claimed_at = NULL WHERE row_number = 1;
                UPDATE csv_row_jobs SET status = 'claimed', claimed_at = 'infinity' WHERE row_number = 2;
                """)
            let fresh = try connection.query(
                "SELECT count(*) FROM csv_row_jobs WHERE claimed_at BETWEEN now() - interval '5 minutes' AND clock_timestamp()"
            )
            #expect(try fresh.first?.get(0, as: Int.self) == 2)
        }
    }

    /// A worker that holds a row stores its result while somebody deletes the batch.
    @Test(arguments: ["DELETE FROM csv_batches", "DELETE FROM csv_batches WHERE status <> 'completed'"])
    func `deleting a batch and working on it do not wait for each other in a circle`(deletion: String) async throws {
        let database = try TestDatabase.current
        try await database.with { _ = try Fixture.batch($0, rows: 3) }
        let worker = try await Connection.open(database.settings)
        let claim = try await worker.with { connection in
            try connection.execute("SET search_path = csvbatch; BEGIN")
            return try #require(try Fixture.claim(connection, "w"))
        }
        async let deleted: Void = database.with { try $0.execute("SET search_path = csvbatch; \(deletion)") }
        try await waitUntil("the deletion waits") { try await database.waitersForLocks() > 0 }
        try await worker.with { connection in
            #expect(try Fixture.store(connection, claim.job, "completed", worker: "w", number: claim.number))
            try connection.execute("SELECT update_csv_worker_heartbeat('w', batch_id => '\(claim.batch)'); COMMIT")
        }
        try await deleted
        await worker.close()
        let left: Int = try await database.value("SELECT count(*) FROM csvbatch.csv_batches")
        #expect(left == 0)
    }
}

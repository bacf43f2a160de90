import Foundation
import Postgres
import TestSupport
import Testing

/// Posters under workers: results, retries, statuses that do not go back, and what the tables refuse.
@Suite(.database(.systems), .timeLimit(.minutes(5)))
struct PostersWorkTests {
    private static let ids = (1...3).map { "00000000-0000-0000-0000-00000000000\($0)" }

    private func with<T: Sendable>(_ body: @Sendable (isolated Connection) throws -> T) async throws -> T {
        try await TestDatabase.current.with { connection in
            try connection.execute(
                """
                SET search_path = posters;
                INSERT INTO batch_jobs (job_id, total_items) VALUES ('b', 3) ON CONFLICT DO NOTHING;
                INSERT INTO generated_posters (id, job_id, user_identifier, username)
                SELECT ('00000000-0000-0000-0000-00000000000' || g)::uuid, 'b', 'id' || g, 'user' || g
                FROM generate_series(1, 3) g ON CONFLICT DO NOTHING;
                """)
            return try body(connection)
        }
    }

    /// The batch as `status total/processed/success/failure`, and whether it has been started and completed.
    private static let batch = """
        SELECT format('%s %s/%s/%s/%s', status, total_items, processed_items, success_count, failure_count)
            || CASE WHEN started_at IS NULL THEN '' ELSE ' started' END
            || CASE WHEN completed_at IS NULL THEN '' ELSE ' ended' END
        FROM batch_jobs WHERE job_id = 'b'
        """

    private static func batch(_ connection: isolated Connection) throws -> String? {
        try connection.query(Self.batch).first?.get(0, as: String.self)
    }

    private static func finish(_ number: Int, _ outcome: String, _ connection: isolated Connection) throws -> Bool? {
        try connection.query("SELECT finish_poster($1::uuid, $2::job_status)", [ids[number - 1], outcome]).first?
            .get(0, as: Bool.self)
    }

    @Test func `each result is counted once, and the last one completes the batch`() async throws {
        try await with { connection in
            #expect(try Self.finish(1, "completed", connection) == true)
            #expect(try Self.batch(connection) == "processing 3/1/1/0 started")
            #expect(try Self.finish(1, "completed", connection) == false)
            #expect(try Self.finish(1, "failed", connection) == false)
            let recorded = try connection.query(
                """
                SELECT finish_poster(id, 'failed', error_message => 'no answer', failure_type => 'timeout',
                    processing_time_ms => 30000, error_details => '{"after": 30}')
                FROM generated_posters WHERE username = 'user2'
                """
            ).first?.get(0, as: Bool.self)
            #expect(recorded == true)
            #expect(try Self.finish(2, "failed", connection) == false)
            #expect(try Self.batch(connection) == "processing 3/2/1/1 started")
            #expect(try Self.finish(3, "completed", connection) == true)
            #expect(try Self.batch(connection) == "completed 3/3/2/1 started ended")
            let failure = try connection.query(
                """
                SELECT concat_ws(' ', d.job_id, d.user_identifier, d.username, d.failure_type, d.error_message,
                    d.error_details, d.retry_count, p.status, p.error_message, p.processing_time_ms)
                FROM poster_failure_details d JOIN generated_posters p ON p.id = d.poster_id
                """)
            #expect(
                try failure.map { try $0.get(0, as: String.self) } == [
                    "b id2 user2 timeout no answer {\"after\": 30} 0 failed no answer 30000"
                ])
            // A late good result of a poster that was given up.
            #expect(try Self.finish(2, "completed", connection) == true)
            #expect(try Self.batch(connection) == "completed 3/3/3/0 started ended")
        }
    }

    @Test func `a batch with an open poster or an unknown total is not completed by a result`() async throws {
        try await with { connection in
            try connection.execute("UPDATE batch_jobs SET total_items = 2")
            for number in 1...2 { _ = try Self.finish(number, "completed", connection) }
            #expect(try Self.batch(connection) == "processing 2/2/2/0 started")
            _ = try Self.finish(3, "completed", connection)
            #expect(try Self.batch(connection) == "completed 2/3/3/0 started ended")

            try connection.execute(
                """
                INSERT INTO batch_jobs (job_id) VALUES ('stream');
                INSERT INTO generated_posters (job_id) VALUES ('stream');
                """)
            let status = try connection.query(
                """
                WITH done AS MATERIALIZED (
                    SELECT finish_poster(id, 'completed') FROM generated_posters WHERE job_id = 'stream')
                SELECT count(*) FROM done
                """)
            #expect(status.count == 1)
            let stream = try connection.query("SELECT status::text FROM batch_jobs WHERE job_id = 'stream'").first
            #expect(try stream?.get(0, as: String.self) == "processing")
        }
    }

    @Test func `a poster without a batch is finished all the same, and one that is gone is not`() async throws {
        try await with { connection in
            try connection.execute("DELETE FROM batch_jobs")
            #expect(try Self.finish(1, "completed", connection) == true)
            try connection.execute("DELETE FROM generated_posters")
            #expect(try Self.finish(2, "completed", connection) == false)
        }
    }

    @Test func `what failed is tried again, and what is completed stays so`() async throws {
        try await with { connection in
            _ = try Self.finish(1, "completed", connection)
            for number in 2...3 {
                try connection.query(
                    "SELECT finish_poster($1::uuid, 'failed', failure_type => 'api_error')", [Self.ids[number - 1]])
            }
            #expect(try Self.batch(connection) == "completed 3/3/1/2 started ended")
            let late = #expect(throws: PostgresError.self) {
                try connection.execute("UPDATE batch_jobs SET status = 'processing', started_at = now()")
            }
            #expect(late?.sqlState == "23514" && late?.hint?.contains("retry_failed_posters") == true)
            #expect(throws: PostgresError.self) {
                try connection.execute("UPDATE batch_jobs SET status = 'failed', completed_at = NULL")
            }
            #expect(try connection.query("SELECT retry_failed_posters('b')").first?.get(0, as: Int.self) == 2)
            #expect(try Self.batch(connection) == "processing 3/1/1/0 started")
            #expect(try connection.query("SELECT retry_failed_posters('b')").first?.get(0, as: Int.self) == 0)
            let retries = try connection.query(
                "SELECT array_agg(DISTINCT retry_count)::text FROM poster_failure_details")
            #expect(try retries.first?.get(0, as: String.self) == "{1}")
            for number in 2...3 { _ = try Self.finish(number, "completed", connection) }
            #expect(try Self.batch(connection) == "completed 3/3/3/0 started ended")
            let back = #expect(throws: PostgresError.self) {
                try connection.execute("UPDATE generated_posters SET status = 'pending'")
            }
            #expect(back?.sqlState == "23514" && back?.hint != nil)
            #expect(try connection.query("SELECT retry_failed_posters('b')").first?.get(0, as: Int.self) == 0)
            #expect(try Self.batch(connection) == "completed 3/3/3/0 started ended")
            // Who means to open it says so.
            try connection.execute("UPDATE batch_jobs SET status = 'processing', completed_at = NULL")
        }
    }

    /// The application records what it counts itself: whole values, in any order, with fewer or more posters than
    /// items.
    @Test func `an application that counts itself is not in the way`() async throws {
        try await with { connection in
            try connection.execute(
                """
                UPDATE batch_jobs SET status = 'processing', started_at = now();
                UPDATE batch_jobs SET status = 'processing', processed_items = 157, success_count = 0, failure_count = 2;
                UPDATE generated_posters SET status = 'processing';
                UPDATE generated_posters SET status = 'pending';
                UPDATE generated_posters SET status = 'failed';
                UPDATE generated_posters SET status = 'completed', processing_time_ms = 0;
                UPDATE generated_posters SET status = 'completed', metadata = NULL;
                UPDATE batch_jobs SET status = 'failed', completed_at = now();
                UPDATE batch_jobs SET status = 'processing';
                UPDATE batch_jobs SET status = 'completed', completed_at = now(), total_items = 0, success_count = 155;
                UPDATE batch_jobs SET status = 'completed', completed_at = now();
                INSERT INTO job_logs (job_id, message) VALUES ('system', 'started');
                """)
            #expect(try Self.batch(connection) == "completed 0/157/155/2 started ended")
        }
    }

    @Test func `a batch is deleted with all that belongs to it`() async throws {
        try await with { connection in
            try connection.execute(
                """
                SELECT finish_poster(id, 'failed', failure_type => 'timeout') FROM generated_posters ORDER BY id;
                INSERT INTO poster_failure_details (job_id, username) VALUES ('b', 'without a poster');
                INSERT INTO job_logs (job_id, message) VALUES ('b', 'm'), ('other', 'm');
                INSERT INTO generated_posters (job_id) VALUES ('other');
                """)
            #expect(try connection.query("SELECT delete_batch('b')").first?.get(0, as: Bool.self) == true)
            let left = try connection.query(
                """
                SELECT format('%s %s %s %s', (SELECT count(*) FROM batch_jobs), (SELECT count(*) FROM generated_posters),
                    (SELECT count(*) FROM job_logs), (SELECT count(*) FROM poster_failure_details))
                """
            ).first
            #expect(try left?.get(0, as: String.self) == "0 1 1 0")
            #expect(try connection.query("SELECT delete_batch('b')").first?.get(0, as: Bool.self) == false)
        }
    }

    @Test(arguments: [
        ("finish_poster(NULL, 'completed')", "22004"), ("finish_poster(gen_random_uuid(), NULL)", "22004"),
        ("finish_poster(gen_random_uuid(), 'pending')", "22023"),
        ("finish_poster(gen_random_uuid(), 'processing')", "22023"),
        ("finish_poster(gen_random_uuid(), 'completed', processing_time_ms => -1)", "22023"),
        ("finish_poster(gen_random_uuid(), 'completed', repeat('x', 501))", "22023"),
        ("finish_poster(gen_random_uuid(), 'completed', s3_key => repeat('x', 501))", "22023"),
        ("finish_poster(gen_random_uuid(), 'completed', failure_type => 'timeout')", "22023"),
        ("finish_poster(gen_random_uuid(), 'failed', failure_type => repeat('x', 101))", "22023"),
        ("finish_poster(gen_random_uuid(), 'failed', error_details => '[]')", "22023"),
        ("retry_failed_posters(NULL)", "22004"), ("delete_batch(NULL)", "22004"),
    ])
    func `an absurd argument is refused with what is allowed`(call: String, state: String) async throws {
        try await with { connection in
            let error = #expect(throws: PostgresError.self) { try connection.query("SELECT \(call)") }
            #expect(error?.sqlState == state && error?.hint?.hasPrefix("it must ") == true)
        }
    }

    @Test(arguments: [
        "INSERT INTO batch_jobs (job_id, total_items) VALUES ('x', -1)",
        "INSERT INTO batch_jobs (job_id, metadata) VALUES ('x', '[]')",
        "UPDATE batch_jobs SET processed_items = -1", "UPDATE batch_jobs SET success_count = -1",
        "UPDATE batch_jobs SET failure_count = -1", "UPDATE batch_jobs SET failure_count = NULL",
        "UPDATE batch_jobs SET status = NULL", "UPDATE generated_posters SET status = NULL",
        "UPDATE generated_posters SET metadata = '\"{}\"'", "UPDATE generated_posters SET processing_time_ms = -1",
        "INSERT INTO job_logs (job_id, message, details) VALUES ('b', 'm', '[1]')",
        "INSERT INTO poster_failure_details (job_id, error_details) VALUES ('b', '1')",
        "INSERT INTO poster_failure_details (job_id, retry_count) VALUES ('b', -1)",
    ])
    func `a row that makes no sense is refused`(statement: String) async throws {
        try await with { connection in
            let error = #expect(throws: PostgresError.self) { try connection.execute(statement) }
            #expect(["23514", "23502"].contains(error?.sqlState))
        }
    }

    /// 20 connections, each result offered twice.
    @Test func `twenty workers lose and double no result`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            """
            SET search_path = posters;
            INSERT INTO batch_jobs (job_id, total_items) VALUES ('many', 400);
            INSERT INTO generated_posters (job_id, username) SELECT 'many', g FROM generate_series(1, 400) g
            """)
        try await withThrowingTaskGroup(of: Int.self) { group in
            for worker in 0..<20 {
                group.addTask {
                    try await database.with { connection in
                        var recorded = 0
                        for number in 0..<40 {
                            let row = try connection.query(
                                """
                                SELECT posters.finish_poster(id,
                                    CASE WHEN username::int % 10 = 0 THEN 'failed' ELSE 'completed' END::posters.job_status)
                                FROM posters.generated_posters WHERE job_id = 'many' AND username = $1
                                """, ["\((worker / 2) * 40 + number + 1)"])
                            if try row.first?.get(0, as: Bool.self) == true { recorded += 1 }
                        }
                        return recorded
                    }
                }
            }
            var recorded = 0
            for try await count in group { recorded += count }
            #expect(recorded == 400)
        }
        let batch: String = try await database.value(
            """
            SELECT format('%s %s/%s/%s', status, processed_items, success_count, failure_count)
            FROM posters.batch_jobs WHERE job_id = 'many'
            """)
        #expect(batch == "completed 400/360/40")
    }

    /// The second call waits for the first one, and then at a log, until the next batch of this name is there.
    @Test func `two calls that delete a batch leave the next one of its name alone`() async throws {
        _ = try await with { try $0.execute("SELECT delete_batch('none')") }
        let database = try TestDatabase.current
        try await database.connection { first in
            try await first.with {
                try $0.execute("SET search_path = posters; BEGIN; SELECT delete_batch('b')")
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    try await database.execute("SET search_path = posters; SELECT delete_batch('b')")
                }
                try await waitUntil("it waits for the batch") { try await database.waitersForLocks() == 1 }
                try await database.connection { holder in
                    try await holder.with {
                        try $0.execute("INSERT INTO posters.job_logs (job_id, message) VALUES ('b', 'm')")
                        try $0.execute("BEGIN; SELECT FROM posters.job_logs FOR UPDATE")
                    }
                    try await first.with { try $0.execute("COMMIT") }
                    let pid = try await holder.value("SELECT pg_backend_pid()", as: Int.self)
                    let waits = "SELECT count(*) FROM pg_stat_activity WHERE \(pid) = ANY (pg_blocking_pids(pid))"
                    try await waitUntil("it waits for the log") { try await database.value(waits, as: Int.self) == 1 }
                    try await database.execute(
                        """
                        SET search_path = posters;
                        INSERT INTO batch_jobs (job_id, total_items) VALUES ('b', 2);
                        INSERT INTO generated_posters (job_id) VALUES ('b'), ('b');
                        """)
                    try await holder.with { try $0.execute("COMMIT") }
                }
                try await group.waitForAll()
            }
        }
        try await database.with { connection in
            let left = try connection.query(
                """
                SELECT format('%s %s %s', (SELECT count(*) FROM posters.batch_jobs),
                    (SELECT count(*) FROM posters.generated_posters), (SELECT count(*) FROM posters.job_logs))
                """
            ).first
            #expect(try left?.get(0, as: String.self) == "1 2 0")
        }
    }

    /// The batch is locked before its posters: who holds the batch does not wait for one who waits for it.
    @Test(arguments: [
        "SELECT finish_poster('00000000-0000-0000-0000-000000000001', 'completed')",
        "SELECT retry_failed_posters('b')", "SELECT delete_batch('b')",
    ])
    func `locks are taken in one order`(call: String) async throws {
        try await with { connection in
            _ = try connection.execute(
                "UPDATE generated_posters SET status = 'failed' WHERE id = '00000000-0000-0000-0000-000000000001'")
        }
        let database = try TestDatabase.current
        try await database.connection { holder in
            try await holder.with { connection in
                try connection.execute(
                    """
                    SET search_path = posters; SET lock_timeout = '60s'; BEGIN;
                    SELECT FROM batch_jobs WHERE job_id = 'b' FOR UPDATE
                    """)
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    try await database.with { connection in
                        try connection.execute("SET search_path = posters; SET deadlock_timeout = '100ms'")
                        try connection.query(call)
                    }
                }
                try await waitUntil("it waits for the batch") { try await database.waitersForLocks() == 1 }
                try await holder.with { connection in
                    try connection.execute("UPDATE generated_posters SET display_name = 'd'; COMMIT")
                }
                try await group.waitForAll()
            }
        }
    }

    @Test func `identifiers are made whatever the search path is`() async throws {
        try await TestDatabase.current.with { connection in
            try connection.execute("SET search_path = pg_catalog")
            for table in ["batch_jobs", "generated_posters", "poster_failure_details"] {
                let made = try connection.query(
                    "INSERT INTO posters.\(table) (job_id) VALUES ('x') RETURNING id IS NOT NULL")
                #expect(try made.first?.get(0, as: Bool.self) == true)
            }
            _ = try connection.query("SELECT posters.finish_poster(id, 'completed') FROM posters.generated_posters")
            _ = try connection.query("SELECT posters.delete_batch('x')")
        }
    }

    @Test func `nobody but the owner executes what changes something`() async throws {
        #expect(
            try await ExecuteRights.lines(schema: "posters") == [
                "delete_batch(job_id text): nobody",
                "finish_poster(poster_id uuid, outcome posters.job_status, poster_url text, s3_key text, processing_time_ms "
                    + "integer, error_message text, failure_type text, error_details jsonb): nobody",
                "require_argument(is_allowed boolean, name text, value text, allowed text): PUBLIC",
                "retry_failed_posters(job_id text): nobody",
            ])
        #expect(try await ExecuteRights.careless(schema: "posters") == [])
    }

    @Test func `a worker needs no more than the functions that it was granted and the tables`() async throws {
        try await with { connection in
            try connection.execute(
                """
                GRANT USAGE ON SCHEMA posters TO service_account;
                GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA posters TO service_account;
                SET ROLE service_account
                """)
            let refused = #expect(throws: PostgresError.self) { _ = try Self.finish(1, "completed", connection) }
            #expect(refused?.sqlState == "42501")
            try connection.execute(
                """
                RESET ROLE; SET search_path = posters;
                GRANT EXECUTE ON FUNCTION finish_poster TO service_account; SET ROLE service_account
                """)
            #expect(try Self.finish(1, "completed", connection) == true)
        }
    }
}

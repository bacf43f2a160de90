import Foundation
import Postgres
import TestSupport
import Testing

@Suite(.database(.systems), .timeLimit(.minutes(2)))
struct PostersTests {
    private func with<T: Sendable>(_ body: @Sendable (isolated Connection) throws -> T) async throws -> T {
        try await TestDatabase.current.with { connection in
            try connection.execute("SET search_path = posters, extensions")
            try connection.execute(
                """
                INSERT INTO batch_jobs (job_id, campaign_name, status, total_items, success_count, failure_count, started_at, completed_at)
                VALUES ('job_a926e02f7e5a', 'Q1 Marketing Campaign', 'completed', 157, 155, 2, now() - interval '343 s', now());
                INSERT INTO generated_posters (job_id, username, status, poster_url, metadata) VALUES
                    ('job_a926e02f7e5a', 'phase', 'completed', 'https://s3/phase.png',
                     '{"user_id": 1058727, "display_name": "Phase", "profile_pic": "https://p", "fetched_from_api": true}'),
                    ('job_a926e02f7e5a', 'nobody', 'completed', 'https://s3/nobody.png', '{}'),
                    ('job_a926e02f7e5a', 'broken', 'failed', NULL, '{}');
                """)
            return try body(connection)
        }
    }

    @Test func `the defaults are those of the specification`() async throws {
        try await with { connection in
            let poster = try #require(
                try connection.query(
                    "INSERT INTO generated_posters (job_id) VALUES ('j') RETURNING status::text, metadata, created_at IS NOT NULL, id IS NOT NULL"
                ).first)
            #expect(try poster.get(0, as: String.self) == "pending")
            #expect(try poster.get(1, as: String.self) == "{}")
            let log = try #require(
                try connection.query(
                    "INSERT INTO job_logs (job_id, message) VALUES ('j', 'm') RETURNING level::text, details::text"
                ).first)
            #expect(try log.get(0, as: String.self) == "INFO")
            let job = try #require(
                try connection.query(
                    "INSERT INTO batch_jobs (job_id) VALUES ('k') RETURNING total_items + processed_items + success_count + failure_count"
                ).first)
            #expect(try job.get(0, as: Int.self) == 0)
            #expect(throws: PostgresError.self) {
                _ = try connection.execute("INSERT INTO batch_jobs (job_id) VALUES ('k')")
            }
            #expect(throws: PostgresError.self) {
                _ = try connection.execute("INSERT INTO job_logs (job_id) VALUES ('k')")
            }
        }
    }

    @Test func `the labels stand in their order`() async throws {
        try await with { connection in
            let job = try connection.query("SELECT enum_range(NULL::job_status)::text").first?.get(0, as: String.self)
            #expect(job == "{pending,processing,completed,failed}")
            let level = try connection.query("SELECT enum_range(NULL::log_level)::text").first?.get(0, as: String.self)
            #expect(level == "{DEBUG,INFO,WARNING,ERROR,CRITICAL}")
        }
    }

    @Test func `posters with and without a user are told apart`() async throws {
        try await with { connection in
            let with = try connection.query(
                """
                SELECT username, poster_url, metadata->>'user_id' as user_id, metadata->>'display_name' as display_name
                FROM generated_posters
                WHERE job_id = 'job_a926e02f7e5a' AND status = 'completed' AND metadata ? 'user_id'
                """)
            #expect(try with.map { try $0.get("user_id", as: String.self) } == ["1058727"])
            let without = try connection.query(
                "SELECT username FROM generated_posters WHERE job_id = 'job_a926e02f7e5a' AND status = 'completed' AND NOT (metadata ? 'user_id')"
            )
            #expect(try without.map { try $0.get(0, as: String.self) } == ["nobody"])
            let fetched = try connection.query(
                "SELECT username, metadata->>'fetched_from_api' FROM generated_posters WHERE metadata ? 'fetched_from_api'"
            )
            #expect(try fetched.map { try $0.get(1, as: String.self) } == ["true"])
        }
    }

    @Test func `a job's statistics are its rate and duration, and a job of nothing has no rate`() async throws {
        try await with { connection in
            try connection.execute("INSERT INTO batch_jobs (job_id) VALUES ('empty')")
            let rows = try connection.query(
                """
                SELECT (success_count::float / NULLIF(total_items, 0) * 100) as success_rate,
                       completed_at - started_at as processing_duration
                FROM batch_jobs ORDER BY job_id
                """)
            #expect(try rows[0].get(0, as: Double?.self) == nil || rows[1].get(0, as: Double?.self) == nil)
            let rate = try connection.query(
                "SELECT success_count::float / NULLIF(total_items, 0) * 100 FROM batch_jobs WHERE job_id = 'job_a926e02f7e5a'"
            )
            #expect(abs(try rate[0].get(0, as: Double.self) - 98.726) < 0.01)
        }
    }

    @Test func `a failure belongs to a poster, and updated_at follows a change`() async throws {
        try await with { connection in
            #expect(throws: PostgresError.self) {
                _ = try connection.execute(
                    "INSERT INTO poster_failure_details (job_id, poster_id) VALUES ('j', gen_random_uuid())")
            }
            let changed = try connection.query(
                """
                UPDATE generated_posters SET updated_at = '2000-01-01', username = username
                WHERE username = 'phase' RETURNING updated_at > now() - interval '1 hour'
                """
            ).first
            #expect(try changed?.get(0, as: Bool.self) == true)
        }
    }
}

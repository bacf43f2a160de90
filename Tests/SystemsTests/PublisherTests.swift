import Foundation
import Postgres
import TestSupport
import Testing

@Suite(.database(.systems), .timeLimit(.minutes(2)))
struct PublisherTests {
    private func with<T: Sendable>(_ body: @Sendable (isolated Connection) throws -> T) async throws -> T {
        try await TestDatabase.current.with { connection in
            try connection.execute(
                """
                SET search_path = publisher;
                INSERT INTO posts (reddit_post_id, title, subreddit, created_ts) VALUES ('a', 'A', 'webdev', now());
                """)
            return try body(connection)
        }
    }

    @Test func `a post is collected once and published once`() async throws {
        try await with { connection in
            let again = #expect(throws: PostgresError.self) {
                try connection.execute(
                    "INSERT INTO posts (reddit_post_id, title, subreddit, created_ts) VALUES ('a', 'B', 's', now())")
            }
            #expect(again?.sqlState == "23505")
            try connection.execute(
                """
                INSERT INTO posts (reddit_post_id, title, subreddit, created_ts) VALUES ('b', 'B', 's', now()), ('c', 'C', 's', now());
                UPDATE posts SET ghost_post_id = 'g1' WHERE reddit_post_id = 'a';
                """)
            let twice = #expect(throws: PostgresError.self) {
                try connection.execute("UPDATE posts SET ghost_post_id = 'g1' WHERE reddit_post_id = 'b'")
            }
            #expect(twice?.constraint == "uq_posts_ghost_post_id")
            let unpublished = try connection.query("SELECT count(*) FROM posts WHERE ghost_post_id IS NULL").first
            #expect(try unpublished?.get(0, as: Int.self) == 2)
        }
    }

    @Test func `the takedown has two stages and no others`() async throws {
        try await with { connection in
            #expect(
                try connection.query("SELECT takedown_status FROM posts").first?.get(0, as: String.self) == "active")
            for status in ["takedown_pending", "removed"] {
                try connection.query("UPDATE posts SET takedown_status = $1", [status])
            }
            #expect(throws: PostgresError.self) {
                _ = try connection.execute("UPDATE posts SET takedown_status = 'gone'")
            }
        }
    }

    @Test func `updated_at follows a change`() async throws {
        try await with { connection in
            let changed = try connection.query(
                "UPDATE posts SET updated_at = '2000-01-01', score = 5 RETURNING updated_at > now() - interval '1 hour'"
            ).first
            #expect(try changed?.get(0, as: Bool.self) == true)
        }
    }

    @Test func `what belongs to a post goes with it`() async throws {
        try await with { connection in
            try connection.execute(
                """
                INSERT INTO media_files (post_id, original_url) SELECT id, 'u' FROM posts;
                INSERT INTO processing_logs (post_id, service_name, status) SELECT id, 's', 'ok' FROM posts;
                INSERT INTO token_usage (post_id, service, model, cost_usd) SELECT id, 's', 'm', 0.123456 FROM posts;
                """)
            let cost = try connection.query("SELECT cost_usd, input_tokens FROM token_usage").first
            #expect(try cost?.get(0, as: String.self) == "0.123456")
            try connection.execute("DELETE FROM posts")
            let left = try connection.query(
                "SELECT (SELECT count(*) FROM media_files) + (SELECT count(*) FROM processing_logs) + (SELECT count(*) FROM token_usage)"
            ).first
            #expect(try left?.get(0, as: Int.self) == 0)
        }
    }

    @Test func `the indexes of the specification are there`() async throws {
        let names: [String] = try await TestDatabase.current.value(
            "SELECT array_agg(indexname::text) FROM pg_indexes WHERE schemaname = 'publisher'")
        for name in [
            "idx_posts_reddit_post_id", "uq_posts_ghost_post_id", "idx_posts_created_ts", "idx_posts_subreddit",
            "idx_processing_logs_post_id", "idx_token_usage_created_at",
        ] {
            #expect(names.contains(name))
        }
    }
}
